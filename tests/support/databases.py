"""Django's wrappers of the backend under test, on a private server."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import django
from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from unhang.lab import Server
from unhang.pool import Pool

if not settings.configured:
    settings.configure()
if not apps.ready:
    django.setup()

USER, PASSWORD, NAME = "app", "p%w#1", "shop"


class Database:
    """One schema on one server, and wrappers that lead there."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._wrappers: list[Any] = []
        server.execute(f"CREATE DATABASE IF NOT EXISTS {NAME}")
        server.create_account(USER, PASSWORD)

    def settings(self, **changes: Any) -> dict[str, Any]:
        """An entry of DATABASES, as Django completes it."""
        return {
            "ENGINE": "unhang.backends.mysql",
            "NAME": NAME,
            "USER": USER,
            "PASSWORD": PASSWORD,
            "HOST": self.server.host,
            "PORT": str(self.server.port),
            "OPTIONS": {},
            "CONN_MAX_AGE": 0,
            "CONN_HEALTH_CHECKS": False,
            "AUTOCOMMIT": True,
            "ATOMIC_REQUESTS": False,
            "TIME_ZONE": None,
            "TEST": {},
            **changes,
        }

    def wrapper(
        self, alias: str = "default", options: dict[str, Any] | None = None, **pool: Any
    ) -> Any:
        """A wrapper, as a thread would get it; the same settings lead to the same pool."""
        from unhang.backends.mysql.base import DatabaseWrapper

        all_options = {**(options or {}), **({"pool": pool} if pool else {})}
        made = DatabaseWrapper(self.settings(OPTIONS=all_options), alias)
        self._wrappers.append(made)
        return made

    def wrapper_with(self, alias: str = "default", **changes: Any) -> Any:
        """A wrapper with other entries of DATABASES changed."""
        from unhang.backends.mysql.base import DatabaseWrapper

        made = DatabaseWrapper(self.settings(**changes), alias)
        self._wrappers.append(made)
        return made

    def tables(self) -> None:
        """Fresh tables: ten accounts with 100 each, and an empty log."""
        for statement in (
            "DROP TABLE IF EXISTS shop.account",
            "DROP TABLE IF EXISTS shop.entry",
            "CREATE TABLE shop.account (id INT PRIMARY KEY, balance INT NOT NULL) ENGINE=InnoDB",
            "CREATE TABLE shop.entry (id INT PRIMARY KEY AUTO_INCREMENT, "
            "note VARCHAR(100), UNIQUE(note)) ENGINE=InnoDB",
            "INSERT INTO shop.account VALUES " + ", ".join(f"({n}, 100)" for n in range(10)),
        ):
            self.server.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query, seen by somebody else."""
        return [tuple(row.values()) for row in self.server.execute(query)]

    def processes(self) -> list[tuple[int, str, str]]:
        """Id, command and statement of the application's sessions."""
        found = self.rows(
            "SELECT id, command, COALESCE(info, '') FROM information_schema.processlist "
            f"WHERE user = '{USER}'"
        )
        return [(int(number), command, str(text)) for number, command, text in found]

    def sessions(self) -> list[int]:
        """The ids of the application's sessions."""
        return [number for number, _, _ in self.processes()]

    def kill_all(self) -> int:
        """End every session of the application. Returns how many."""
        ids = self.sessions()
        for number in ids:
            self.server.execute(f"KILL {number}")
        until(lambda: not set(ids) & set(self.sessions()))
        return len(ids)

    def value(self, query: str) -> Any:
        """The first value of a query, seen by somebody else."""
        return self.rows(query)[0][0]

    def close(self) -> None:
        """Close every pool that was made."""
        for wrapper in self._wrappers:
            with contextlib.suppress(DatabaseError):  # those of other threads go with them
                wrapper.close()
            pool = wrapper.pool
            wrapper.forget_pool()
            if pool is not None:
                until(lambda p=pool: p.size == p.stats().leased)  # type: ignore[misc]


def fetch(wrapper: Any, query: str, args: Any = None) -> Any:
    """Run a query the way an application does; all rows."""
    with wrapper.cursor() as cursor:
        cursor.execute(query, args)
        return cursor.fetchall()


def one(wrapper: Any, query: str, args: Any = None) -> Any:
    """The first value of a query."""
    return fetch(wrapper, query, args)[0][0]


def run(wrapper: Any, query: str, args: Any = None) -> int:
    """Run a statement; the number of rows."""
    with wrapper.cursor() as cursor:
        cursor.execute(query, args)
        return int(cursor.rowcount)


_connection_of = transaction.get_connection


def _wrapper_or_alias(using: Any = None) -> Any:
    return using if isinstance(using, BaseDatabaseWrapper) else _connection_of(using)


# `transaction.atomic()` takes aliases of DATABASES only; these tests bring wrappers of their own.
transaction.get_connection = _wrapper_or_alias


def atomic(wrapper: Any, *, savepoint: bool = True, durable: bool = False) -> Any:
    """`transaction.atomic()` on a wrapper that is not one of `django.db.connections`."""
    return transaction.Atomic(wrapper, savepoint, durable)


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something that the server or another thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it never happened")
        time.sleep(0.01)


def in_thread(work: Callable[[], Any]) -> Any:
    """Run it in a thread of its own; its result, or the exception it ended with."""
    results: list[Any] = []

    def run_it() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            results.append(error)

    thread = threading.Thread(target=run_it)
    thread.start()
    thread.join(60)
    return results[0]


def at_once(works: Sequence[Callable[[], Any]], seconds: float = 60.0) -> list[Any]:
    """Run each in a thread of its own, all at the same time; their results in the same order.

    Raises:
        BaseException: What the first one that failed had raised.
    """
    results: list[Any] = [None] * len(works)
    failures: list[BaseException] = []

    def run_one(number: int) -> None:
        try:
            results[number] = works[number]()
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    threads = [threading.Thread(target=run_one, args=(n,)) for n in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    if failures:
        raise failures[0]
    return results


def pool_of(wrapper: Any) -> Pool:
    """The pool behind a wrapper."""
    pool: Pool = wrapper.pool
    return pool


def session_ids(wrapper: Any) -> list[int]:
    """What the server calls the connections of a pool."""
    return [c.raw.connection.thread_id() for c in pool_of(wrapper).connections()]
