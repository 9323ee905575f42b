"""A private MariaDB or MySQL server for as long as a `with` block lasts.

It listens on 127.0.0.1 and on a unix socket, has a data directory of its own, reads an option file
that can be edited like a real one, and never outlives the process that started it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.lab import optionfile
from unhang.lab.binaries import Flavour, find_engine
from unhang.lab.client import Client
from unhang.lab.process import HOST, Guarded, Workspace, free_port, last_lines, wait_until
from unhang.lab.template import copy_template, place

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 20.0
_FREEZE_SECONDS: Final = 5.0
_PORT_ATTEMPTS: Final = 3


@contextmanager
def server(
    engine: str = "mariadb", *, options: Sequence[str] = (), **named: optionfile.Value
) -> Iterator[Server]:
    """A running server; it is gone, data and all, at the end of the block.

    Args:
        engine: A name from `available_engines()`.
        options: Server options as on a command line, such as `--general-log=1`.
        named: Server options by name: `wait_timeout=3`; `True` is a bare option, `False` its
            `skip-` form. All options go into the option file, as in real life.

    Raises:
        UsageProblem: There is no such engine, or it does not start with these options.
    """
    private = Server(find_engine(engine), [*optionfile.lines(named), *options])
    try:
        private.start()
        yield private
    finally:
        private.close()


class Server(Client):
    """One private server; `server()` makes it. How to talk to it is in `Client`.

    Attributes:
        engine: The flavour's name, such as `mariadb118`.
        kind: `mariadb` or `mysql`.
        host, port, socket: Where it listens.
        datadir, log_file: Its data directory and error log.
        option_file: Its own option file, read at every start; it holds the options asked for.
        option_dir: Drop-ins (`*.cnf`) here are read after the option file.
    """

    def __init__(self, flavour: Flavour, options: Sequence[str] = ()) -> None:
        self._workspace = Workspace()
        home = self._workspace.path
        super().__init__(flavour.kind, HOST, free_port(), str(home / "mysql.sock"), home / "data")
        self.engine = flavour.name
        self._flavour = flavour
        self.log_file = home / "error.log"
        self.option_file = home / "my.cnf"
        self.option_dir = home / "conf.d"
        self._tmpdir = home / "tmp"
        self._process: Guarded | None = None
        for directory in (self.datadir, self.option_dir, self._tmpdir):
            directory.mkdir(mode=0o700)
        self.option_file.write_text(optionfile.render(self.kind, options, self.option_dir))

    # -- life and death ---------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """The daemon's process id; when it is stopped, the one it had."""
        return self._started.pid

    @property
    def guardian_pid(self) -> int:
        """The process that ends the daemon when this process dies."""
        return self._started.guardian_pid

    @property
    def _started(self) -> Guarded:
        if self._process is None:
            raise UsageProblem(_("This server was never started."), cure=_("Call start() first."))
        return self._process

    def start(self) -> None:
        """Start the daemon (again) on the same data; returns when it lets root in.

        Raises:
            UsageProblem: It ended at once; the cure holds the end of its log.
        """
        if self.running:
            return
        first = self._process is None
        if first:
            copy_template(self._flavour, self.datadir)
        for _attempt in range(_PORT_ATTEMPTS):
            self._process = self._launch()
            wait_until(lambda: not self.running or self.answers(), _START_SECONDS)
            if self.running and self.answers():
                return
            # Somebody may take a port between our look and the daemon's bind. A later start keeps
            # its port: clients know it by then.
            if not (first and self._port_was_taken()):
                break
            self.port = free_port()
        self._started.end(grace=0)
        raise UsageProblem(
            _("The {engine} server did not start.").format(engine=self.engine),
            cure=last_lines(self.log_file),
        )

    def _launch(self) -> Guarded:
        # Only plumbing is on the command line: what is given here could not be changed by editing
        # the option file. --defaults-file must be first, and --no-defaults would make MySQL forget
        # SET PERSIST.
        command: list[str | Path] = [
            self._flavour.daemon,
            f"--defaults-file={self.option_file}",
            *place(self._flavour),
            f"--datadir={self.datadir}",
            f"--socket={self.socket}",
            f"--port={self.port}",
            f"--bind-address={self.host}",
            f"--pid-file={self._workspace.path / 'mysqld.pid'}",
            f"--log-error={self.log_file}",
            # Two servers that share the system's temporary folder get in each other's way.
            f"--tmpdir={self._tmpdir}",
        ]
        if self.kind == "mysql":
            command.append("--mysqlx=OFF")
        output = self._workspace.path / "output.log"
        return Guarded(command, log=output, remove=self._workspace.path)

    def _port_was_taken(self) -> bool:
        return "Address already in use" in last_lines(self.log_file)

    def stop(self) -> None:
        """Shut down in good order; the data stays, and the port is kept for `start()`."""
        if self.running:
            self._started.end(grace=_STOP_SECONDS)

    def restart(self) -> None:
        """Stop and start: same port, same data, option file read anew."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End the daemon with SIGKILL, as a crash does."""
        if self.running:
            self._started.end(grace=0)

    def close(self) -> None:
        """End the daemon and delete its data."""
        if not self._workspace.mine:
            return
        self.kill()
        self._workspace.close()

    # -- faults -----------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Refuse connections from now on, by the only honest way a server has: it is stopped."""
        self.stop()

    def accept(self) -> None:
        """Take connections again after `refuse()`."""
        self.start()

    def freeze(self) -> None:
        """Stop the daemon's process: its port accepts and nothing answers. `thaw()` ends it."""
        self._started.signal(signal.SIGSTOP)
        wait_until(lambda: self._status() == psutil.STATUS_STOPPED, _FREEZE_SECONDS)

    def thaw(self) -> None:
        """Let a frozen daemon go on."""
        self._started.signal(signal.SIGCONT)
        wait_until(lambda: self._status() != psutil.STATUS_STOPPED, _FREEZE_SECONDS)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Frozen inside the block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def _status(self) -> str:
        return psutil.Process(self.pid).status()

    def add_option(self, name: str, value: optionfile.Value = True) -> None:
        """Set an option in a drop-in file; it counts from the next start on."""
        with (self.option_dir / "10-added.cnf").open("a") as file:
            file.write(optionfile.drop_in(name, value))
