"""The reaper on real servers: it ends whom nobody needs, and nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.connections import Connection as Client

from support.projects import PASSWORD, Project, Ran, make_project
from unhang import lab
from unhang.cli import main
from unhang.lab import Server
from unhang.lab.process import wait_until
from unhang.reaper.ending import Outcome, Result, ender_for
from unhang.reaper.ending.mariadb import MariaDBEnder
from unhang.reaper.ending.mysql import InOnePacket, InTwoTrips
from unhang.survey.connect import Connection, open_connection
from unhang.survey.login import from_dsn
from unhang.survey.server import read_server
from unhang.survey.session import Session
from unhang.survey.sessions import Listing, read_sessions
from unhang.survey.sessions.sources import Sources

LIMIT = 200
INSPECTOR = "inspector"
QUICK = ("--idle", "0.3s", "--i-know", "--gap", "0.1s")
SETTLED = 0.4  # seconds after which a sleeper is idle by these rules
# MariaDB without performance_schema shows neither; nobody in here has one.
UNSHOWN = ("--accept-unknown", "empty-transactions", "--accept-unknown", "temporary-tables")
ALL_SHOWN: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Server]]:
    """One server of each engine for all tests here; each test has accounts of its own."""
    with contextlib.ExitStack() as stack:
        made: dict[str, Server] = {}

        def get(engine: str) -> Server:
            if engine not in made:
                server = stack.enter_context(lab.server(engine, max_connections=LIMIT))
                if server.kind == "mariadb":
                    server.execute("INSTALL SONAME 'metadata_lock_info'")
                grants = ["PROCESS ON *.*"]
                if server.kind == "mysql":
                    grants.append("SELECT ON performance_schema.*")
                server.create_account(INSPECTOR, PASSWORD, grants)
                made[engine] = server
            return made[engine]

        yield get


@pytest.fixture
def server(any_engine: str, shared: Callable[[str], Server]) -> Iterator[Server]:
    server = shared(any_engine)
    server.create_account("app", PASSWORD, database="app")
    server.create_account("app2", PASSWORD, database="app")
    server.execute("CREATE TABLE IF NOT EXISTS app.t (n INT) ENGINE=InnoDB")
    yield server
    for row in server.execute("SELECT ID FROM information_schema.PROCESSLIST WHERE USER <> 'root'"):
        with contextlib.suppress(pymysql.err.MySQLError):
            server.execute(f"KILL {row['ID']}")


@pytest.fixture
def project(server: Server, tmp_path: Path) -> Project:
    return make_project(tmp_path, server, account=False)


@pytest.fixture
def crowd(server: Server) -> Iterator[Callable[..., list[Client]]]:
    """Opens sessions that ran a statement and do nothing any more."""
    with contextlib.ExitStack() as stack:

        def open_some(count: int, user: str = "app", *statements: str) -> list[Client]:
            opened = []
            for _ in range(count):
                client: Client = server.connect(user, PASSWORD, "app")
                stack.callback(_close, client)
                for statement in statements or ("SELECT 1",):
                    run(client, statement)
                opened.append(client)
            return opened

        yield open_some


def _close(client: Client) -> None:
    with contextlib.suppress(pymysql.err.Error, OSError):
        client._force_close()  # type: ignore[attr-defined] # not in the stubs


def run(client: Client, sql: str) -> Any:
    with client.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def alive(clients: Sequence[Client]) -> list[bool]:
    def answers(client: Client) -> bool:
        try:
            run(client, "SELECT 1")
        except pymysql.err.MySQLError:
            return False
        return True

    return [answers(client) for client in clients]


def id_of(client: Client) -> int:
    return int(client.thread_id())  # type: ignore[no-untyped-call] # not in the stubs


def accepting(server: Server) -> tuple[str, ...]:
    return UNSHOWN if server.kind == "mariadb" else ALL_SHOWN


Unhang = Callable[..., Ran]


@pytest.fixture
def unhang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Unhang:
    """The command in this process: a program of its own costs a second each time."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main.run(list(arguments))
        code = ended.value.code
        return Ran(code if isinstance(code, int) else 0, *capsys.readouterr())

    return call


@pytest.fixture
def reap(unhang: Unhang, server: Server) -> Unhang:
    """For the application's account on this server; the inspector looks."""

    def call(*more: str) -> Ran:
        login = ("--dsn", server.dsn("app", PASSWORD), "--login", server.dsn(INSPECTOR, PASSWORD))
        return unhang("reap", *login, *QUICK, *accepting(server), *more)

    return call


def ids(document: dict[str, Any], what: str = "victims") -> list[int]:
    return sorted(entry["id"] for entry in document[what])


def reasons(document: dict[str, Any]) -> dict[int, str]:
    return {entry["id"]: entry["rule"] for entry in document["spared"]}


