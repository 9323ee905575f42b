"""The package's exceptions. Each says what happened, then what to do about it.

The command turns them into one message and an exit code (`docs/reference/exit-codes.md`).
"""

from __future__ import annotations


class UnhangError(Exception):
    """Base of everything unhang raises on purpose.

    Args:
        message: What happened, in one sentence, with numbers.
        cure: What the reader can do now; may span lines (commands to paste).
    """

    exit_code = 2

    def __init__(self, message: str, *, cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.message}\n{self.cure}" if self.cure else self.message


class UsageProblem(UnhangError):
    """The input cannot be used: no such settings, a malformed DSN, a value out of range."""

    exit_code = 2


class CannotConnect(UnhangError):
    """The server cannot be reached, or is not a MySQL or MariaDB server."""

    exit_code = 3


class NotPermitted(UnhangError):
    """The login is refused, or lacks a privilege; the cure holds the GRANT."""

    exit_code = 3


class Refused(UnhangError):
    """A safety rule says no; nothing was changed."""

    exit_code = 4


class StalePlan(Refused):
    """The target is no longer what the plan was made for."""


class NotVerified(UnhangError):
    """The change was made, but its effect could not be confirmed (yet)."""

    exit_code = 5


class RollbackFailed(UnhangError):
    """A rollback stopped half-way; the message says what is left to do by hand."""

    exit_code = 7
