"""Which processes of this host have a session's connection open: none any more, or several.

Only what is certain is told. A connection counts as shared when processes that run the same
command line have the same socket. A client counts as gone when the driver said its process and
that it connected to this host, a process of this host has the socket (a proxy), and neither that
process nor any other has the client's number.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from unhang.survey.model import Held
from unhang.survey.session import Session

_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1", "::ffff:127.0.0.1"})
_ESTABLISHED: Final = "01"
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")
Attributes = Mapping[int, Mapping[str, str]]
Pids = Mapping[int, frozenset[int]]


def read_held(
    sessions: Sequence[Session], attributes: Attributes, *, proc: Path = Path("/proc")
) -> tuple[Held, ...]:
    """Sessions from this host whose connection several processes have, or none any more.

    Args:
        attributes: What drivers said when they connected, by session; see `survey.sessions`.
        proc: The kernel's files on processes; nothing is told where there are none.
    """
    ports = {s.port: s.id for s in sessions if s.port is not None and s.host in _LOCAL}
    holders = _holders(ports, proc) if ports else {}
    if not holders:
        return ()
    return tuple(
        sorted(
            [*_shared(holders, proc), *_gone(_clients(attributes), holders, proc)],
            key=lambda held: held.session,
        )
    )


def _shared(holders: Pids, proc: Path) -> Iterable[Held]:
    for session, pids in holders.items():
        by_program: defaultdict[bytes, list[int]] = defaultdict(list)
        for pid in pids:
            # fork() keeps the program; another one inherited the socket and never uses it.
            by_program[_read(proc / str(pid) / "cmdline")].append(pid)
        for same in by_program.values():
            if len(same) > 1:
                yield Held(session, tuple(sorted(same)))


def _gone(clients: Mapping[int, int], holders: Pids, proc: Path) -> Iterable[Held]:
    for session, client in clients.items():
        pids = holders.get(session, frozenset())
        numbers = {number for pid in pids for number in _numbers(proc, pid)}
        if pids and client not in numbers and not (proc / str(client)).exists():
            yield Held(session, ())


def _numbers(proc: Path, pid: int) -> Iterable[int]:
    """A process's number here and in the containers that it is in."""
    found = re.search(rb"^NSpid:\s*(.*)$", _read(proc / str(pid) / "status"), re.MULTILINE)
    return {pid, *map(int, found[1].split())} if found else {pid}


def _clients(attributes: Attributes) -> dict[int, int]:
    """Session and process of each client that connected to an address of its own host."""
    return {
        session: int(said["_pid"])
        for session, said in attributes.items()
        if said.get("_server_host") in _LOCAL and said.get("_pid", "").isdecimal()
    }


def _holders(ports: Mapping[int, int], proc: Path) -> dict[int, frozenset[int]]:
    """Session to the processes that have the client's end of its connection."""
    inodes = {
        inode: ports[port] for port, inode in _sockets(proc) if port in ports and inode != "0"
    }
    found: defaultdict[int, set[int]] = defaultdict(set)
    for pid in filter(str.isdigit, os.listdir(proc) if inodes else []):  # noqa: PTH208 - 4× faster
        for link in _links(proc / pid / "fd"):
            if (socket := _SOCKET.fullmatch(link)) and socket[1] in inodes:
                found[inodes[socket[1]]].add(int(pid))
    return {session: frozenset(pids) for session, pids in found.items()}


def _sockets(proc: Path) -> Iterable[tuple[int, str]]:
    """Local port and inode of each TCP connection to this host."""
    for name in ("tcp", "tcp6"):
        for line in _read(proc / "net" / name).decode().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _ESTABLISHED:
                yield int(fields[1].rpartition(":")[2], 16), fields[9]


def _links(folder: Path) -> Iterator[str]:
    """What a process has open; nothing if it is another user's, or gone."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - 4× faster
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError):  # closed meanwhile, as our own look into it is
            yield os.readlink(folder / name)  # noqa: PTH115 - 4× faster


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
