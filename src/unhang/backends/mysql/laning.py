"""The lanes of a pool, as Django's settings describe them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_started

from unhang.lanes import Lanes, workers
from unhang.lanes.settings import NamedLane, parse_lanes
from unhang.pool import OptionError, Pool, SlowLane

request_started.connect(workers.note_request, dispatch_uid="unhang.lanes")


def lanes_of(pool: Pool, options: SlowLane, database: Mapping[str, Any]) -> Lanes:
    """The lanes that all processes of this host share which use the same account of this server.

    Args:
        database: The entry of DATABASES.
    """
    parts = [str(database.get(name) or "") for name in ("HOST", "PORT", "USER", "NAME")]
    host, port, user, name = parts
    server = f"{host or 'localhost'}:{port}" if port else host or "localhost"
    return Lanes(
        pool,
        options,
        identity="\0".join(parts),
        label=f"{user}@{server}/{name}",
        named={name: lane.limits(options) for name, lane in named_lanes().items()},
    )


def named_lanes() -> dict[str, NamedLane]:
    """Those of `UNHANG["LANES"]`.

    Raises:
        ImproperlyConfigured: They make no sense; the text says what would.
    """
    given = getattr(settings, "UNHANG", None)
    try:
        return parse_lanes(given.get("LANES") if isinstance(given, Mapping) else None)
    except OptionError as error:
        raise ImproperlyConfigured(f'UNHANG["LANES"]: {error}') from error
