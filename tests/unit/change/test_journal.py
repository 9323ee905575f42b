"""The journal: durable, readable after a crash, exclusive."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from support.surveys import a_server, a_survey
from unhang.change import journal as journals
from unhang.change.hold import exclusive, holder_of
from unhang.change.plan import Plan
from unhang.change.planner import Goal, Place, make_plan
from unhang.errors import Refused, UsageProblem


@pytest.fixture
def plan() -> Plan:
    server = a_server(wait_timeout=28_800, interactive_timeout=28_800)
    return make_plan([Place(a_survey(server), None)], None, Goal.of())


def test_it_is_read_back_as_it_was_written(plan: Plan, tmp_path: Path) -> None:
    journal = journals.open_for(plan, tmp_path)
    journal.write("begun", 0)
    journal.write("done", 0, watermark=17)
    journal.write("begun", 1)
    again = journals.open_for(plan, tmp_path)
    assert again.plan == plan
    assert again.begun() == (0, 1)
    assert again.fact(0, "watermark") == 17
    assert again.settled(0)
    assert not again.settled(1)


def test_a_cut_off_line_is_as_if_never_written(plan: Plan, tmp_path: Path) -> None:
    journal = journals.open_for(plan, tmp_path)
    journal.write("begun", 0)
    size = journal.path.stat().st_size
    journal.write("done", 0)
    whole = journal.path.read_bytes()
    for cut in range(size, len(whole)):
        journal.path.write_bytes(whole[:cut])
        again = journals.read(journal.path)
        assert again.begun() == (0,)
        assert not again.settled(0)
        again.write("done", 0)  # is not glued to the rest of the half line
        assert journals.read(journal.path).settled(0)


def test_a_lost_entry_may_have_been_the_begin_of_the_next_step(plan: Plan, tmp_path: Path) -> None:
    journal = journals.open_for(plan, tmp_path)
    journal.write("begun", 0)
    journal.write("done", 0)
    whole = journal.path.read_bytes()
    for rubbish in (b'{"at": "2', b"\0" * 100, b'{"event": 5}\n\0\0', b"\xff\xfe\n"):
        journal.path.write_bytes(whole + rubbish)
        again = journals.read(journal.path)
        assert again.torn
        assert again.begun() == again.ever_begun() == (0, 1)
        assert journal.path.read_bytes() == whole + rubbish, "looking changes nothing"
        again.write("undone", 1)
        read = journals.read(journal.path)
        assert read.begun() == (0,)
        assert [e["event"] for e in read.entries][-2:] == ["torn", "undone"]


def test_damage_in_the_middle_is_not_taken_for_a_cut_end(plan: Plan, tmp_path: Path) -> None:
    journal = journals.open_for(plan, tmp_path)
    journal.write("begun", 0)
    journal.write("done", 0)
    lines = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(lines[0] + b"\0" * 30 + b"\n" + lines[2])
    with pytest.raises(UsageProblem, match="not a journal"):
        journals.read(journal.path)


def test_who_holds_the_change_and_at_which_step(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    with exclusive(tmp_path, "ann@web1") as hold:
        hold.at("step 2 of 5")
        with (
            pytest.raises(Refused, match=r"ann@web1, pid \d+, step 2 of 5"),
            exclusive(tmp_path, "bob"),
        ):
            pass
        assert str(holder_of(tmp_path)).endswith("step 2 of 5")
    assert holder_of(tmp_path) is None


def test_an_undone_step_is_no_longer_begun(plan: Plan, tmp_path: Path) -> None:
    journal = journals.open_for(plan, tmp_path)
    for event in ("begun", "done", "undo-begun", "undone"):
        journal.write(event, 0)  # type: ignore[arg-type]
    assert journal.begun() == ()
    assert not journal.settled(0)


def test_a_rolled_back_plan_is_not_applied_again(plan: Plan, tmp_path: Path) -> None:
    journals.open_for(plan, tmp_path).write("rolled-back")
    with pytest.raises(Refused, match="rolled back already"):
        journals.open_for(plan, tmp_path)


def test_the_newest_is_the_one_that_can_be_rolled_back(plan: Plan, tmp_path: Path) -> None:
    old = journals.open_for(plan, tmp_path)
    server = a_server(wait_timeout=600)
    other = make_plan([Place(a_survey(server), None)], None, Goal.of())
    done = journals.open_for(other, tmp_path)
    done.write("rolled-back")
    os.utime(old.path, (1, 1))
    assert journals.newest(tmp_path).path == old.path


def test_a_file_that_is_no_journal_does_not_hide_the_others(plan: Plan, tmp_path: Path) -> None:
    journal = journals.open_for(plan, tmp_path)
    (journal.path.parent / "zero.jsonl").touch()
    assert journals.newest(tmp_path).path == journal.path


def test_a_damaged_journal_is_named_and_not_passed_over(plan: Plan, tmp_path: Path) -> None:
    """It may be the one of a change that is in effect."""
    journal = journals.open_for(plan, tmp_path)
    journal.write("begun", 0)
    damaged = journal.path.with_name("damaged.jsonl")
    damaged.write_bytes(b"\0\0\0\n" + journal.path.read_bytes())
    with pytest.raises(UsageProblem, match=r"damaged.jsonl is not a journal"):
        journals.newest(tmp_path)


def test_a_plan_that_was_refused_does_not_hide_the_one_in_effect(
    plan: Plan, tmp_path: Path
) -> None:
    first = journals.open_for(plan, tmp_path)
    first.write("begun", 0)
    os.utime(first.path, (1, 1))
    refused = journals.open_for(replace(plan, id="later"), tmp_path)
    assert journals.newest(tmp_path).path == first.path
    refused.write("begun", 0)
    assert journals.newest(tmp_path).path == refused.path


def test_a_full_disk_leaves_no_half_line(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = journals.open_for(plan, tmp_path)
    before = journal.path.read_bytes()
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        write(descriptor, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        journal.write("begun", 0)
    monkeypatch.undo()
    assert journal.path.read_bytes() == before
    assert journal.begun() == ()


def test_without_any_journal_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="unhang plan"):
        journals.newest(tmp_path)


def test_only_one_change_at_a_time_and_the_second_hears_who(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path, "ann@web1"),
        pytest.raises(Refused, match="by ann@web1, pid"),
        exclusive(tmp_path, "bob@web2"),
    ):
        pass
    with exclusive(tmp_path, "bob@web2"):
        pass


def test_it_is_readable_by_its_owner_only_and_stays_out_of_git(plan: Plan, tmp_path: Path) -> None:
    journal = journals.open_for(plan, tmp_path)
    assert journal.path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("text", ["", "{}\n", "nonsense\n", '{"event": "begun"}\n'])
def test_what_is_no_journal_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(text)
    with pytest.raises(UsageProblem, match="is not a journal"):
        journals.read(file)
