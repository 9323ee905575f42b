"""Django's and Celery's signals: a connection is opened, a request or a task begins and ends."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from django.core.signals import request_finished, request_started
from django.db.backends.signals import connection_created

from unhang.mysql import drivers
from unhang.openers import recorder, work
from unhang.openers.program import management_command
from unhang.openers.recorder import Recorder
from unhang.openers.stack import Places, thread_name

logger = logging.getLogger("unhang.openers")

_UID = "unhang.openers"


def connect(run_dir: Path, project: Path) -> None:
    """Write down each connection from now on.

    Args:
        project: Its folder; lines of code are told from there.
    """
    is_command = management_command(sys.argv) not in ("", "runserver")
    own = Recorder(run_dir, is_command=is_command)
    recorder.start(own)
    connection_created.connect(_Opened(own, Places(project)), weak=False, dispatch_uid=_UID)
    request_started.connect(work.begin_request, weak=False, dispatch_uid=_UID)
    request_finished.connect(work.end_request, weak=False, dispatch_uid=_UID)
    # A worker of Celery has imported it by now. For anybody else it is not worth the import.
    if "celery" in sys.modules:
        _Tasks().connect()


def disconnect() -> None:
    """Stop, and remove this process's file."""
    for signal in (connection_created, request_started, request_finished):
        signal.disconnect(dispatch_uid=_UID)
    own = recorder.active()
    recorder.start(None)
    if own is not None:
        own.close()


class _Opened:
    """Receiver of `connection_created`."""

    def __init__(self, own: Recorder, places: Places) -> None:
        self._recorder = own
        self._places = places
        self._is_broken = False

    def __call__(self, connection: Any, **_kwargs: object) -> None:
        raw = connection.connection
        # Our own backend's virtual connection is nobody's session: the pool tells its own.
        if connection.vendor != "mysql" or type(raw).__module__.startswith("unhang."):
            return
        if self._is_broken:
            return
        try:
            age = getattr(connection, "settings_dict", {}).get("CONN_MAX_AGE", "")
            self._note(raw, connection.alias, str(age))
        except Exception:  # a driver that we do not know: the application must go on
            self._is_broken = True
            logger.warning("unhang: cannot tell who opens connections", exc_info=True)

    def _note(self, raw: Any, alias: str, conn_max_age: str) -> None:
        frame = sys._getframe(2)
        self._recorder.note(
            raw,
            session_id=_session_id(raw),
            alias=alias,
            port=drivers.local_port(drivers.file_descriptor(raw)),
            thread=thread_name(frame),
            code=self._places.code_of(frame),
            work=work.current_work(),
            conn_max_age=conn_max_age,
        )


def _session_id(raw: Any) -> int:
    # The drivers' own name for it; Oracle's connector has an attribute.
    ask = getattr(raw, "thread_id", None)
    return int(ask() if ask is not None else raw.connection_id)


class _Tasks:
    """Receivers of Celery's signals around each task."""

    def __init__(self) -> None:
        self._before: dict[str, work.Work | None] = {}

    def connect(self) -> None:
        """From now on."""
        from celery.signals import task_postrun, task_prerun

        task_prerun.connect(self.enter, weak=False, dispatch_uid=_UID)
        task_postrun.connect(self.leave, weak=False, dispatch_uid=_UID)

    def enter(self, task_id: str = "", task: Any = None, **_kwargs: object) -> None:
        """A task begins."""
        self._before[task_id] = work.enter_task(getattr(task, "name", ""))

    def leave(self, task_id: str = "", **_kwargs: object) -> None:
        """It has ended."""
        if task_id in self._before:
            work.leave_task(self._before.pop(task_id))
