"""What is learned about statements, and how it is forgotten."""

from __future__ import annotations

from itertools import count, islice

import pytest

from support.fake_driver import Clock
from unhang.lanes.ledger import FORGET_SECONDS, Entry, Ledger, is_cut, known
from unhang.lanes.table import ENTRIES, TEXT_BYTES, Table, key_of
from unhang.shape import shape_of

TEXT = "SELECT a FROM t WHERE b = %s"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    return Ledger(Table(None), 1.0, clock)


def table_of(ledger: Ledger) -> Table:
    return ledger._table


def same_place(number: int) -> list[str]:
    """Statements that the table would keep in the same place."""
    texts = (f"SELECT c{n} FROM t" for n in count())
    return list(islice((t for t in texts if key_of(shape_of(t)) % ENTRIES == 5), number))


def test_a_stranger_is_neither_slow_nor_proven(ledger: Ledger) -> None:
    entry = ledger.entry_of(TEXT)
    assert ledger.is_unknown(entry)
    assert not ledger.is_slow(entry)
    assert not ledger.is_proven(entry)
    assert not ledger.is_proven(entry)


def test_one_fast_run_proves_a_stranger(ledger: Ledger) -> None:
    entry = ledger.entry_of(TEXT)
    ledger.was_fast(entry)
    assert ledger.is_proven(entry)
    assert ledger.is_proven(entry)
    assert not ledger.is_unknown(entry)


def test_one_overrun_makes_a_stranger_slow(ledger: Ledger) -> None:
    entry = ledger.entry_of(TEXT)
    assert ledger.overran(entry)
    assert ledger.is_slow(entry)
    assert not ledger.overran(entry), "it was known before"
    assert ledger.learned == 1


def overruns(ledger: Ledger, clock: Clock, entry: Entry, times: int) -> list[bool]:
    found = []
    for _ in range(times):
        found.append(ledger.overran(entry))
        clock.now += ledger.threshold
    return found


def test_a_proven_one_needs_three_overruns_in_a_row(ledger: Ledger, clock: Clock) -> None:
    entry = ledger.entry_of(TEXT)
    ledger.was_fast(entry)
    assert overruns(ledger, clock, entry, 3) == [False, False, True]
    assert ledger.is_slow(entry)


def test_one_stall_counts_once_however_many_it_holds_up(ledger: Ledger) -> None:
    entry = ledger.entry_of(TEXT)
    ledger.was_fast(entry)
    assert not any(ledger.overran(entry) for _ in range(40))
    assert not ledger.is_slow(entry)


def test_a_hiccup_now_and_then_condemns_nothing(ledger: Ledger) -> None:
    entry = ledger.entry_of(TEXT)
    ledger.was_fast(entry)
    for _ in range(20):
        assert not ledger.overran(entry)
        for _ in range(20):
            ledger.was_fast(entry)
        assert not ledger.is_slow(entry)
        assert ledger.is_proven(entry), "fast again and again is as good as always fast"


def test_three_fast_runs_take_it_back(ledger: Ledger) -> None:
    entry = ledger.entry_of(TEXT)
    for _ in range(30):
        ledger.overran(entry)
    ledger.was_fast(entry)
    ledger.was_fast(entry)
    assert ledger.is_slow(entry)
    ledger.was_fast(entry)
    assert not ledger.is_slow(entry)
    assert ledger.forgotten == 1


def test_values_and_spaces_make_no_other_statement(ledger: Ledger) -> None:
    ledger.overran(ledger.entry_of("SELECT a FROM t WHERE b = 1"))
    assert ledger.is_slow(ledger.entry_of("SELECT a  FROM t WHERE b = 222"))
    assert ledger.is_slow(ledger.entry_of(b"SELECT a FROM t WHERE b = 'x'"))
    assert not ledger.is_slow(ledger.entry_of("SELECT b FROM t WHERE b = 1"))


def test_what_one_learns_another_with_the_same_table_knows_at_once(clock: Clock) -> None:
    table = Table(None)
    one, other = Ledger(table, 1.0, clock), Ledger(table, 1.0, clock)
    mine, yours = one.entry_of(TEXT), other.entry_of(TEXT)
    one.overran(mine)
    assert other.is_slow(yours)
    for _ in range(3):
        other.was_fast(yours)
    assert not one.is_slow(mine)


@pytest.mark.parametrize("is_remembered", [True, False])
def test_a_slow_one_that_nobody_ran_for_an_hour_is_a_stranger_again(
    ledger: Ledger, clock: Clock, is_remembered: bool
) -> None:
    """In the process that knew it as in one that sees its text for the first time."""
    ledger.overran(ledger.entry_of(TEXT))
    clock.now += FORGET_SECONDS - 1
    assert ledger.is_slow(ledger.entry_of(TEXT))
    clock.now += 1
    text = TEXT if is_remembered else TEXT + " /* other */"
    assert not ledger.is_slow(ledger.entry_of(text))
    assert ledger.is_unknown(ledger.entry_of(text))


def test_a_fast_one_that_runs_again_after_an_hour_is_still_fast(
    ledger: Ledger, clock: Clock
) -> None:
    entry = ledger.entry_of(TEXT)
    ledger.was_fast(entry)
    clock.now += FORGET_SECONDS
    ledger.was_fast(entry)
    assert ledger.is_proven(entry)


def test_what_runs_is_not_forgotten(ledger: Ledger, clock: Clock) -> None:
    entry = ledger.entry_of(TEXT)
    ledger.was_fast(entry)
    for _ in range(4):
        clock.now += FORGET_SECONDS / 2
        ledger.note(entry, clock.now)
        assert ledger.is_proven(entry)


