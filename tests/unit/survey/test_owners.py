"""Whose session is it? The sources, merged."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from support.surveys import an_alias
from unhang.openers.program import program_of
from unhang.openers.recorder import Recorder, pid_namespace
from unhang.survey import owners
from unhang.survey.local import Process, Sockets, ThisHost
from unhang.survey.model import Unseen
from unhang.survey.owners import with_owners
from unhang.survey.proxies import PROXIES, where_to_ask
from unhang.survey.session import Owner, Session


@dataclass
class FakeHost:
    """Addresses, sockets by port, and processes, as a test wants them."""

    pids: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    programs: Mapping[int, str] = field(default_factory=dict)
    pid_namespace: str = field(default_factory=pid_namespace)
    passes: int = 0

    def is_here(self, host: str) -> bool:
        return host in ("localhost", "127.0.0.1")

    def sockets(self, server_port: int | None) -> Sockets:
        self.passes += 1
        return Sockets(self.pids)

    def process(self, pid: int) -> Process | None:
        return Process(self.programs[pid]) if pid in self.programs else None


class Connection:
    open = True


@pytest.fixture
def note(tmp_path: Path) -> Iterator[Callable[..., None]]:
    own = Recorder(tmp_path / "run")
    held = []

    def one(session_id: int, alias: str = "default", port: int = 0, **values: Any) -> None:
        held.append(Connection())
        own.note(held[-1], session_id=session_id, alias=alias, port=port, **values)

    yield one
    own.close()


def session(session_id: int = 7, host: str = "127.0.0.1", **values: Any) -> Session:
    given = {"user": "shop", "database": "shop", "command": "Sleep", "seconds": 1.0} | values
    return Session(id=session_id, host=host, **given)


@pytest.fixture
def owner_of(tmp_path: Path) -> Callable[..., Owner | None]:
    def one(asked: Session, **values: Any) -> Owner | None:
        given = {"aliases": (an_alias(),), "host": FakeHost(), "unseen": pytest.fail} | values
        (found,) = with_owners([asked], run_dir=tmp_path / "run", **given)
        assert replace(found, owner=None) == asked
        return found.owner

    return one


OwnerOf = Callable[..., Owner | None]
Note = Callable[..., None]


def test_nothing_is_known_of_a_stranger(owner_of: OwnerOf) -> None:
    assert owner_of(session(host="10.0.0.7", port=5)) is None


# -- what the application wrote down --------------------------------------------------------------


def test_the_application_says_which_line_and_what_for(note: Note, owner_of: OwnerOf) -> None:
    note(7, thread="MainThread", code="shop/views.py:88", work="GET /")
    owner = owner_of(session())
    assert owner is not None
    assert owner.known_by == ("owner file",)
    assert (owner.pid, owner.thread) == (os.getpid(), "MainThread")
    assert (owner.code, owner.work) == ("shop/views.py:88", "GET /")
    assert owner.program == program_of(sys.orig_argv)
    assert owner.container == ""


@pytest.mark.parametrize(
    ("asked", "aliases"),
    [
        (session(8), ("default",)),
        (session(7), ("replica",)),
        (session(7, user="backup"), ("default",)),
        (session(7, port=41_000), ("default",)),
        (session(7), ()),
    ],
)
def test_another_number_alias_account_or_port_is_another_session(
    note: Note, owner_of: OwnerOf, asked: Session, aliases: Sequence[str]
) -> None:
    note(7, port=40_000, code="shop/views.py:88")
    assert owner_of(asked, aliases=tuple(an_alias(name) for name in aliases)) is None


def test_the_same_port_or_none_at_all_is_the_same_session(note: Note, owner_of: OwnerOf) -> None:
    note(7, port=40_000)
    assert owner_of(session(port=40_000)) is not None
    assert owner_of(session()) is not None  # the server does not tell ports


def test_one_number_of_two_projects_is_told_apart_by_the_port(
    note: Note, owner_of: OwnerOf
) -> None:
    """Two projects with one run directory, each with a server of its own."""
    note(7, port=40_000, code="shop/views.py:88")
    note(7, port=50_000, code="blog/views.py:5")
    owner = owner_of(session(port=40_000))
    assert owner is not None
    assert owner.code == "shop/views.py:88"


def test_what_is_older_than_the_server_is_of_another_life(note: Note, owner_of: OwnerOf) -> None:
    note(7)
    assert owner_of(session(), server_uptime=0) is not None
    assert owner_of(session(), server_uptime=-30.0) is None  # started half a minute from now


def test_a_process_of_another_container_keeps_its_own_name_for_itself(
    note: Note, owner_of: OwnerOf
) -> None:
    note(7)
    far = FakeHost(programs={os.getpid(): "somebody else"}, pid_namespace="pid:[1]")
    owner = owner_of(session(), host=far)
    assert owner is not None
    assert owner.program == program_of(sys.orig_argv)


def test_files_that_may_not_be_read_are_named(
    tmp_path: Path, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(7)
    monkeypatch.setattr(owners, "read_all", lambda _dir: ((), (owners_closed(tmp_path),)))
    told: list[Unseen] = []
    with_owners([session()], unseen=told.append, run_dir=tmp_path / "run", host=FakeHost())
    assert ["belongs to user 33" in entry.why for entry in told] == [True]


def owners_closed(path: Path) -> Any:
    from unhang.openers import NotReadable

    return NotReadable(path, 33)


# -- sockets --------------------------------------------------------------------------------------


def test_the_holder_of_the_socket_is_the_owner(owner_of: OwnerOf) -> None:
    host = FakeHost({40_000: (50,)}, {50: "celery -A shop worker"})
    owner = owner_of(session(port=40_000), host=host)
    assert owner == Owner(("socket",), 50, "celery -A shop worker")


def test_the_same_port_of_another_host_is_not_looked_up(owner_of: OwnerOf) -> None:
    host = FakeHost({40_000: (50,)}, {50: "celery"})
    assert owner_of(session(host="10.0.0.7", port=40_000), host=host) is None
    assert host.passes == 0


def test_many_sessions_need_one_look_at_the_sockets() -> None:
    host = FakeHost(dict.fromkeys(range(5000), (50,)), {50: "celery"})
    asked = [session(number, port=number) for number in range(1, 2000)]
    found = with_owners(asked, unseen=pytest.fail, host=host)
    assert host.passes == 1
    assert all(entry.owner for entry in found)


def test_file_and_socket_confirm_each_other(note: Note, owner_of: OwnerOf) -> None:
    note(7, port=40_000, code="shop/views.py:88")
    host = FakeHost({40_000: (os.getpid(),)}, {os.getpid(): "gunicorn shop.wsgi"})
    owner = owner_of(session(port=40_000), host=host)
    assert owner is not None
    assert owner.known_by == ("owner file", "socket")
    assert (owner.program, owner.code) == ("gunicorn shop.wsgi", "shop/views.py:88")


def test_the_socket_wins_over_a_file_that_names_another_process(
    note: Note, owner_of: OwnerOf
) -> None:
    note(7, port=40_000, code="shop/views.py:88")
    owner = owner_of(session(port=40_000), host=FakeHost({40_000: (50,)}, {50: "feed"}))
    assert owner == Owner(("socket",), 50, "feed")


def test_processes_that_are_hidden_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "is_root", lambda: False)
    told: list[Unseen] = []
    host = FakeHost({40_000: (), 40_001: ()})
    asked = [session(1, port=40_000), session(2, port=40_001), session(3, port=40_002)]
    with_owners(asked, unseen=told.append, host=host)
    assert [entry.what for entry in told] == ["which processes of this host own 2 sessions"]
    assert "root" in told[0].why


def test_real_sockets_are_paired_by_the_clients_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0] as end:
            ours = client.getsockname()[1]
            found = with_owners(
                [session(1, port=ours), session(2, port=port)],
                unseen=pytest.fail,
                server_port=port,
            )
            other = ThisHost().sockets(1)
            assert end.getpeername()[1] == ours
    assert found[0].owner is not None
    assert found[0].owner.pid == os.getpid()
    assert found[1].owner is None  # that is the server's own end
    assert other.pids == {}


def test_this_host_knows_itself() -> None:
    host = ThisHost()
    assert all(map(host.is_here, ("localhost", "127.0.0.1", "::1", socket.gethostname())))
    assert not host.is_here("192.0.2.1")
    process = host.process(os.getpid())
    assert process is not None
    assert "py" in process.program
    assert host.process(2**22 + 1) is None


def test_a_process_cannot_command_the_terminal_by_its_name() -> None:
    code = "print('ready', flush=True); input()"
    with subprocess.Popen(
        ["\x1b[2Jevil\nCRITICAL", "-c", code],
        executable=sys.executable,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as evil:
        assert evil.stdout is not None
        evil.stdout.readline()
        process = ThisHost().process(evil.pid)
        evil.communicate("\n")
    assert process == Process("?[2Jevil?CRITICAL", process.container if process else "")


# -- connect attributes ---------------------------------------------------------------------------


def test_a_process_id_from_this_host_leads_to_its_program(owner_of: OwnerOf) -> None:
    host = FakeHost(programs={77: "python manage.py close_day"})
    owner = owner_of(session(host="localhost"), attributes={7: {"_pid": "77"}}, host=host)
    assert owner == Owner(("connect attributes",), 77, "python manage.py close_day")


def test_a_process_id_from_elsewhere_is_only_told(owner_of: OwnerOf) -> None:
    host = FakeHost(programs={77: "python manage.py close_day"})
    said = {7: {"_pid": "77", "program_name": "mysqldump"}}
    owner = owner_of(session(host="10.0.0.7"), attributes=said, host=host)
    assert owner == Owner(("connect attributes",), 77, "mysqldump")


@pytest.mark.parametrize("said", [{}, {"_pid": "x"}, {"_client_name": "libmariadb"}])
def test_attributes_that_name_nobody_say_nothing(
    owner_of: OwnerOf, said: Mapping[str, str]
) -> None:
    assert owner_of(session(host="10.0.0.7"), attributes={7: said}) is None


# -- proxies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "said", "name"),
    [
        ("shop", {"program_name": "proxysql"}, "ProxySQL"),
        ("shop", {"_client_name": "MaxScale"}, "MaxScale"),
        ("rdsproxyadmin", {}, "RDS Proxy"),
        ("mysql_router1_k2x9", {}, "MySQL Router"),
    ],
)
def test_a_proxy_is_known_by_its_account_or_by_what_it_says(
    owner_of: OwnerOf, user: str, said: Mapping[str, str], name: str
) -> None:
    owner = owner_of(session(host="10.0.0.7", user=user), attributes={7: said})
    assert owner is not None
    assert (owner.proxy, owner.known_by) == (name, ("proxy",))


def test_the_numbers_of_a_proxy_that_counts_itself_are_not_ours(
    note: Note, owner_of: OwnerOf
) -> None:
    note(7, port=40_000, code="shop/views.py:88")
    host = FakeHost({50_000: (9,)}, {9: "proxysql -f"})
    assert owner_of(session(port=50_000), host=host) == Owner(("proxy",), 9, proxy="ProxySQL")


def test_behind_a_proxy_that_only_passes_bytes_on_the_owner_is_known(
    note: Note, owner_of: OwnerOf
) -> None:
    note(7, port=40_000, code="shop/views.py:88")
    host = FakeHost({50_000: (9,)}, {9: "haproxy -f x"})
    owner = owner_of(session(port=50_000), host=host)
    assert owner is not None
    assert (owner.proxy, owner.code) == ("HAProxy", "shop/views.py:88")
    assert owner.pid == os.getpid()


def test_every_proxy_has_a_place_to_ask() -> None:
    assert "stats_mysql_processlist" in where_to_ask("ProxySQL")
    assert "maxctrl list sessions" in where_to_ask("MaxScale")
    assert all(proxy.name in where_to_ask(proxy.name) for proxy in PROXIES)
