"""Which line of the application is behind a call, and in what kind of thread."""

from __future__ import annotations

import importlib.util
import re
import sys
import sysconfig
import threading
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Final, Literal

_Kind = Literal["application", "package", "plumbing"]

PLUMBING: Final = frozenset(
    # Django and we; drivers; pools; what serves, runs tasks, and switches threads.
    {"django", "unhang", "MySQLdb", "pymysql", "mysql", "mariadb", "asyncmy", "aiomysql"}
    | {"dj_db_conn_pool", "django_db_geventpool", "sqlalchemy", "dbutils", "django_mysql"}
    | {"gunicorn", "uvicorn", "hypercorn", "daphne", "granian", "waitress", "cheroot"}
    | {"celery", "billiard", "kombu", "vine", "gevent", "greenlet", "eventlet", "asgiref"}
    | {"sentry_sdk", "newrelic", "ddtrace", "opentelemetry", "wrapt", "debugpy", "coverage"}
)
"""Packages that open connections, or call the application, on somebody's behalf."""

_STARTERS: Final = frozenset({"manage.py", "wsgi.py", "asgi.py"})
"""Every stack begins there: they say nothing."""

_LONGEST: Final = 80
_EXECUTOR: Final = "/concurrent/futures/thread.py"
_PLAIN: Final = "ThreadPoolExecutor-"
_HOLDERS: Final = re.compile(r"/(asgiref|gunicorn)/")


class Places:
    """Tells whose code a file is. What was found out is kept: a process has few files.

    Args:
        project: Its folder; names of the application's files are told from there.
    """

    def __init__(self, project: Path | None = None) -> None:
        self._seen: dict[str, tuple[_Kind, str]] = {}
        self._roots = [f"{project}/"] if project else []
        names = {name: _folder(sysconfig.get_path(name)) for name in sysconfig.get_path_names()}
        self._library = [names[n] for n in ("stdlib", "platstdlib") if n in names]
        # A package may be imported from elsewhere than site-packages: an editable install.
        self._plumbing = [
            folder
            for package in ("django", "unhang", "asgiref")
            if (folder := _home(package)) is not None
        ]

    def code_of(self, frame: FrameType | None) -> str:
        """The innermost line of the application, `shop/views.py:88`; else of a package that is not
        plumbing; else nothing."""
        package = ""
        seen = self._seen
        while frame is not None:
            name = frame.f_code.co_filename
            kind, shown = seen.get(name) or self._look(name)
            if kind == "application":
                return f"{shown}:{frame.f_lineno}"
            if kind == "package" and not package:
                package = f"{shown}:{frame.f_lineno}"
            frame = frame.f_back
        return package

    def _look(self, name: str) -> tuple[_Kind, str]:
        self._seen[name] = found = self._told(name)
        return found

    def _told(self, name: str) -> tuple[_Kind, str]:
        if name.startswith("<") or name.rpartition("/")[2] in _STARTERS:
            return "plumbing", name
        for marker in ("/site-packages/", "/dist-packages/"):
            if marker in name:
                inside = name.rpartition(marker)[2]
                package = inside.partition("/")[0].removesuffix(".py")
                return ("plumbing" if package in PLUMBING else "package"), inside
        if name.startswith((*self._library, *self._plumbing)):
            return "plumbing", name
        return "application", self._from_root(name)

    def _from_root(self, name: str) -> str:
        roots = self._roots + [f"{path}/" for path in sys.path if path]
        fitting = [root for root in roots if name.startswith(root)]
        return name[len(max(fitting, key=len)) :] if fitting else name


def thread_name(frame: FrameType | None) -> str:
    """Name of the current thread, and whose it is where the name does not say: Python gives the
    threads of all executors the same names, and one with a name looks like any thread."""
    name = threading.current_thread().name[:_LONGEST]
    if name == "MainThread":
        return name
    executor = False
    while frame is not None:
        holder = _holder(frame.f_code.co_filename)
        if holder == "executor":
            executor = True
        elif holder:
            return f"{name} ({holder})"
        frame = frame.f_back
    return f"{name} (executor)" if executor and not name.startswith(_PLAIN) else name


@lru_cache(maxsize=4096)
def _holder(file: str) -> str:
    if file.endswith(_EXECUTOR):
        return "executor"
    found = _HOLDERS.search(file)
    return found[1] if found else ""


def _folder(path: str) -> str:
    return f"{path}/"


def _home(package: str) -> str | None:
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    places = found.submodule_search_locations if found else None
    return _folder(str(next(iter(places)))) if places else None
