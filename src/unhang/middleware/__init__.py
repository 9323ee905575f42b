"""Django middleware; each class stands alone. In this order:

MIDDLEWARE = [
    "unhang.middleware.ResponseTimes",  # records what users wait for
    "unhang.middleware.ServiceUnavailable",  # overload becomes 503 with Retry-After
    "unhang.middleware.UrlLanes",  # lanes by URL, from UNHANG["LANES"]
    "unhang.middleware.EndAbandonedReads",  # ASGI: a client that left ends its reads
    …
]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from unhang.middleware.times import ResponseTimes, database_error_kind

if TYPE_CHECKING:
    from unhang.middleware.abandoned import EndAbandonedReads
    from unhang.middleware.overload import ServiceUnavailable
    from unhang.middleware.url_lanes import UrlLanes

__all__ = [
    "EndAbandonedReads",
    "ResponseTimes",
    "ServiceUnavailable",
    "UrlLanes",
    "database_error_kind",
]

# Who only records times must not load the pool, which has hooks around fork().
_LATER: Final = {
    "EndAbandonedReads": "unhang.middleware.abandoned",
    "ServiceUnavailable": "unhang.middleware.overload",
    "UrlLanes": "unhang.middleware.url_lanes",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
