"""The live picture fits the numbers, at every size."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from unhang.cli.live import BAR_WIDTH, LiveTable, bar
from unhang.monitor.sample import Sample
from unit.monitor.monitor_data import at, sample, server

counts = st.integers(0, 10_000)


@given(counts, counts, counts)
def test_the_bar_keeps_its_width_and_shows_even_a_single_session(
    active: int, idle: int, held: int
) -> None:
    seen = server(
        active=active, sleepers=idle + held, idle_in_transaction=held, max_connections=500
    )
    shown = bar(seen).plain
    assert BAR_WIDTH - 4 <= len(shown) <= BAR_WIDTH + 4
    for count, letter in ((active, "A"), (idle, "s"), (held, "T")):
        assert (letter in shown) == (count > 0)


def test_a_gap_shows_its_reason_and_the_table_goes_on() -> None:
    table = LiveTable()
    for taken in (sample(0), Sample(at(1), gap="1040: Too many connections"), sample(2)):
        table.add(taken)
    console = Console(width=140)
    with console.capture() as shown:
        console.print(table.render())
    assert "1040: Too many connections" in shown.get()


def test_unknown_is_a_question_mark_and_never_zero() -> None:
    table = LiveTable()
    table.add(sample(0))
    table.add(replace(sample(1), server=server(idle_in_transaction=None)))
    assert "in trx ?" in table.line()
