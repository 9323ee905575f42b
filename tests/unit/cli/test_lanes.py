"""`unhang lanes` as a command: what it prints with lanes, and without."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from unhang.cli import lanes as verb


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNHANG_LANES_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *, all_statements: bool = False) -> str:
    verb.lanes(all_statements=all_statements)
    return capsys.readouterr().out


PROCESS = """
import os, sys
from pathlib import Path
from unhang.lanes import tables
from unhang.lanes.ledger import Ledger
from unhang.lanes.table import Table

table = Table(tables.directories()[0] / tables.file_name("one"), "shop@db/[shop]")
ledger = Ledger(table, 1.0)
entries = [ledger.entry_of(f"SELECT column{n} FROM t WHERE [a] = 1") for n in range(12)]
ledger.overran(entries[0])
ledger.took(entries[0], 2.5)
row = table.take_row()
table.columns["capacity"][row] = 10
table.columns["busy_milli"][row] = 6000
table.lane_number("slow")
table.cells[0] = entries[0].index + 1
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(here: Path) -> Iterator[int]:
    """Another process, whose one slow statement runs. Its id."""
    with subprocess.Popen(
        [sys.executable, "-c", PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid


def test_without_lanes_it_says_when_there_are_some(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = " ".join(run(capsys).split())
    assert "No process of this user shares lanes" in text
    assert "UNHANG_LANES_DIR" in text


def test_it_shows_who_holds_a_place_and_what_is_known(
    holder: int, capsys: pytest.CaptureFixture[str]
) -> None:
    text = run(capsys)
    assert "shop@db/[shop]  crowded" in text, "brackets are no markup"
    assert "1 processes; 6.0 of 10 connections in use" in text
    assert str(holder) in text
    assert "SELECT column0 FROM t WHERE [a] = ?" in text
    assert "2.5 s" in text
    assert "2 more statements: unhang lanes --all" in text
    assert text.count("unknown") == 9


def test_all_statements_are_shown_on_request(
    holder: int, capsys: pytest.CaptureFixture[str]
) -> None:
    text = run(capsys, all_statements=True)
    assert text.count("unknown") == 11
    assert "more statements" not in text


def test_programs_get_a_document(holder: int, capsys: pytest.CaptureFixture[str]) -> None:
    verb.lanes(output=verb.Format.JSON)
    document = json.loads(capsys.readouterr().out)
    (lanes,) = document["lanes"]
    assert lanes["is_crowded"] is True
    assert len(lanes["statements"]) == 12
    assert lanes["holders"][0]["lane"] == "slow"