def test_runs_are_counted_once_a_second_and_slow_ones_always(ledger: Ledger, clock: Clock) -> None:
    entry = ledger.entry_of(TEXT)
    for _ in range(50):
        ledger.was_fast(entry)
        ledger.note(entry, clock.now)
    clock.now += 1
    ledger.note(entry, clock.now)
    ledger.overran(entry)
    ledger.overran(entry)
    (found,) = known(table_of(ledger), clock.now)
    assert (found.runs, found.slow_runs) == (4, 2)


def test_the_mean_is_of_slow_runs_and_never_below_the_threshold(
    ledger: Ledger, clock: Clock
) -> None:
    entry = ledger.entry_of(TEXT)
    assert ledger.mean_seconds(entry) == 1.0
    ledger.overran(entry)
    assert ledger.mean_seconds(entry) == 1.0, "it still runs"
    ledger.took(entry, 4.0)
    ledger.overran(entry)
    ledger.took(entry, 8.0)
    ledger.was_fast(entry)
    assert ledger.mean_seconds(entry) == 6.0
    assert known(table_of(ledger), clock.now)[0].mean_seconds == 6.0


def test_the_table_stays_bounded(ledger: Ledger, clock: Clock) -> None:
    for number in range(3 * ENTRIES):
        ledger.was_fast(ledger.entry_of(f"SELECT c{number} FROM t"))
    assert ENTRIES // 2 < len(known(table_of(ledger), clock.now)) <= ENTRIES


def test_texts_that_differ_in_values_are_remembered_within_bounds(ledger: Ledger) -> None:
    for number in range(10_000):
        ledger.entry_of(f"SELECT a FROM t WHERE b = {number}")
    assert len(ledger._by_text) <= 4096


def test_the_one_unused_for_longest_makes_room(ledger: Ledger, clock: Clock) -> None:
    *old, new = same_place(9)
    for text in old:
        ledger.overran(ledger.entry_of(text))
        clock.now += 1
    ledger.overran(ledger.entry_of(old[0]))
    clock.now += 1
    ledger.overran(ledger.entry_of(new))
    slow = [text for text in (*old, new) if ledger.is_slow(ledger.entry_of(text))]
    assert slow == [old[0], *old[2:], new]
    assert ledger.forgotten == 1


def test_a_fast_one_in_the_place_of_a_slow_one_is_not_slow(ledger: Ledger, clock: Clock) -> None:
    *old, new = same_place(9)
    for text in old:
        ledger.overran(ledger.entry_of(text))
        clock.now += 1
    entry = ledger.entry_of(new)
    assert ledger.is_unknown(entry)
    ledger.was_fast(entry)
    assert ledger.is_proven(entry)
    assert [ledger.is_slow(ledger.entry_of(text)) for text in old] == [False] + 7 * [True]


def test_a_slow_one_whose_place_went_to_a_fast_one_does_not_pass_for_fast(
    ledger: Ledger, clock: Clock
) -> None:
    *old, new = same_place(9)
    for text in old:
        ledger.overran(ledger.entry_of(text))
        clock.now += 1
    ledger.was_fast(ledger.entry_of(new))
    forgotten = ledger.entry_of(old[0])
    assert ledger.is_unknown(forgotten)
    assert not ledger.is_proven(forgotten)
    assert not ledger.is_proven(forgotten)


def test_a_statement_that_lost_its_place_gets_another_with_its_next_run(
    ledger: Ledger, clock: Clock
) -> None:
    *old, new = same_place(9)
    for text in old:
        ledger.overran(ledger.entry_of(text))
        clock.now += 1
    ledger.was_fast(ledger.entry_of(new))
    ledger.overran(ledger.entry_of(old[0]))
    assert ledger.is_slow(ledger.entry_of(old[0]))
    assert ledger.is_proven(ledger.entry_of(new))


def test_the_slowest_come_first_then_the_busiest(ledger: Ledger, clock: Clock) -> None:
    names = ["fast", "busy", "slow", "once", "stranger"]
    fast, busy, slow, once, _stranger = [ledger.entry_of(f"SELECT {name}") for name in names]
    ledger.was_fast(fast)
    for _ in range(3):
        ledger.was_fast(busy)
        clock.now += 1
    ledger.overran(slow)
    ledger.was_fast(once)
    ledger.overran(once)
    found = known(table_of(ledger), clock.now)
    assert [k.text for k in found][:3] == ["SELECT slow", "SELECT once", "SELECT busy"]
    assert [k.is_slow for k in found] == [True, False, False, False, False]
    assert {k.text: k.score for k in found}["SELECT stranger"] is None
    assert found[0].idle_seconds == 0


def test_only_the_beginning_of_a_long_statement_is_kept_and_it_still_is_told_apart(
    ledger: Ledger, clock: Clock
) -> None:
    columns = ", ".join(f"column_{n}" for n in range(100))
    one, other = (f"SELECT {columns} FROM {table}" for table in ("one", "other"))
    ledger.overran(ledger.entry_of(one))
    assert not ledger.is_slow(ledger.entry_of(other))
    texts = [k.text for k in known(table_of(ledger), clock.now)]
    assert texts[0] == texts[1] == one[:TEXT_BYTES]
    assert is_cut(texts[0])
    assert not is_cut("SELECT 1")


def test_a_letter_cut_in_two_spoils_no_text(ledger: Ledger, clock: Clock) -> None:
    ledger.was_fast(ledger.entry_of("SELECT " + "é" * TEXT_BYTES))
    (found,) = known(table_of(ledger), clock.now)
    assert found.text.startswith("SELECT éé")
