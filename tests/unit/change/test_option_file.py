"""Where a drop-in belongs, what it says, and how it is shown before it is written."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest

from support.surveys import a_server, a_survey
from unhang.change.files import replace_file, to_bytes
from unhang.change.option_file import (
    _files_named,
    content_for,
    included_folders,
    read,
    values_in,
)
from unhang.change.plan import Plan
from unhang.change.planner import Goal, Place, make_plan
from unhang.change.steps import WriteOptionFile
from unhang.cli import plan_text
from unhang.cli.output import _SafeConsole

USUAL = [Path("/etc/my.cnf"), Path("/etc/mysql/my.cnf")]


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ([], USUAL),
        (["--defaults-file=/srv/my.cnf"], [Path("/srv/my.cnf")]),
        (["--defaults-file=conf/my.cnf"], [Path("/srv/db/conf/my.cnf")]),
        (["--defaults-extra-file=/srv/x.cnf"], [*USUAL, Path("/srv/x.cnf")]),
        (["--no-defaults"], []),
        (["--defaults-group-suffix=.second"], []),
    ],
)
def test_the_files_a_daemon_reads(options: list[str], files: list[Path]) -> None:
    assert _files_named(["/usr/sbin/mariadbd", *options, "--port=3306"], Path("/srv/db")) == files


def test_the_folder_that_is_read_last_comes_first(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    main = tmp_path / "my.cnf"
    main.write_text(
        f"[mysqld]\n!includedir {tmp_path}/a/\n !includedir {tmp_path}/b\n!includedir /none\n"
    )
    assert list(included_folders([main, tmp_path / "missing"])) == [tmp_path / "b", tmp_path / "a"]


def test_its_lines_are_short_enough_to_be_copied() -> None:
    assert max(map(len, content_for({"wait_timeout": 300}).splitlines())) < 60


VALUES = {"wait_timeout": 300, "interactive_timeout": 300}
OURS = "wait_timeout = 300\ninteractive_timeout = 300\n"


@pytest.mark.parametrize(
    "content",
    [b"[mysqld]\r\nmax_connections = 99\r\n", b"[mysqld]\rx = 1\n", b"# caf\xe9\n[mysqld]\n"],
)
def test_the_old_bytes_come_back(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "zz-unhang.cnf"
    path.write_bytes(content)
    before = read(path)
    assert before is not None
    replace_file(path, b"new\n")
    replace_file(path, to_bytes(before))
    assert path.read_bytes() == content


def test_no_file_has_no_text(tmp_path: Path) -> None:
    assert read(tmp_path / "none.cnf") is None


def test_folders_of_an_option_file_with_other_line_ends_are_found(tmp_path: Path) -> None:
    main = tmp_path / "my.cnf"
    main.write_bytes(f"# caf\u00e9\r\n!includedir {tmp_path}\r\n".encode("latin-1"))
    assert list(included_folders([main])) == [tmp_path]


@pytest.mark.parametrize("before", [None, "", " \n", content_for({"wait_timeout": 60})])
def test_nothing_or_ours_becomes_ours(before: str | None) -> None:
    assert content_for(VALUES, before) == content_for(VALUES)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[mysqld]\nmax_connections = 99\n", f"[mysqld]\nmax_connections = 99\n{OURS}"),
        # The last line has no end.
        ("[mysqld]\nmax_connections = 99", f"[mysqld]\nmax_connections = 99\n{OURS}"),
        ("[server]", f"[server]\n{OURS}"),
        # In place, in the variable's own spelling, and once more where it is said twice.
        (
            "[mysqld]\nwait-timeout=60 # short\nloose_wait_timeout = 9\nx = 1\n",
            "[mysqld]\nwait_timeout = 300\nwait_timeout = 300\nx = 1\ninteractive_timeout = 300\n",
        ),
        # What is right already keeps its spelling.
        (
            "[mysqld]\nwait-timeout=300\ninteractive-timeout=1",
            "[mysqld]\nwait-timeout=300\ninteractive_timeout = 300",
        ),
        # The last group that each server reads; blank lines and comments stay before the next.
        (
            "[mysqld]\na = 1\n[server]\nb = 2\n\n# for people\n[client]\nwait_timeout = 7\n",
            f"[mysqld]\na = 1\n[server]\nb = 2\n{OURS}\n# for people\n[client]\nwait_timeout = 7\n",
        ),
        # MySQL does not read [mariadb], so our own group is needed, and both agree.
        (
            "[mariadb-10.11]\nwait_timeout = 7\nx = 1\n",
            f"[mariadb-10.11]\nwait_timeout = 300\nx = 1\n[mysqld]\n{OURS}",
        ),
        ("[client]\nuser = x", f"[client]\nuser = x\n[mysqld]\n{OURS}"),
        ("# empty\n", f"# empty\n[mysqld]\n{OURS}"),
        ("[mysqld]\n#wait_timeout = 5\n", f"[mysqld]\n{OURS}#wait_timeout = 5\n"),
        (
            "[mysqld]\r\nwait_timeout = 5\r\nx = \udce9\r\n",
            "[mysqld]\r\nwait_timeout = 300\r\nx = \udce9\r\ninteractive_timeout = 300\r\n",
        ),
        ("[mysqld]\n!includedir /x\n", f"[mysqld]\n!includedir /x\n{OURS}"),
    ],
)
def test_what_a_drop_in_says_of_other_things_is_kept(before: str, after: str) -> None:
    assert content_for(VALUES, before) == after
    assert content_for(VALUES, after) == after, "a second time changes nothing"
    assert values_in(after) == VALUES


def test_other_options_of_a_drop_in_are_no_values_of_ours() -> None:
    text = "[client]\nwait_timeout = 1\n[mysqld]\nmax_connections = 99\r\nwait-timeout=300\r\n"
    assert values_in(text) == {"wait_timeout": 300}


def a_plan(before: str | None, after: str | None) -> Plan:
    server = a_server(wait_timeout=28_800, interactive_timeout=28_800)
    plan = make_plan([Place(a_survey(server), Path("/x/zz-unhang.cnf"))], None, Goal.of())
    step = WriteOptionFile("db", "/x/zz-unhang.cnf", before, after, False)
    return dataclasses.replace(plan, steps=(step,))


def shown(monkeypatch: pytest.MonkeyPatch, plan: Plan, *, color: bool = False) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    system = "standard" if color else None
    console = _SafeConsole(file=stream, highlight=False, color_system=system, width=100)
    monkeypatch.setattr(plan_text, "out", console)
    plan_text.print_plan(plan)
    return raw.getvalue().decode()


def test_a_plan_shows_the_lines_that_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    plan = a_plan("[mysqld]\nmax_connections = 99\n", "[mysqld]\nwait_timeout = 300\n")
    text = shown(monkeypatch, plan)
    assert "     [mysqld]\n   - max_connections = 99\n   + wait_timeout = 300\n" in text
    coloured = shown(monkeypatch, plan, color=True)
    assert "\x1b[2m     [mysqld]" in coloured
    assert "\x1b[31m   - max_connections" in coloured
    assert "\x1b[32m   + wait_timeout" in coloured


def test_a_plan_shows_a_new_and_a_deleted_file_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "   + [mysqld]\n   + x = 1\n" in shown(monkeypatch, a_plan(None, "[mysqld]\nx = 1\n"))
    assert "   - [mysqld]\n   - x = 1\n" in shown(monkeypatch, a_plan("[mysqld]\nx = 1\n", None))


def test_bytes_that_are_not_utf_8_do_not_stop_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = a_plan("# caf\udce9\n", "# caf\udce9\n[mysqld]\n")
    step = dataclasses.replace(plan.steps[0], path="/srv/caf\udce9/zz-unhang.cnf")
    text = shown(monkeypatch, dataclasses.replace(plan, steps=(step,), warnings=("caf\udce9",)))
    assert "     # caf?\n   + [mysqld]\n" in text
    assert "/srv/caf?/" in text
