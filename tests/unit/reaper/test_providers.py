"""Which managed service a server is, what ends a session there, and whom never to touch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from unhang.errors import UsageProblem
from unhang.reaper.policy import Policy
from unhang.reaper.providers import Provider, detect, protected_anywhere


class _Cursor:
    def __init__(self, rows: Sequence[tuple[str, str]]) -> None:
        self.rows = rows

    def __enter__(self) -> _Cursor:
        return self

    def __exit__(self, *_error: object) -> None: ...

    def execute(self, _sql: str) -> None: ...

    def fetchall(self) -> Sequence[tuple[str, str]]:
        return self.rows


class _Connection:
    def __init__(self, variables: dict[str, str]) -> None:
        self.variables = variables

    def cursor(self, _kind: object = None) -> _Cursor:
        return _Cursor(list(self.variables.items()))


def found(
    variables: dict[str, str] | None = None, host: str = "db", file: Path | None = None
) -> Provider:
    connection: Any = _Connection({"version_comment": "mariadb.org", **(variables or {})})
    return detect(connection, host, file)


@pytest.mark.parametrize(
    ("variables", "host", "title", "kill"),
    [
        ({}, "db", "", "KILL CONNECTION 5"),
        ({"aurora_version": "3.08.0", "basedir": "/rdsdbbin/"}, "db", "Amazon Aurora", "rds_kill"),
        ({"basedir": "/rdsdbbin/mysql/"}, "db", "Amazon RDS", "CALL mysql.rds_kill(5)"),
        ({}, "x.eu-west-1.RDS.amazonaws.com", "Amazon RDS", "CALL mysql.rds_kill(5)"),
        ({}, "x.rds.amazonaws.com.example.org", "", "KILL CONNECTION 5"),
        ({"version_comment": "(Google)"}, "db", "Google Cloud SQL", "KILL CONNECTION 5"),
        ({"AZURE_server_name": "x"}, "db", "Azure", "CALL mysql.az_kill(5)"),
        ({}, "x.mysql.database.azure.com", "Azure", "CALL mysql.az_kill(5)"),
    ],
)
def test_a_service_is_known_by_its_variables_or_its_name(
    variables: dict[str, str], host: str, title: str, kill: str
) -> None:
    provider = found(variables, host)
    assert provider.title.startswith(title)
    assert bool(provider.title) == bool(title)
    assert kill in provider.kill(5)


@pytest.mark.parametrize("variables", [{}, {"aurora_version": "3"}, {"azure_server_name": "x"}])
@pytest.mark.parametrize(
    "user",
    [
        "root",
        "mysql.session",
        "mariadb.sys",
        "debian-sys-maint",
        "repl_2",
        "exporter",
        "pmm",
        "xtrabackup",
        "debezium",
        "orchestrator",
        "proxysql",
        "monitor",
    ],
)
def test_accounts_of_the_house_are_protected_everywhere(
    variables: dict[str, str], user: str
) -> None:
    assert Policy(frozenset({user}), protected=found(variables).protected).protects(user)


def test_accounts_of_applications_are_not() -> None:
    policy = Policy(frozenset(), protected=found().protected)
    for user in ("app", "shop", "django", "www-data", "report", "Root2", "monito"):
        assert not policy.protects(user)


def test_accounts_of_a_service_are_protected_there_and_in_replays() -> None:
    policy = Policy(frozenset(), protected=found({"basedir": "/rdsdbbin/mysql"}).protected)
    assert policy.protects("rdsadmin")
    assert not Policy(frozenset(), protected=found().protected).protects("rdsadmin")
    assert {"rdsadmin", "root", "cloudsql*", "azure_*"} <= protected_anywhere()


GOOD = """
[everywhere]
protected = ["dba*"]
[house]
title = "The house"
recognised_by = [["version_comment", "house"]]
kill = "CALL ops.kill({id}) /* {braces} */"
protected = ["butler"]
"""


def test_data_of_ones_own_is_used_instead(tmp_path: Path) -> None:
    file = tmp_path / "providers.toml"
    file.write_text(GOOD)
    provider = found({"version_comment": "Our HOUSE"}, file=file)
    assert provider.title == "The house"
    assert provider.protected == {"dba*", "butler"}
    assert provider.kill("r.ID") == "CALL ops.kill(r.ID) /* {braces} */"
    assert found(file=file).protected == {"dba*"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[everywhere", "Expected"),
        ("", r"no \[everywhere\]"),
        (GOOD.replace('["dba*"]', '"dba*"'), "no list of names"),
        (GOOD.replace('["dba*"]', "[1]"), "no list of names"),
        (GOOD.replace('protected = ["dba*"]', ""), r"\[everywhere\] has no protected"),
        (GOOD.replace('["butler"]', '"butler"'), "no list of names"),
        (GOOD.replace('title = "The house"', ""), r"\[house\] has no title"),
        (GOOD.replace("({id})", "()"), "kill has no {id}"),
        (GOOD.replace('kill = "', 'kill = 5\nx = "'), "kill has no {id}"),
        (GOOD.replace('[["version_comment", "house"]]', '["version_comment"]'), "pairs"),
        (GOOD.replace('[["version_comment", "house"]]', '[["version_comment"]]'), "pairs"),
        (GOOD + 'host_suffix = ".house"', "no list of names"),
        ("x = 1\n" + GOOD, r"\[x\] has no title"),
    ],
)
def test_a_slip_in_the_data_is_one_sentence(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "providers.toml"
    file.write_text(text)
    with pytest.raises(UsageProblem, match=reason) as raised:
        found(file=file)
    assert str(file) in raised.value.message


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    for file in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UsageProblem, match="cannot be used"):
            found(file=file)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageProblem, match="cannot be used"):
        found(file=binary)
