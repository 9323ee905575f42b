"""Servers are found where they are said to be, and a missing one is reported with its cure."""

import os
from pathlib import Path

import pytest

from unhang.errors import UsageProblem
from unhang.lab import binaries


@pytest.fixture
def unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two flavours as scripts/get_servers.sh leaves them, and nothing else."""
    for name, program, share in (
        ("mariadb118", "mariadbd", "mariadb"),
        ("mysql97", "mysqld", "mysql"),
        (".mysql84.partial", "mysqld", "mysql"),
    ):
        (tmp_path / name / "root/usr/share" / share / "charsets").mkdir(parents=True)
        (tmp_path / name / "bin").mkdir()
        (tmp_path / name / "bin" / program).touch()
    (tmp_path / "notes.txt").touch()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(binaries, "_SBIN", "/nowhere")
    return tmp_path


def test_a_folder_of_flavours_is_searched(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(binaries.SERVERS_VARIABLE, str(unpacked))
    found = binaries.available_engines()
    assert {name: flavour.kind for name, flavour in found.items()} == {
        "mariadb118": "mariadb",
        "mysql97": "mysql",
    }
    assert found["mariadb118"].share == unpacked / "mariadb118/root/usr/share/mariadb"
    assert found["mysql97"].plugin_dir == unpacked / "mysql97/root/usr/lib/mysql/plugin"


def test_a_flavour_can_be_named_directly(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [str(unpacked / "mysql97"), "/nowhere"]
    monkeypatch.setenv(binaries.SERVERS_VARIABLE, os.pathsep.join(folders))
    assert list(binaries.available_engines()) == ["mysql97"]


def test_the_current_directory_is_searched(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = unpacked / "checkout"
    here.mkdir()
    (here / ".servers").symlink_to(unpacked)
    monkeypatch.chdir(here)
    monkeypatch.delenv(binaries.SERVERS_VARIABLE, raising=False)
    mine = binaries.available_engines()["mysql97"]
    assert mine.daemon == unpacked / "mysql97/bin/mysqld"


def test_a_missing_system_server_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "_SBIN", "/nowhere")
    with pytest.raises(UsageProblem, match="apt install mariadb-server-core"):
        binaries.find_engine("mariadb")


def test_an_unknown_engine_names_the_known_ones(
    unpacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(binaries.SERVERS_VARIABLE, str(unpacked))
    with pytest.raises(UsageProblem, match=r"mysql57.*mariadb118, mysql97") as unknown:
        binaries.find_engine("mysql57")
    assert "make servers" in unknown.value.cure


def test_a_program_that_does_not_run_is_reported(tmp_path: Path) -> None:
    program = tmp_path / "mariadbd"
    program.write_text("#!/bin/sh\necho no library >&2\nexit 127\n")
    program.chmod(0o755)
    flavour = binaries.Flavour("odd", "mariadb", program, tmp_path, tmp_path, tmp_path)
    with pytest.raises(UsageProblem, match="no library"):
        _ = flavour.version
