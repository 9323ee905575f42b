"""How many requests the application can run at once, from whoever knows it best."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.survey.model import Workers


def parse_workers(text: str) -> Workers:
    """`4x16` is 4 processes of 16 threads; `4` is 4 processes of one.

    Raises:
        UsageProblem: Something else was typed.
    """
    found = re.fullmatch(r"(\d+)(?:\s*[xX*]\s*(\d+))?", text.strip())
    if found is None or int(found[1]) < 1:
        raise UsageProblem(
            _("--workers {text!r} is not PROCESSES or PROCESSESxTHREADS.").format(text=text),
            cure=_("Example: --workers 4x16 for 4 processes of 16 threads each."),
        )
    return Workers(int(found[1]), int(found[2] or 1), "--workers")


def find_workers(
    option: str | None, unhang_settings: Mapping[str, Any], directory: Path | None
) -> Workers | None:
    """What the option says, else `UNHANG["WORKERS"]`, else gunicorn seen running this project."""
    if option:
        return parse_workers(option)
    if unhang_settings.get("WORKERS"):
        said = parse_workers(str(unhang_settings["WORKERS"]))
        return Workers(said.processes, said.threads, 'UNHANG["WORKERS"]')
    return _running_gunicorn(directory) if directory else None


def explicit_processes(unhang_settings: Mapping[str, Any]) -> int | None:
    """How many processes `UNHANG["WORKERS"]` says there are; `None` if it says nothing.

    Only a number that somebody wrote down can prove that every process was seen: what runs on this
    host at a moment may be half of it.

    Raises:
        UsageProblem: It says something else.
    """
    found = find_workers(None, unhang_settings, None)
    return found.processes if found else None


def _running_gunicorn(directory: Path) -> Workers | None:
    """The gunicorn masters of this host that run in the project's folder, counted together."""
    masters: list[tuple[int, int]] = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if not _is_gunicorn(command) or Path(process.cwd()) != directory:
                continue
            parent = process.parent()
            if parent and _is_gunicorn(parent.cmdline()):
                continue  # a worker; its master is counted
            environment = process.environ().get("GUNICORN_CMD_ARGS", "")
            said, threads = gunicorn_workers([*shlex.split(environment), *command])
            masters.append((said or _children(process), threads))
        except (psutil.Error, OSError, ValueError):
            continue  # gone, another user's, or started with what no shell would read
    if not masters:
        return None
    slots = sum(processes * threads for processes, threads in masters)
    processes = sum(processes for processes, _threads in masters)
    return Workers(processes, max(1, slots // processes), _("gunicorn seen on this host"))


def _children(master: psutil.Process) -> int:
    """The workers it has now; a configuration file or WEB_CONCURRENCY may have said how many."""
    alive = [p for p in master.children() if p.status() != psutil.STATUS_ZOMBIE]
    return max(1, len(alive))


def _is_gunicorn(command: Sequence[str]) -> bool:
    return any(Path(part).name == "gunicorn" for part in command[:2])


def gunicorn_workers(arguments: Sequence[str]) -> tuple[int | None, int]:
    """Processes and threads that a gunicorn command line asks for (later arguments win).

    Processes are `None` when it does not say: something else may, and the default is one.
    """
    text = " ".join(arguments)
    processes = re.findall(r"(?:^|\s)(?:-w\s*|--workers[=\s])(\d+)", text)
    threads = re.findall(r"(?:^|\s)--threads[=\s](\d+)", text)
    return int(processes[-1]) if processes else None, int(threads[-1]) if threads else 1
