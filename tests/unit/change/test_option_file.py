"""Where a drop-in belongs: only where it reaches this server and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from unhang.change.option_file import _files_named, content_for, included_folders

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
