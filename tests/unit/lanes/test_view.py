"""What people and programs are shown of the lanes of a host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.fake_driver import Clock
from unhang.lanes import tables
from unhang.lanes.ledger import Ledger
from unhang.lanes.table import WAITS, Table
from unhang.lanes.view import view, views


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """A process with four of ten connections in use, two of them by slow statements."""
    monkeypatch.setenv("UNHANG_LANES_DIR", str(tmp_path))
    made = Table(tmp_path / tables.file_name("one"), "shop@db/shop")
    ledger = Ledger(made, 1.0, Clock())
    slow, fast = ledger.entry_of("SELECT slow"), ledger.entry_of("SELECT fast")
    ledger.overran(slow)
    ledger.took(slow, 4.0)
    ledger.was_fast(fast)
    row = made.take_row()
    assert row == 0
    numbers = {name: made.lane_number(name) for name in ("slow", "new", "reports")}
    for column, value in [("capacity", 10), ("workers", 8), ("waiting", 1), ("busy_milli", 4500)]:
        made.columns[column][row] = value
    made.columns["lane0"][row] = 2
    for cell, lane, since in [(0, 0, 990.0), (1, numbers["reports"], 995.0), (2, 0 | WAITS, 999.0)]:
        assert lane is not None
        made.cells[3 * cell : 3 * cell + 3] = memoryview(
            b"".join(n.to_bytes(8, "little") for n in (slow.index + 1, lane, int(since * 1e9)))
        ).cast("q")
    return made


def test_a_view_has_the_gauges_the_holders_and_the_ledger(table: Table) -> None:
    seen = view(table, 1000.0)
    assert (seen.label, seen.processes, seen.capacity, seen.busy) == ("shop@db/shop", 1, 10, 4.5)
    assert (seen.workers, seen.waiting) == (8, 1)
    assert seen.running == {"slow": 2, "new": 0, "reports": 0}
    assert not seen.is_crowded
    assert [(h.lane, h.waits, h.seconds) for h in seen.holders] == [
        ("slow", False, 10.0),
        ("reports", False, 5.0),
        ("slow", True, 1.0),
    ]
    assert [(k.text, k.is_slow, k.mean_seconds) for k in seen.statements] == [
        ("SELECT slow", True, 4.0),
        ("SELECT fast", False, 0.0),
    ]


def test_half_of_the_connections_in_use_is_crowded_as_for_the_rules(table: Table) -> None:
    table.columns["busy_milli"][0] = 5000
    assert view(table, 1000.0).is_crowded


def test_without_processes_nothing_is_crowded(table: Table) -> None:
    table.give_row(0)
    seen = view(table, 1000.0)
    assert (seen.processes, seen.capacity, seen.is_crowded) == (0, 0, False)
    assert seen.statements, "what was learned stays"


def test_a_view_is_a_document(table: Table) -> None:
    document = json.loads(json.dumps(view(table, 1000.0).to_json()))
    assert document["is_crowded"] is False
    assert document["statements"][0]["is_slow"] is True
    assert document["holders"][0]["text"] == "SELECT slow"
    assert document["path"] == str(table.path)


def test_every_table_of_this_user_is_seen_and_broken_files_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNHANG_LANES_DIR", str(tmp_path))
    assert list(views()) == []
    for name in ("one", "two"):
        Table(tmp_path / tables.file_name(name), name)
    (tmp_path / tables.file_name("broken")).write_bytes(b"x")
    assert sorted(seen.label for seen in views()) == ["one", "two"]


def test_a_process_that_looks_at_its_own_lanes_keeps_its_row(table: Table) -> None:
    """The kernel gives up every lock on a file as soon as one handle of it is closed."""
    (seen,) = views()
    assert seen.processes == 1
    assert table.rows() == [0]