# ---- comparing and killing ----


@contextlib.contextmanager
def ending(server: Server, user: str = "app") -> Iterator[tuple[Any, Any]]:
    """Functions that look, and that end the sessions of a look."""
    with contextlib.ExitStack() as stack:

        def connect(name: str, **more: Any) -> Connection:
            login = from_dsn(server.dsn(name, PASSWORD))
            return stack.enter_context(contextlib.closing(open_connection(login, **more)))

        inspector, killer = connect(INSPECTOR), connect(user, several_statements=True)
        engine = read_server(inspector, account="", unseen=lambda _: None).engine
        listings: list[Listing] = []

        def look(clients: Sequence[Client]) -> list[Session]:
            listings.append(read_sessions(inspector, engine, account="", unseen=lambda _: None))
            wanted = [id_of(client) for client in clients]
            listed = listings[-1].sessions
            return [session for id_ in wanted for session in listed if session.id == id_]

        def end(sessions: Sequence[Session]) -> list[Outcome]:
            ender = ender_for(engine, inspector, killer, listings[-1].unique)
            end.ender = ender  # type: ignore[attr-defined] # for the tests of which one it is
            return ender.end(sessions)

        yield look, end


def results(outcomes: Sequence[Outcome]) -> list[Result]:
    return [outcome.result for outcome in outcomes]


@pytest.mark.every_engine
def test_only_what_did_nothing_since_the_look_is_ended(
    server: Server, crowd: Callable[..., list[Client]]
) -> None:
    clients = crowd(5)
    quiet, worked, pinged, left, other = clients
    (silent,) = crowd(1, "app", "DO 0")
    with ending(server) as (look, end):
        sessions = look([*clients, silent])
        run(worked, "SELECT 2")
        pinged.ping(reconnect=False)
        left.close()
        number = id_of(left) if left.open else sessions[3].id
        wait_until(lambda: number not in {s.id for s in look([])} and _is_gone(server, number), 5)
        look([quiet])
        found = results(end(sessions))
    assert found[0] is Result.ENDED
    assert found[1] is Result.USED
    assert found[2] is Result.USED
    assert found[3] in (Result.USED, Result.GONE)
    assert found[4:] == [Result.ENDED] * 2
    assert alive([quiet, worked, pinged, other, silent]) == [False, True, True, False, False]


def _is_gone(server: Server, number: int) -> bool:
    sql = "SELECT COUNT(*) AS n FROM information_schema.PROCESSLIST WHERE ID = %s"
    return not server.execute(sql, number)[0]["n"]


@pytest.mark.every_engine
def test_a_transaction_that_began_since_the_look_lives(
    server: Server, crowd: Callable[..., list[Client]]
) -> None:
    (client,) = crowd(1)
    with ending(server) as (look, end):
        sessions = look([client])
        run(client, "BEGIN")
        run(client, "INSERT INTO t VALUES (1)")
        assert results(end(sessions)) == [Result.USED]
        run(client, "COMMIT")


def test_of_two_that_share_a_number_only_the_quiet_one_is_ended(
    server: Server, crowd: Callable[..., list[Client]]
) -> None:
    clients = crowd(4)
    with ending(server) as (look, end):
        for client in clients:
            client.ping(reconnect=False)  # a ping takes no number of its own
        sessions = look(clients)
        assert len({s.activity for s in sessions}) == 1
        run(clients[0], "SELECT 2")
        assert results(end(sessions)) == [Result.USED, *[Result.ENDED] * 3]
    assert alive(clients) == [True, False, False, False]


@pytest.mark.every_engine
def test_another_accounts_session_stops_everything(
    server: Server, crowd: Callable[..., list[Client]]
) -> None:
    # MariaDB's comparison needs PROCESS to know that it is another account's.
    server.execute("GRANT PROCESS ON *.* TO 'app'@'%'")
    mine, foreign = crowd(2), crowd(3, "app2")
    with ending(server) as (look, end):
        outcomes = {o.session.id: o for o in end(look([*foreign, *mine]))}
    found = sorted(outcomes[id_of(client)].result for client in foreign)
    assert found == [Result.DENIED, Result.NOT_TRIED, Result.NOT_TRIED]
    assert sum(outcome.is_surprise for outcome in outcomes.values()) == 1
    if server.kind == "mysql":  # MariaDB takes those first whose number it may compare at once
        assert {outcomes[id_of(client)].result for client in mine} == {Result.NOT_TRIED}
    assert alive(foreign) == [True] * 3


