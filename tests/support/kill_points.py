"""Dying by SIGKILL at every moment at which something may have changed.

A moment is before and after each call that touches the disk or the server: opening, writing,
syncing, renaming, deleting and cutting files, changing their mode and owner, and every SQL
statement. Between two of them only this process's memory changes, which dies with it; so these are
all moments that can be told apart afterwards.
"""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from pymysql.connections import Connection

CALLS = ("open", "write", "fsync", "replace", "unlink", "ftruncate", "chown", "chmod", "mkdir")


def dies_at(moment: int, action: Callable[[], None], kill: int = signal.SIGKILL) -> bool:
    """Run the action in a forked child that sends itself a signal at that moment.

    Returns:
        Whether there was such a moment; without it the action went through.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads, on 3.12
        child = os.fork()
    if child == 0:
        code = 99
        try:
            _count_down(moment, kill)
            action()
            code = 0
        except KeyboardInterrupt:
            code = 130
        except BaseException:  # noqa: BLE001 - the parent only gets a number
            traceback.print_exc()
        finally:
            os._exit(code)
    __, status = os.waitpid(child, 0)
    ended = os.waitstatus_to_exitcode(status)
    assert ended in (0, 130, -signal.SIGKILL), f"moment {moment}: {ended}"
    return ended != 0


def _count_down(moment: int, kill: int) -> None:
    left = moment
    own = os.getpid()

    def tick() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(own, kill)

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            tick()
            result = function(*arguments, **named)
            tick()
            return result

        return call

    for name in CALLS:
        setattr(os, name, wrapped(getattr(os, name)))
    Connection.query = wrapped(Connection.query)  # type: ignore[method-assign]
