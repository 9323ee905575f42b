"""Apply or roll back, and die by SIGKILL at the n-th moment.

    python apply_and_die.py apply|rollback PLAN STATE_DIR LOGIN N

Moments are right after each journal entry and right after each deed, before its entry. Exits with
0 when there was no n-th moment: the walk went through.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from unhang.change import apply as walking
from unhang.change import journal as journals
from unhang.change import plan as plans
from unhang.change.surroundings import Restart, Surroundings
from unhang.change.targets import Targets
from unhang.survey import login as logins


class Nobody:
    """No person at the terminal."""

    def tell(self, text: str) -> None: ...

    def show(self, text: str) -> None: ...

    def ask(self, text: str) -> bool:
        return False


def main() -> None:
    verb, plan_file, state, login, count = sys.argv[1:]
    left = int(count)

    def moment() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    do = walking.do

    def do_and_maybe_die(*arguments: Any) -> dict[str, Any]:
        facts = do(*arguments)
        moment()
        return facts

    walking.do = do_and_maybe_die  # type: ignore[assignment]
    plan = plans.load(Path(plan_file))
    with Targets(plan, logins.parse(login)) as targets:
        journal = journals.open_for(plan, Path(state))
        around = Surroundings(targets, Nobody(), Restart(run=lambda: None))
        walk = walking.Walk(journal, around, after_entry=moment)
        walk.forward() if verb == "apply" else walk.back()


if __name__ == "__main__":
    main()
