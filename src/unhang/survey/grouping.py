"""Sessions with one owner, told as one: who has them, at which line, in what kind of threads."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from unhang.i18n import _, ngettext
from unhang.survey.session import Owner, Session

_NAMED_RANGES: Final = 4
_NO_OWNER: Final = Owner(())

# Servers whose command line is the same for the master and each worker.
_WORKERS: Final = ("gunicorn", "uwsgi", "celery", "uvicorn", "hypercorn", "granian", "daphne")

_EXECUTOR: Final = re.compile(r"ThreadPoolExecutor-\d+_\d+")
_PLAIN: Final = re.compile(r"Thread-\d+(?: \((?P<target>.+)\))?")
_NUMBER: Final = re.compile(r"[-_ #]?\d+(?:[-_]\d+)*$")
# Whose thread it is, as the owner file adds it to the name; see `unhang.openers.stack`.
_HELD_BY: Final = re.compile(r"(?P<name>.+) \((?P<by>asgiref|gunicorn|executor)\)")


@dataclass(frozen=True, slots=True)
class OwnerGroup:
    """Sessions that one piece of code of one program opened.

    Attributes:
        label: Whose they are: `gunicorn workers 412–415`, or `app at 10.0.0.7` if
            no more is known.
        code: Line of the application, `shop/views.py:88`; empty when it is not known.
        threads: Kind of thread that opened them: `executor threads`; empty when it is not known.
        work: What they were opened for: `GET /product/7/ and 2 more`; empty when it is not known.
    """

    label: str
    code: str
    threads: str
    work: str
    sessions: tuple[Session, ...]


_Key = tuple[str, str, str, str, str, str, str, str]


def owner_groups(sessions: Sequence[Session]) -> tuple[OwnerGroup, ...]:
    """All sessions by their owner, the biggest group first.

    Together are those of one user at one host whose program (with all its worker processes),
    container, proxy, line of code, kind of thread and pool are the same.
    """
    grouped: defaultdict[_Key, list[Session]] = defaultdict(list)
    for session in sessions:
        grouped[_key(session)].append(session)
    made = [_group(members) for members in grouped.values()]
    return tuple(sorted(made, key=lambda g: (-len(g.sessions), g.label, g.code, g.threads)))


def _key(session: Session) -> _Key:
    owner = session.owner or _NO_OWNER
    return (
        session.user,
        session.host,
        owner.program,
        owner.container,
        owner.proxy,
        owner.code,
        thread_kind(owner.thread),
        owner.pool,
    )


def _group(members: list[Session]) -> OwnerGroup:
    first = members[0]
    owner = first.owner or _NO_OWNER
    threads = thread_kind(owner.thread)
    if owner.pool:
        threads = _("kept by the pool {name}").format(name=owner.pool)
    owners = [s.owner for s in members if s.owner is not None]
    pids = sorted({o.pid for o in owners if o.pid is not None})
    return OwnerGroup(
        label=_label(first, owner, pids),
        code=owner.code,
        threads=threads,
        work=_work(o.work for o in owners if o.work),
        sessions=tuple(members),
    )


def _label(session: Session, owner: Owner, pids: Sequence[int]) -> str:
    where = _("{user} at {host}").format(user=session.user, host=session.host)
    if owner.proxy:
        return _("{proxy} for {account}").format(
            proxy=owner.proxy, account=where if session.host else session.user
        )
    if not owner.program and not pids:
        return where if session.host else session.user
    label = _named(owner.program, pids)
    if owner.container:
        label = _("{program} in {container}").format(program=label, container=owner.container)
    # A name that only the driver gave may be that of a process on any host.
    if not {"owner file", "socket"} & set(owner.known_by) and session.host:
        label = _("{program} at {host}").format(program=label, host=session.host)
    return label


def _named(program: str, pids: Sequence[int]) -> str:
    numbers = pid_ranges(pids)
    name = program.partition(" ")[0]
    if not pids:
        return program
    if not program:
        return ngettext("process {pids}", "processes {pids}", len(pids)).format(pids=numbers)
    if name in _WORKERS:
        words = ngettext("{program} worker {pids}", "{program} workers {pids}", len(pids))
        return words.format(program=name, pids=numbers)
    words = ngettext("{program} (pid {pids})", "{program} (pids {pids})", len(pids))
    return words.format(program=program, pids=numbers)


def pid_ranges(pids: Iterable[int]) -> str:
    """Process ids for people: `412–415, 420`, and at most a handful of ranges."""
    ranges: list[list[int]] = []
    for pid in sorted(set(pids)):
        if ranges and pid == ranges[-1][-1] + 1:
            ranges[-1].append(pid)
        else:
            ranges.append([pid])
    shown = [_range(run) for run in ranges[:_NAMED_RANGES]]
    hidden = sum(len(run) for run in ranges[_NAMED_RANGES:])
    if hidden:
        shown.append(_("{n} more").format(n=hidden))
    return ", ".join(shown)


def _range(run: Sequence[int]) -> str:
    if len(run) == 2:
        return f"{run[0]}, {run[1]}"
    return str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}"


@lru_cache(maxsize=16_384)
def thread_kind(name: str) -> str:
    """What kind of thread has this name: those of one executor, or of one function, are alike."""
    if not name:
        return ""
    if held := _HELD_BY.fullmatch(name):
        if held["by"] == "gunicorn":
            return _("request threads")
        if held["by"] == "asgiref":
            return _("asgiref's threads")
        return _("executor threads named {name}").format(name=_NUMBER.sub("", held["name"]))
    if name == "MainThread":
        return _("main thread")
    if _EXECUTOR.fullmatch(name):
        return _("executor threads")
    if plain := _PLAIN.fullmatch(name):
        if plain["target"] == "process_request_thread":  # socketserver: Django's runserver
            return _("request threads")
        return _named_threads(plain["target"]) if plain["target"] else _("unnamed threads")
    if name.startswith("asyncio_"):
        return _("asyncio's executor threads")
    if name.startswith("Dummy-"):
        return _("threads not made by Python")
    return _named_threads(_NUMBER.sub("", name) or name)


def _named_threads(name: str) -> str:
    return _("threads named {name}").format(name=name)


def _work(works: Iterable[str]) -> str:
    counted = Counter(works)
    if not counted:
        return ""
    commonest = min(counted, key=lambda work: (-counted[work], work))
    if len(counted) == 1:
        return commonest
    return _("{work} and {n} more").format(work=commonest, n=len(counted) - 1)
