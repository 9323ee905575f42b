"""Nobody is ended without a record on disk."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from unhang.reaper.audit import Audit
from unhang.reaper.ending import Outcome, Result
from unhang.survey.session import Lock, Session

SESSION = Session(
    7, "a'b", "10.0.0.1", "shop", "Sleep", 400.0, locks=(Lock("user", "EXCLUSIVE", "ü\n"),)
)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_will_be_ended_its_result_and_the_proof_are_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "reaped.jsonl"
    with Audit(path, {"server": "db"}) as audit:
        audit.ending([SESSION, SESSION])
        audit.ended([Outcome(SESSION, Result.ENDED), Outcome(SESSION, Result.DENIED, 1095)])
        audit.gone([7, 8, 9], {9}, 0.12345)
    found = records(path)
    assert [line["event"] for line in found] == ["ending", "ending", "result", "result", "proof"]
    assert all(line["server"] == "db" and line["at"].endswith("+00:00") for line in found)
    assert found[0]["before"]["user"] == "a'b"
    assert found[0]["before"]["locks"][0]["name"] == "ü\n"
    assert (found[3]["id"], found[3]["result"], found[3]["code"]) == (7, "not permitted", 1095)
    assert (found[4]["gone"], found[4]["still_there"]) == ([7, 8], [9])


def test_it_is_there_before_the_kill_can_go_out(tmp_path: Path) -> None:
    path = tmp_path / "reaped.jsonl"
    with Audit(path, {}) as audit:
        audit.ending([SESSION])
        assert records(path)[0]["before"]["id"] == 7


def test_only_its_owner_may_read_it_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "reaped.jsonl"
    before = os.umask(0)
    try:
        for _ in range(2):
            with Audit(path, {}) as audit:
                audit.ending([SESSION])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(records(path)) == 2


def test_a_disk_that_takes_a_part_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:10]))
    with Audit(tmp_path / "reaped.jsonl", {}) as audit:
        audit.ending([SESSION])
    assert records(tmp_path / "reaped.jsonl")[0]["before"]["id"] == 7


def test_a_record_that_does_not_fit_on_the_disk_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, room = os.write, [30]

    def nearly_full(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(fd, data[: room[0]])
        room[0] -= done
        return done

    monkeypatch.setattr(os, "write", nearly_full)
    with Audit(tmp_path / "reaped.jsonl", {}) as audit, pytest.raises(OSError, match="No space"):
        audit.ending([SESSION])


def test_text_that_is_no_unicode_is_written_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "reaped.jsonl"
    with Audit(path, {"address": "/home/\udcff"}) as audit:
        audit.ending([SESSION])
    assert records(path)[0]["before"]["id"] == 7


def test_a_place_where_nothing_can_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), Audit(tmp_path / "file" / "reaped.jsonl", {}):
        pass
    with pytest.raises(IsADirectoryError), Audit(tmp_path, {}):
        pass