def test_a_session_that_mariadb_cannot_compare_is_spared(
    server: Server, crowd: Callable[..., list[Client]]
) -> None:
    (mine,), (foreign,) = crowd(1), crowd(1, "app2")
    with ending(server) as (look, end):
        sessions = look([foreign, mine])
        assert results(end(sessions)) == [Result.USED, Result.ENDED]
    assert alive([foreign, mine]) == [True, False]


def test_a_number_that_is_shared_with_a_session_nobody_showed_us(
    server: Server, crowd: Callable[..., list[Client]]
) -> None:
    """An application without PROCESS looks for itself: it sees its own sessions only."""
    mine, foreign = crowd(2), crowd(1, "app2")
    with ending(server) as (look, _end):
        for client in (*mine, *foreign):
            client.ping(reconnect=False)
        sessions = look(mine)
        assert sessions[0].activity == look(foreign)[0].activity
        login = from_dsn(server.dsn("app", PASSWORD))
        killer = open_connection(login, several_statements=True)
        found = results(MariaDBEnder(killer, sessions[:1]).end(sessions[:1]))
        killer.close()
    assert found == [Result.ENDED]
    assert alive([*mine, *foreign]) == [False, True, True]


@pytest.mark.every_engine
def test_mysql_compares_in_the_kills_own_packet_where_it_may(
    server: Server, crowd: Callable[..., list[Client]]
) -> None:
    if server.kind == "mariadb":
        pytest.skip("MariaDB compares in another way")
    for ender in (InTwoTrips, InOnePacket):
        clients = crowd(3)
        with ending(server) as (look, end):
            sessions = look(clients)
            run(clients[1], "SELECT 2")
            assert results(end(sessions)) == [Result.ENDED, Result.USED, Result.ENDED]
            assert isinstance(end.ender, ender)
        assert alive(clients) == [False, True, False]
        server.execute("GRANT SELECT ON performance_schema.* TO 'app'@'%'")


def test_a_batch_of_many_ends_all_but_those_in_use(
    server: Server, crowd: Callable[..., list[Client]]
) -> None:
    clients = crowd(120)
    used = {55, 60, 61}
    with ending(server) as (look, end):
        sessions = look(clients)
        for index in used:
            run(clients[index], "SELECT 2")
        outcomes = end(sessions)
        assert isinstance(end.ender, MariaDBEnder)
    assert [o.session.id for o in outcomes] == [s.id for s in sessions]
    assert {i for i, o in enumerate(outcomes) if o.result is Result.USED} == used
    assert sum(o.result is Result.ENDED for o in outcomes) == 117
    assert {i for i, lives in enumerate(alive(clients)) if lives} == used


def test_a_statement_that_the_server_cannot_read_is_a_surprise(
    server: Server, crowd: Callable[..., list[Client]]
) -> None:
    clients = crowd(2)
    with ending(server) as (look, _end):
        sessions = look(clients)
        login = from_dsn(server.dsn("app", PASSWORD))
        killer = open_connection(login, several_statements=True)
        outcomes = MariaDBEnder(killer, sessions, lambda target: f"NONSENSE {target}").end(sessions)
        killer.close()
    assert sorted(results(outcomes)) == [Result.FAILED, Result.NOT_TRIED]
    assert alive(clients) == [True, True]


# ---- the command ----


@pytest.mark.every_engine
def test_a_dry_run_ends_nothing_and_execute_ends_what_it_showed(
    server: Server, crowd: Callable[..., list[Client]], reap: Unhang, tmp_path: Path
) -> None:
    assert reap().code == 0
    idle = crowd(5, "app", "SELECT 'secret', 4711")
    (foreign,) = crowd(1, "app2")
    (held,) = crowd(1, "app", "BEGIN", "INSERT INTO t VALUES (1)")
    (locker,) = crowd(1, "app", "SELECT GET_LOCK('cron', 0)")
    time.sleep(SETTLED)
    dry = reap("--format", "json")
    assert dry.code == 1
    assert len(ids(dry.json())) == 3
    assert {reasons(dry.json())[id_of(c)] for c in (held, locker)} == {"transaction", "locks"}
    assert alive([*idle, foreign, held, locker]) == [True] * 8
    assert not (tmp_path / ".unhang" / "reaped.jsonl").exists()
    time.sleep(SETTLED)
    told = reap()
    assert "dry run" in told.text
    assert "3 sessions could be ended" in told.text
    assert "in a transaction" in told.text
    done = reap("--execute")
    assert done.code == 0, done
    assert "3 sessions ended" in done.text
    assert "all gone when listed again" in done.text
    # The two used last are kept warm.
    assert alive([*idle, foreign, held, locker]) == [False] * 3 + [True] * 5

    audit = tmp_path / ".unhang" / "reaped.jsonl"
    assert stat.S_IMODE(audit.stat().st_mode) == 0o600
    assert (tmp_path / ".unhang" / ".gitignore").read_text() == "*\n"
    text = audit.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["event"] for line in lines] == ["ending"] * 3 + ["result"] * 3 + ["proof"]
    ended = sorted(id_of(c) for c in idle[:3])
    assert sorted(line["before"]["id"] for line in lines[:3]) == ended
    assert {line["result"] for line in lines[3:6]} == {"ended"}
    assert lines[6]["gone"] == ended
    assert lines[6]["still_there"] == []
    for secret in ("secret", "4711", PASSWORD):
        assert secret not in text + done.text


