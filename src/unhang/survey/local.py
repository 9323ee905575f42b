"""Sockets and processes of this host: one look at all of them, however many sessions there are."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

import psutil

from unhang.openers.program import container_in, program_of
from unhang.openers.recorder import pid_namespace

_TABLES: Final = ("/proc/net/tcp", "/proc/net/tcp6")


@dataclass(frozen=True, slots=True)
class Process:
    """What runs under one process id of this host."""

    program: str
    container: str = ""


@dataclass(frozen=True, slots=True)
class Sockets:
    """The clients' ends of connections to one server.

    Attributes:
        pids: By the client's port, the processes that hold the socket. More than one after a fork;
            none where the system does not tell us.
    """

    pids: Mapping[int, tuple[int, ...]]


class Host(Protocol):
    """This host, as far as the owners of sessions need it; tests have one of their own."""

    pid_namespace: str

    def is_here(self, host: str) -> bool:
        """Whether the server means this host by that name or address."""

    def sockets(self, server_port: int | None) -> Sockets:
        """TCP connections from this host to a server at that port; any port if it is unknown."""

    def process(self, pid: int) -> Process | None:
        """What runs there; `None` if nothing does."""


class ThisHost:
    """The host that unhang runs on."""

    def __init__(self) -> None:
        self.pid_namespace = pid_namespace()
        self._processes: dict[int, Process | None] = {}

    @cached_property
    def _names(self) -> frozenset[str]:
        found = {"localhost", "ip6-localhost", socket.gethostname()}
        for addresses in psutil.net_if_addrs().values():
            found |= {a.address.partition("%")[0] for a in addresses if a.address}
        return frozenset(name.lower() for name in found)

    def is_here(self, host: str) -> bool:
        """By the addresses of its interfaces, and its name."""
        name = host.lower().removeprefix("::ffff:")
        return name in self._names or name.startswith("127.") or name == "::1"

    def sockets(self, server_port: int | None) -> Sockets:
        """In one pass over the processes that this user may look at."""
        tables = [path for name in _TABLES if (path := Path(name)).exists()]
        if tables:
            inodes = _ports_by_inode(tables, server_port)
            return Sockets(_holders(inodes) if inodes else {})
        return Sockets(_as_psutil_says(server_port))

    def process(self, pid: int) -> Process | None:
        """Asked once a process."""
        if pid not in self._processes:
            self._processes[pid] = _process(pid)
        return self._processes[pid]


def _ports_by_inode(tables: Sequence[Path], server_port: int | None) -> dict[str, int]:
    """From the kernel's list of TCP sockets, those whose other end is the server's port."""
    wanted = None if server_port is None else f"{server_port:04X}"
    found = {}
    for table in tables:
        with contextlib.suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                words = line.split(maxsplit=10)
                # 0 is nobody's any more.
                if words[2][-4:] == (wanted or words[2][-4:]) and words[9] != "0":
                    found[words[9]] = int(words[1][-4:], 16)
    return found


def _holders(inodes: Mapping[str, int]) -> dict[int, tuple[int, ...]]:
    """Which processes hold these sockets. psutil asks for much more, and takes twice as long."""
    pids: dict[int, set[int]] = {port: set() for port in inodes.values()}
    for pid in psutil.pids():
        for link in _links(f"/proc/{pid}/fd"):
            if link.startswith("socket:[") and (port := inodes.get(link[8:-1])):
                pids[port].add(pid)
    return {port: tuple(sorted(found)) for port, found in pids.items()}


def _links(folder: str) -> Iterator[str]:
    """Where the links in a folder lead; none where it is another user's, or gone."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for name in os.listdir(fd):  # noqa: PTH208 - a path object a link takes four times as long
            try:
                yield os.readlink(name, dir_fd=fd)
            except OSError:  # closed meanwhile
                continue
    finally:
        os.close(fd)


def _as_psutil_says(server_port: int | None) -> dict[int, tuple[int, ...]]:
    """Where there is no /proc."""
    pids: defaultdict[int, set[int]] = defaultdict(set)
    with contextlib.suppress(psutil.Error, OSError):
        for link in psutil.net_connections(kind="tcp"):
            remote = getattr(link.raddr, "port", None)
            if remote is not None and server_port in (None, remote):
                holders = pids[getattr(link.laddr, "port", 0)]
                if link.pid is not None:
                    holders.add(link.pid)
    return {port: tuple(sorted(found)) for port, found in pids.items()}


def _process(pid: int) -> Process | None:
    try:
        process = psutil.Process(pid)
        # Other users may read a command line, too; where even that is hidden, the name is left.
        try:
            program = program_of(process.cmdline()) or process.name()
        except psutil.AccessDenied:
            program = process.name()
    except psutil.Error:
        return None
    container = ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        container = container_in(Path("/proc", str(pid), "cgroup").read_text())
    # A process may call itself anything.
    return Process("".join(c if c.isprintable() else "?" for c in program), container)


def is_root() -> bool:
    """Whether every process can be looked at."""
    return os.geteuid() == 0
