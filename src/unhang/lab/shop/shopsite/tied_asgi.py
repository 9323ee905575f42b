"""What the lab's uvicorn serves; each of its worker processes imports this module."""

import multiprocessing

from .asgi import application
from .lifeline import die_with

__all__ = ["application"]

# A single uvicorn process has no supervisor; the lab's guardian has tied it to itself.
_supervisor = multiprocessing.parent_process()
if _supervisor is not None and _supervisor.pid is not None:
    die_with(_supervisor.pid)