def test_the_application_alone_ends_its_own_without_any_privilege(
    server: Server, crowd: Callable[..., list[Client]], unhang: Unhang
) -> None:
    clients = crowd(3)
    time.sleep(SETTLED)
    dsn = server.dsn("app", PASSWORD)
    ran = unhang("reap", "--dsn", dsn, *QUICK, *UNSHOWN, "--keep", "0", "--execute")
    assert ran.code == 0, ran
    assert alive(clients) == [False] * 3


@pytest.mark.every_engine
def test_a_login_that_may_not_end_others_is_told_so(
    server: Server, crowd: Callable[..., list[Client]], reap: Unhang
) -> None:
    clients = crowd(3)
    time.sleep(SETTLED)
    ran = reap("--keep", "0", "--execute", "--as-login")
    assert ran.code == 5, ran
    assert "does not let this account end session" in ran.text
    assert alive(clients) == [True] * 3


def test_an_administrators_login_ends_accounts_whose_password_is_unknown(
    server: Server, crowd: Callable[..., list[Client]], unhang: Unhang
) -> None:
    (foreign,), (mine,) = crowd(1, "app2"), crowd(1)
    time.sleep(SETTLED)
    where = ("--dsn", server.dsn("app", PASSWORD), "--login", server.dsn())
    more = (*where, "--account", "app2", "--keep", "0", "--execute")
    refused = unhang("reap", *QUICK, *UNSHOWN, *more)
    assert refused.code == 2
    assert "The password of app2 is not known" in refused.text
    assert "--as-login" in refused.text
    ran = unhang("reap", *QUICK, *UNSHOWN, *more, "--as-login")
    assert ran.code == 0, ran
    assert alive([foreign, mine]) == [False, True]
    root = unhang("reap", *QUICK, *UNSHOWN, *more, "--as-login", "--account", "root")
    assert root.code == 0
    assert "0 sessions ended" in root.text


def test_a_stop_file_refuses_and_stops(
    server: Server, crowd: Callable[..., list[Client]], reap: Unhang, tmp_path: Path
) -> None:
    clients = crowd(8)
    stop = tmp_path / ".unhang" / "reap.stop"
    stop.parent.mkdir()
    stop.touch()
    refused = reap("--execute")
    assert refused.code == 4
    assert "reap.stop" in refused.text
    assert reap().code in (0, 1), "a dry run may look"
    stop.unlink()
    time.sleep(SETTLED)
    with started(tmp_path, server, "--execute", "--rate", "2", "--keep", "0") as process:
        audit = tmp_path / ".unhang" / "reaped.jsonl"
        wait_until(lambda: audit.exists() and '"result"' in audit.read_text(), 20)
        stop.touch()
        out, _err = process.communicate(timeout=20)
    assert process.returncode == 5
    assert "stop file" in out
    left = sum(alive(clients))
    assert 0 < left < 8
    assert json.loads(audit.read_text().splitlines()[-1])["event"] == "proof"


