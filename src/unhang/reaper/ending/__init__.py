"""Compare and kill: end a session only if it has done nothing since it was looked at.

A KILL cannot be atomic with its victim, so the comparison is made as close to it as each engine
allows: inside the server, tens of microseconds before.
"""

from unhang.reaper.ending.outcome import Ender, Outcome, Result
from unhang.reaper.ending.which import ender_for

__all__ = ["Ender", "Outcome", "Result", "ender_for"]
