"""What came of trying to end a session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from unhang.survey.session import Session

NO_SUCH_THREAD: Final = 1094
NOT_OWNER: Final = 1095

Kill = Callable[[int | str], str]
"""The statement that ends a session, by its id or by the name of a variable that holds it."""


def plain_kill(target: int | str) -> str:
    """What an account may do to its own sessions everywhere."""
    return f"KILL CONNECTION {target}"


class Result(StrEnum):
    """What became of one session."""

    ENDED = "ended"
    """The server took the KILL."""
    USED = "used again"
    """It had done something since the look, or could not be proven not to have: left alone."""
    GONE = "gone already"
    DENIED = "not permitted"
    FAILED = "failed"
    """The server answered with another error."""
    NOT_TRIED = "not tried"
    """Something before it went wrong."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for one session; `code` is the server's error, 0 if none."""

    session: Session
    result: Result
    code: int = 0

    @property
    def is_surprise(self) -> bool:
        """Nothing that should happen: the reaper stops."""
        return self.result in (Result.DENIED, Result.FAILED)


class Ender(Protocol):
    """Ends sessions over the connection of one account.

    Attributes:
        batch: How many it takes at once at most.
        how: How the comparison is made, for people.
    """

    batch: int
    how: str

    def end(self, sessions: Sequence[Session]) -> list[Outcome]:
        """Compare and kill each; the outcomes in the order of the sessions.

        After the first error the rest is not tried.
        """
        ...


def result_of(code: int) -> Result:
    """The result that an error code of a KILL means."""
    known = {NO_SUCH_THREAD: Result.GONE, NOT_OWNER: Result.DENIED}
    return known.get(code, Result.FAILED)
