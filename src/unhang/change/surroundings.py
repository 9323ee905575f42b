"""What the steps of a plan may touch, and who stands by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from unhang.change.control import Control, Freely
from unhang.change.targets import Targets


class Person(Protocol):
    """Whoever stands by while the steps are done; a terminal, or nobody."""

    def tell(self, text: str) -> None:
        """Say what is being done, or what the person has to do."""

    def show(self, text: str) -> None:
        """Lines that the person copies somewhere, exactly as they are."""

    def ask(self, text: str) -> bool:
        """Whether the person confirms that something was done; `False` when nobody is there."""


@dataclass(frozen=True, slots=True)
class Restart:
    """How the application gets to run with new settings.

    Attributes:
        run: Restarts or reloads it, see `by_command`; `None` leaves it to a person.
        done: The person said beforehand that it was restarted.
    """

    run: Callable[[], None] | None = None
    done: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that a step may touch.

    Attributes:
        targets: Entered.
        control: What may hold a step up.
        back: The steps are those of the way back.
        by_hand_done: The person said beforehand that what only they can do was done.
    """

    targets: Targets
    person: Person
    restart: Restart = Restart()
    control: Control = field(default_factory=Freely)
    back: bool = False
    by_hand_done: bool = False
