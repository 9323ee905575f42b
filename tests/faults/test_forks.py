"""A fork with a live pool: parent and child each get their own answers."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError

from support.databases import Database, atomic, fetch, one, pool_of, run, session_ids
from unhang import lab
from unhang.lab import Server

# Python 3.12 and later warn of any fork in a process with threads; these are about just that.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


@pytest.fixture(scope="module", params=["tcp", "socket"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def fork_server() -> Iterator[Server]:
    with lab.server("mariadb", max_connections=60) as server:
        yield server


@pytest.fixture
def forked(fork_server: Server, transport: str) -> Iterator[Callable[[], Any]]:
    made = Database(fork_server)
    made.tables()
    host = fork_server.host if transport == "tcp" else str(fork_server.socket)
    yield lambda: made.wrapper_with(HOST=host)
    made.close()


def in_a_child(work: Callable[[], Any]) -> Any:
    """Run it in a forked child; its result or exception comes back through a pipe."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            result: Any = work()
        except BaseException as error:  # noqa: BLE001 - told to the parent
            result = RuntimeError(repr(error))
        with os.fdopen(write, "wb") as answer:
            pickle.dump(result, answer)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        result = pickle.load(answer)  # noqa: S301 - from our own child
    os.waitpid(child, 0)
    if isinstance(result, RuntimeError):
        raise result
    return result


def test_a_fork_with_idle_connections_gives_right_answers_on_both_sides(
    forked: Callable[[], Any],
) -> None:
    wrapper = forked()
    assert one(wrapper, "SELECT 1") == 1
    before = session_ids(wrapper)

    def ask() -> tuple[list[int], list[int]]:
        own = forked()  # a wrapper belongs to its thread; the pool is the same
        answers = [one(own, "SELECT %s", [n]) for n in range(200)]
        return answers, session_ids(own)

    results: list[Any] = []
    others = [threading.Thread(target=lambda: results.append(in_a_child(ask))) for _ in range(2)]
    for other in others:
        other.start()
    mine = [one(wrapper, "SELECT %s", [1000 + n]) for n in range(200)]
    for other in others:
        other.join(30)
    assert mine == [1000 + n for n in range(200)]
    assert [answers for answers, _ in results] == [list(range(200))] * 2
    sessions = [set(ids) for _, ids in results]
    assert not sessions[0] & sessions[1]
    assert session_ids(wrapper) == before, "the parent keeps its own session"


def test_a_fork_inside_a_transaction_leaves_it_to_the_parent(forked: Callable[[], Any]) -> None:
    wrapper = forked()

    def child() -> str:
        with pytest.raises(OperationalError, match="lost"):
            run(wrapper, "UPDATE account SET balance = 0 WHERE id = 5")
        # As Django does it when the block ends, or a worker starts its own business.
        wrapper.in_atomic_block = False
        wrapper.close()
        return str(one(wrapper, "SELECT SUM(balance) FROM account"))

    with atomic(wrapper):
        run(wrapper, "UPDATE account SET balance = 50 WHERE id = 1")
        assert in_a_child(child) == "1000", "the child sees what is committed"
        run(wrapper, "UPDATE account SET balance = 150 WHERE id = 2")
    assert dict(fetch(wrapper, "SELECT id, balance FROM account WHERE id IN (1, 2, 5)")) == {
        1: 50,
        2: 150,
        5: 100,
    }


def test_a_child_that_exits_normally_does_not_end_the_parents_sessions(
    forked: Callable[[], Any],
) -> None:
    wrapper = forked()
    assert one(wrapper, "SELECT 1") == 1
    before = session_ids(wrapper)
    child = os.fork()
    if child == 0:
        # Through finalisers and the garbage collector, unlike os._exit() alone.
        import gc

        pool_of(wrapper).close()
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    time.sleep(0.1)
    assert one(wrapper, "SELECT 2") == 2
    assert session_ids(wrapper) == before


def test_a_fork_while_other_threads_query_gives_right_answers(forked: Callable[[], Any]) -> None:
    stop = threading.Event()
    wrong: list[Any] = []

    def busy(base: int) -> None:
        wrapper, n = forked(), base
        while not stop.is_set():
            n += 1
            if one(wrapper, "SELECT %s", [n]) != n:
                wrong.append(n)

    threads = [threading.Thread(target=busy, args=(10_000 * n,)) for n in range(1, 4)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.1)
        wrapper = forked()
        for _ in range(5):
            answers = in_a_child(lambda: [one(wrapper, "SELECT %s", [n]) for n in range(50)])
            assert answers == list(range(50))
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert not wrong


def test_a_program_that_is_executed_does_not_inherit_connections(
    forked: Callable[[], Any],
) -> None:
    wrapper = forked()
    assert one(wrapper, "SELECT 1") == 1
    number = pool_of(wrapper).connections()[0].raw._fd
    look = f"import os, sys\ntry: os.fstat({number})\nexcept OSError: print('closed')"
    done = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, close_fds=False
    )
    assert done.stdout.strip() == "closed"
