"""Who holds a lease: a thread or a greenlet, noticed when it ends.

An owner is kept in a `threading.local`, which loses it when its thread ends, long before the next
garbage collection. Under gevent's monkey patching the same local is one a greenlet.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from unhang.pool.connection import PooledConnection


class Owner:
    """One thread or greenlet, and the connections it holds at the moment."""

    __slots__ = ("__weakref__", "_greenlet", "held", "ident", "name")

    def __init__(self) -> None:
        self.held: set[PooledConnection] = set()
        self.ident = threading.get_ident()
        self.name = threading.current_thread().name
        self._greenlet = _current_greenlet()

    def frame(self) -> FrameType | None:
        """Where it runs now, innermost frame first; `None` if that cannot be seen."""
        greenlet = self._greenlet() if self._greenlet is not None else None
        if greenlet is not None:
            frame: FrameType | None = greenlet.gr_frame
            return frame
        return sys._current_frames().get(self.ident)

    def ended(self) -> None:
        """Hand in what is still held. Called from `__del__`: takes no lock."""
        for connection in list(self.held):
            connection.pool.abandon(connection)


class _Anchor:
    """Lives in the thread's local storage alone, so it goes when the thread goes."""

    __slots__ = ("owner",)

    def __init__(self) -> None:
        self.owner = Owner()

    def __del__(self, _is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if not _is_ending():  # at the end of the process the modules are gone, and so is the need
            self.owner.ended()


_local = threading.local()


def current_owner() -> Owner:
    """The owner that stands for the running thread or greenlet."""
    try:
        owner: Owner = _local.owner
    except AttributeError:
        _local.anchor = _Anchor()
        owner = _local.owner = _local.anchor.owner
    return owner


def forget_all() -> None:
    """Start afresh in a forked child: its one thread holds nothing any more."""
    global _local
    _local = threading.local()


def _current_greenlet() -> Any:
    module = sys.modules.get("greenlet")
    if module is None:
        return None
    greenlet = module.getcurrent()
    return weakref.ref(greenlet) if greenlet.parent is not None else None


_NOT_THE_APPLICATION: Final = tuple(
    os.path.normpath(path) + os.sep
    for path in {
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
        os.path.dirname(os.path.dirname(os.path.abspath(__file__))),  # noqa: PTH120, PTH100
    }
)


def place(frame: FrameType | None) -> str:
    """The application's own line of code in this stack, as `shop/views.py:88 in report`.

    The innermost frame outside the standard library, the installed packages and unhang; if there
    is none, the innermost of all. Empty when there is no frame.
    """
    if frame is None:
        return ""
    own = (f for f in _outwards(frame) if not f.f_code.co_filename.startswith(_NOT_THE_APPLICATION))
    found = next(own, frame)
    folder, file = os.path.split(found.f_code.co_filename)
    short = os.path.join(os.path.basename(folder), file)  # noqa: PTH118, PTH119
    return f"{short}:{found.f_lineno} in {found.f_code.co_name}"


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