@contextlib.contextmanager
def started(folder: Path, server: Server, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    login = server.dsn(INSPECTOR, PASSWORD)
    dsn = server.dsn("app", PASSWORD)
    where = ["reap", "--dsn", dsn, "--login", login]
    rules = [*QUICK, *accepting(server), *arguments]
    process = subprocess.Popen(
        [sys.executable, "-m", "unhang", *where, *rules],
        cwd=folder,
        env=os.environ | {"COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_reaper_is_refused_while_one_leads(
    server: Server, crowd: Callable[..., list[Client]], reap: Unhang
) -> None:
    clients = crowd(3)
    time.sleep(SETTLED)
    leader: Client = server.connect(INSPECTOR, PASSWORD)
    run(leader, "SELECT GET_LOCK('unhang:reaper', 0)")
    ran = reap("--execute", "--keep", "0")
    assert ran.code == 4
    assert f"session {id_of(leader)}" in ran.text
    assert alive(clients) == [True] * 3
    leader.close()


@pytest.mark.every_engine
def test_one_that_is_named_is_ended_even_in_a_transaction(
    server: Server, crowd: Callable[..., list[Client]], reap: Unhang
) -> None:
    (held,) = crowd(1, "app", "BEGIN", "INSERT INTO t VALUES (1)")
    (foreign,), (busy,) = crowd(1, "app2"), crowd(1)
    busy._execute_command(3, "SELECT SLEEP(20)")  # type: ignore[attr-defined] # nobody waits for it
    named = ("--session", str(id_of(held)))
    assert reap(*named).code == 1
    for other in (foreign, busy):
        ran = reap("--session", str(id_of(other)), "--execute", "--format", "json")
        assert ran.code == 0
        assert not ids(ran.json())
        assert id_of(other) in reasons(ran.json())
    gone = reap("--session", "999999999", "--execute")
    assert gone.code == 4
    assert "no session 999999999" in gone.text
    assert alive([held, foreign]) == [True, True]
    # It worked since, and that is after the look; so it is looked at again.
    ran = reap(*named, *named, "--execute")
    assert ran.code == 0, ran
    assert "1 session ended" in ran.text
    assert alive([held, foreign]) == [False, True]


def test_accounts_are_matched_letter_for_letter(
    server: Server, crowd: Callable[..., list[Client]], reap: Unhang
) -> None:
    odd = ["APP", "ap", "app_"]
    for name in odd:
        server.create_account(name, PASSWORD, database="app")
    others = [crowd(1, name)[0] for name in odd]
    mine = crowd(1)
    time.sleep(SETTLED)
    ran = reap("--execute", "--keep", "0")
    assert ran.code == 0, ran
    assert alive(mine) == [False]
    assert alive(others) == [True] * len(odd)


@pytest.mark.parametrize("name", ["a'b", "%", "[red]x"])
def test_an_account_with_an_odd_name_ends_its_own(
    server: Server, crowd: Callable[..., list[Client]], name: str, unhang: Unhang
) -> None:
    with contextlib.closing(server.connect()) as root, root.cursor() as cursor:
        cursor.execute("DROP USER IF EXISTS %s@'%%'", (name,))
        cursor.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", (name, PASSWORD))
        cursor.execute("GRANT ALL ON app.* TO %s@'%%'", (name,))
    odd, mine = crowd(2, name), crowd(2)
    time.sleep(SETTLED)
    dsn = server.dsn(name, PASSWORD)
    ran = unhang("reap", "--dsn", dsn, *QUICK, *UNSHOWN, "--keep", "0", "--execute")
    assert ran.code == 0, ran
    assert "2 sessions ended" in ran.text
    assert name in ran.text
    assert alive([*odd, *mine]) == [False, False, True, True]


def test_two_accounts_of_a_project_are_ended_each_over_its_own_login(
    server: Server, project: Project, crowd: Callable[..., list[Client]], unhang: Unhang
) -> None:
    text = project.settings_file.read_text()
    project.settings_file.write_text(
        text + 'DATABASES["report"] = {**DATABASES["default"], "USER": "app2"}\n'
    )
    clients = crowd(2) + crowd(2, "app2")
    time.sleep(SETTLED)
    login = ("--login", server.dsn(INSPECTOR, PASSWORD))
    ran = unhang("reap", *login, *QUICK, *UNSHOWN, "--execute", "--keep", "1")
    assert ran.code == 0, ran
    assert "2 sessions ended" in ran.text
    assert alive(clients) == [False, True, False, True]


# ---- what protects everybody ----


def test_unknown_locks_protect_everybody(
    server: Server, crowd: Callable[..., list[Client]], reap: Unhang
) -> None:
    clients = crowd(3)
    time.sleep(SETTLED)
    server.execute("UNINSTALL SONAME 'metadata_lock_info'")
    try:
        ran = reap("--execute", "--keep", "0")
    finally:
        server.execute("INSTALL SONAME 'metadata_lock_info'")
    assert ran.code == 0
    assert "--accept-unknown locks" in ran.text
    assert alive(clients) == [True] * 3


def test_what_mariadb_does_not_show_protects_until_it_is_vouched_for(
    server: Server, crowd: Callable[..., list[Client]], unhang: Unhang
) -> None:
    clients = crowd(3)
    time.sleep(SETTLED)
    login = server.dsn(INSPECTOR, PASSWORD)
    for accepted in ((), UNSHOWN[:2], UNSHOWN[2:], ("--accept-unknown", "locks")):
        where = ("--dsn", server.dsn("app", PASSWORD), "--login", login)
        ran = unhang("reap", *where, *QUICK, *accepted, "--keep", "0")
        assert ran.code == 0, ran
        assert "Nothing could be ended" in ran.text
    assert alive(clients) == [True] * 3


def test_an_idle_time_that_is_too_short_is_refused(
    server: Server, project: Project, unhang: Unhang
) -> None:
    ran = unhang("reap", "--idle", "59s", "--execute")
    assert ran.code == 4, ran
    assert "60 s is the least" in ran.text
    extra = project.settings_file.read_text().replace('"NAME"', '"CONN_MAX_AGE": None, "NAME"')
    project.settings_file.write_text(extra)
    ran = unhang("reap", "--idle", "1d")
    assert ran.code == 4
    assert "CONN_HEALTH_CHECKS" in ran.text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--idle", "x"), "no duration"),
        (("--gap", "-1"), "no duration"),
        (("--every", "soon"), "no duration"),
        (("--accept-unknown", "foo"), "foo is not something that can be unknown"),
        (("--providers", "missing.toml"), "No such file"),
        (("--account", "nobody", "--execute"), "The password of nobody is not known"),
        (("--rate", "nan"), "Invalid value"),
        (("--rate", "inf"), "Invalid value"),
        (("--keep", "-1"), "Invalid value"),
        (("--most", "0"), "Invalid value"),
        (("--session", "1", "--every", "1"), "--every"),
        (("--from", "none.json"), "none.json"),
        (("--from", "none.json", "--execute"), "--execute"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    any_server: Server, arguments: tuple[str, ...], text: str, unhang: Unhang
) -> None:
    ran = unhang("reap", "--dsn", any_server.dsn(), *arguments)
    assert ran.code == 2, ran
    assert text in ran.text


def test_nobody_is_ended_where_no_record_can_be_written(
    server: Server, crowd: Callable[..., list[Client]], reap: Unhang, tmp_path: Path
) -> None:
    clients = crowd(3)
    time.sleep(SETTLED)
    (tmp_path / ".unhang").mkdir()
    for make in (lambda f: f.mkdir(), lambda f: (f.rmdir(), f.symlink_to("/dev/full"))):
        make(tmp_path / ".unhang" / "reaped.jsonl")
        ran = reap("--execute", "--keep", "0")
        assert ran.code == 2, ran
        assert alive(clients) == [True] * 3
        time.sleep(SETTLED)


def test_a_login_that_leads_to_another_server_ends_nobody(
    server: Server, any_server: Server, crowd: Callable[..., list[Client]], unhang: Unhang
) -> None:
    clients = crowd(3)
    time.sleep(SETTLED)
    more = ("--login", any_server.dsn(), "--execute", "--keep", "0")
    more = ("--dsn", server.dsn("app", PASSWORD), *more)
    ran = unhang("reap", *QUICK, *UNSHOWN, *more, "--accept-unknown", "locks")
    assert ran.code == 4, ran
    assert "Two servers" in ran.text
    assert alive(clients) == [True] * 3


# ---- saved looks ----


@pytest.mark.every_engine
def test_saved_diagnoses_are_judged_as_a_round_would(
    server: Server, crowd: Callable[..., list[Client]], tmp_path: Path, unhang: Unhang
) -> None:
    clients = crowd(4)
    time.sleep(SETTLED)
    files = []
    for name in ("one.json", "two.json"):
        where = ("--dsn", server.dsn("app", PASSWORD), "--login", server.dsn(INSPECTOR, PASSWORD))
        ran = unhang("diagnose", *where, "--format", "json")
        files.append(tmp_path / name)
        files[-1].write_text(ran.out)
        time.sleep(0.2)
    first, second = (("--from", str(file)) for file in files)

    def replayed(*more: str) -> list[int]:
        account = () if "--account" in more else ("--account", "app")
        ran = unhang("reap", *more, *account, *QUICK, *accepting(server), "--format", "json")
        assert ran.code == (1 if ids(ran.json()) else 0)
        return ids(ran.json())

    wanted = sorted(id_of(client) for client in clients[:2])
    assert replayed(*first) == wanted
    assert replayed(*first, *second) == wanted
    assert replayed(*first, *first) == [], "no time between the looks"
    assert replayed(*first, "--account", "root", "--account", INSPECTOR) == []
    assert alive(clients) == [True] * 4


# ---- what hides, and what stands still ----


@pytest.fixture
def mysql(shared: Callable[[str], Server], request: pytest.FixtureRequest) -> Server:
    from unhang.lab import available_engines

    if "mysql97" not in available_engines():
        pytest.skip("no MySQL server here: make servers")
    server = shared("mysql97")
    server.create_account("app", PASSWORD, database="app")
    return server


@pytest.fixture
def chosen(unhang: Unhang, mysql: Server) -> Callable[[], set[int]]:
    """Whom a dry run on MySQL would end."""

    def call() -> set[int]:
        login = ("--dsn", mysql.dsn("app", PASSWORD), "--login", mysql.dsn(INSPECTOR, PASSWORD))
        ran = unhang("reap", *login, *QUICK, "--keep", "0", "--format", "json")
        return set(ids(ran.json()))

    return call


def test_a_thread_that_is_not_instrumented_is_unknown(
    mysql: Server, chosen: Callable[[], set[int]]
) -> None:
    with contextlib.closing(mysql.connect("app", PASSWORD, "app")) as hidden:
        run(hidden, "SELECT 1")
        mysql.execute(
            "UPDATE performance_schema.threads SET INSTRUMENTED = 'NO' WHERE PROCESSLIST_ID = %s",
            id_of(hidden),
        )
        run(hidden, "BEGIN")
        time.sleep(SETTLED)
        assert chosen() == set()
        with ending(mysql) as (look, end):
            (seen,) = look([hidden])
            assert (seen.activity, seen.empty_transaction, seen.xa) == (None, None, None)
            assert results(end([seen])) == [Result.USED]


@pytest.mark.parametrize("consumer", ["thread_instrumentation", "events_statements_current"])
def test_with_a_consumer_off_nothing_is_certain(
    mysql: Server, chosen: Callable[[], set[int]], consumer: str
) -> None:
    switch = "UPDATE performance_schema.setup_consumers SET ENABLED = %s WHERE NAME = %s"
    with contextlib.closing(mysql.connect("app", PASSWORD, "app")) as client:
        run(client, "SELECT 1")
        mysql.execute(switch, "NO", consumer)
        try:
            run(client, "BEGIN")
            time.sleep(SETTLED)
            assert chosen() == set()
            with ending(mysql) as (look, end):
                assert results(end(look([client]))) == [Result.USED]
        finally:
            mysql.execute(switch, "YES", consumer)


def test_a_table_that_a_function_made_is_not_overlooked(
    mysql: Server, chosen: Callable[[], set[int]]
) -> None:
    mysql.execute("SET GLOBAL log_bin_trust_function_creators = 1")
    mysql.execute("DROP FUNCTION IF EXISTS app.makes")
    mysql.execute(
        "CREATE FUNCTION app.makes() RETURNS INT BEGIN"
        " CREATE TEMPORARY TABLE IF NOT EXISTS app.made (n INT) ENGINE=MEMORY; RETURN 1; END"
    )
    clients = [mysql.connect("app", PASSWORD, "app") for _ in range(3)]
    with contextlib.ExitStack() as stack:
        for client in clients:
            stack.callback(client.close)
        run(clients[0], "SELECT makes()")
        run(clients[1], "SELECT 1")
        run(clients[2], "CREATE TEMPORARY TABLE t (n INT) ENGINE=MEMORY")
        time.sleep(SETTLED)
        assert chosen() == {id_of(clients[1])}
        # Emptied counts are no proof of innocence.
        mysql.execute(
            "TRUNCATE performance_schema.events_statements_summary_by_thread_by_event_name"
        )
        assert chosen() == set()


def test_a_statement_that_began_while_we_looked_is_seen(mysql: Server) -> None:
    """The threads are listed before their statements are."""
    with contextlib.closing(mysql.connect("app", PASSWORD, "app")) as client:
        run(client, "SELECT 1")
        worker = threading.Thread(target=run, args=(client, "SELECT SLEEP(1)"))
        with ending(mysql) as (look, end):
            with pytest.MonkeyPatch.context() as patch:
                real = Sources.rows

                def rows(self: Sources, sql: str) -> Any:
                    if "events_statements_current" in sql and not worker.is_alive():
                        worker.start()
                        time.sleep(0.2)
                    return real(self, sql)

                patch.setattr(Sources, "rows", rows)
                (seen,) = look([client])
            assert seen.command == "Query"
            assert results(end([seen])) == [Result.USED]
        worker.join()


def test_a_copy_of_the_transactions_that_a_monitor_keeps_old_is_not_believed(
    server: Server, crowd: Callable[..., list[Client]], reap: Unhang
) -> None:
    (client,) = crowd(1)
    done = threading.Event()

    def poll() -> None:
        with contextlib.closing(server.connect()) as monitor:
            while not done.wait(0.03):
                run(monitor, "SELECT COUNT(*) FROM information_schema.INNODB_TRX")

    monitor = threading.Thread(target=poll)
    monitor.start()
    try:
        time.sleep(0.3)
        run(client, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
        time.sleep(SETTLED)
        document = reap("--keep", "0", "--format", "json").json()
    finally:
        done.set()
        monitor.join()
    assert ids(document) == []
    assert reasons(document)[id_of(client)] == "transaction"  # it is one, or it is unknown


def test_a_statement_that_is_still_arriving_is_not_cut_off(
    server: Server, crowd: Callable[..., list[Client]], reap: Unhang
) -> None:
    """On MariaDB such a session looks asleep; its memory grew between the two looks."""
    client, other = crowd(2)
    packet = b"\x03SELECT '" + b"x" * 3_000_000 + b"'"
    header = len(packet).to_bytes(3, "little") + b"\x00"
    stop = threading.Event()

    def send() -> None:
        stop.wait(0.7)  # the first look is over
        client._sock.sendall(header + packet[:200_000])  # type: ignore[attr-defined]
        for start in range(200_000, 2_000_000, 100_000):
            if stop.wait(0.1):
                return
            client._sock.sendall(packet[start : start + 100_000])  # type: ignore[attr-defined]

    sender = threading.Thread(target=send)
    time.sleep(SETTLED)
    sender.start()
    try:
        document = reap("--keep", "0", "--gap", "1.5s", "--format", "json").json()
    finally:
        stop.set()
        sender.join()
    assert ids(document) == [id_of(other)]
    assert reasons(document)[id_of(client)] == "unused"


def test_a_named_one_is_compared_without_touching_others(
    server: Server, crowd: Callable[..., list[Client]]
) -> None:
    """A number that a ping took may be somebody else's next one."""
    pinging, working = crowd(2)
    errors: list[Exception] = []
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            try:
                run(working, "SELECT SLEEP(0.02)")
            except pymysql.err.MySQLError as error:
                errors.append(error)
                return

    def ping() -> None:
        with contextlib.suppress(pymysql.err.MySQLError):
            while not done.wait(0.001):
                pinging.ping(reconnect=False)

    threads = [threading.Thread(target=work), threading.Thread(target=ping)]
    for thread in threads:
        thread.start()
    with ending(server) as (look, end):
        for _ in range(40):
            (seen,) = look([pinging])
            if end([seen])[0].result is Result.ENDED:
                break
    done.set()
    for thread in threads:
        thread.join()
    assert errors == []


# ---- again and again ----


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_daemon_ends_with_ctrl_c_or_as_a_service(
    server: Server, crowd: Callable[..., list[Client]], tmp_path: Path, number: signal.Signals
) -> None:
    clients = crowd(4)
    more = ("--execute", "--every", "0.3s", "--keep", "1", "--format", "json")
    with started(tmp_path, server, *more) as process:
        wait_until(lambda: _count(server) == 2, 20)  # the one kept, and its own
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in err
    assert alive(clients) == [False, False, False, True]
    assert all(json.loads(line)["command"] == "reap" for line in out.splitlines())


def _count(server: Server) -> int:
    """Sessions of the application, its killer among them."""
    sql = "SELECT COUNT(*) AS n FROM information_schema.PROCESSLIST WHERE USER = 'app'"
    return int(server.execute(sql)[0]["n"])


def test_the_stop_file_ends_the_daemon_though_nobody_is_to_be_ended(
    server: Server, tmp_path: Path
) -> None:
    with started(tmp_path, server, "--execute", "--every", "0.1s") as process:
        assert process.stdout
        process.stdout.readline()
        (tmp_path / ".unhang" / "reap.stop").touch()
        _out, err = process.communicate(timeout=20)
    assert process.returncode == 4
    assert "reap.stop" in err


def test_the_daemon_survives_a_lost_connection(
    server: Server, crowd: Callable[..., list[Client]], tmp_path: Path
) -> None:
    """Its lead is lost with it, and so is the first look."""
    with started(tmp_path, server, "--execute", "--every", "0.3s", "--keep", "0") as process:
        for user in (INSPECTOR, "app"):
            wait_until(lambda user=user: _sessions(server, user) != [], 20)
            for number in _sessions(server, user):
                with contextlib.suppress(pymysql.err.OperationalError):  # it reconnects by itself
                    server.execute(f"KILL {number}")
        clients = crowd(2)
        wait_until(lambda: _count(server) <= 1 and _sessions(server, INSPECTOR) != [], 20)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Trying again" in err
    assert alive(clients) == [False, False]


def _sessions(server: Server, user: str) -> list[int]:
    sql = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = %s AND COMMAND = 'Sleep'"
    return [int(row["ID"]) for row in server.execute(sql, user)]


def test_the_daemon_survives_a_restart_of_the_server(tmp_path: Path, any_engine: str) -> None:
    with lab.server(any_engine, max_connections=50) as server:
        server.execute("INSTALL SONAME 'metadata_lock_info'")
        server.create_account(INSPECTOR, PASSWORD, ["PROCESS ON *.*"])
        server.create_account("app", PASSWORD, database="app")
        with started(tmp_path, server, "--execute", "--every", "0.3s", "--keep", "0") as process:
            wait_until(lambda: _count(server) == 1, 20)
            server.restart()
            client: Client = server.connect("app", PASSWORD, "app")
            wait_until(lambda: _is_gone(server, id_of(client)), 30)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            _out, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Trying again" in err
        client.close()
