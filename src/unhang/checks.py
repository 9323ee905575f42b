"""System checks of the settings alone; they open no connection.

The server's side of the same questions is judged by `unhang diagnose`.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.db import connections
from django.db.backends.signals import connection_created

from unhang.lanes.settings import parse_lanes
from unhang.mysql.engine import OWN_ENGINE, STOCK_ENGINES, is_mysql_engine
from unhang.mysql.init_command import transaction_conflicts
from unhang.pool.options import OptionError, parse_options


@register()
def check_connection_settings(
    app_configs: Sequence[AppConfig] | None,  # noqa: ARG001 - the signature Django calls
    **kwargs: Any,  # noqa: ARG001
) -> list[CheckMessage]:
    """How long connections of every MySQL alias are kept, and by whom."""
    return [
        message
        for alias, database in connections.settings.items()
        if is_mysql_engine(database["ENGINE"])
        for message in _messages(alias, database)
    ]


@register()
def check_connection_receivers(
    app_configs: Sequence[AppConfig] | None,  # noqa: ARG001 - the signature Django calls
    **kwargs: Any,  # noqa: ARG001
) -> list[CheckMessage]:
    """Receivers of `connection_created` beside unhang's own backend, the project's and others'."""
    if not any(database["ENGINE"] == OWN_ENGINE for database in connections.settings.values()):
        return []
    return [
        Warning(
            f"{name} receives connection_created: if it runs SQL such as SET, every request "
            "keeps one connection to its end.",
            hint='What each session shall have belongs into OPTIONS["init_command"], which runs '
            "once for each connection.",
            id="unhang.W004",
        )
        for name in _receivers()
    ]


@register()
def check_lanes(
    app_configs: Sequence[AppConfig] | None,  # noqa: ARG001 - the signature Django calls
    **kwargs: Any,  # noqa: ARG001
) -> list[CheckMessage]:
    """The lanes that the settings name."""
    given = getattr(settings, "UNHANG", None)
    try:
        parse_lanes(given.get("LANES") if isinstance(given, Mapping) else None)
    except OptionError as error:
        return [
            Error(
                f'UNHANG["LANES"]: {error}',
                hint="The options are in unhang's documentation, under Settings.",
                id="unhang.E005",
            )
        ]
    return []


@register()
def check_owners(
    app_configs: Sequence[AppConfig] | None,  # noqa: ARG001 - the signature Django calls
    **kwargs: Any,  # noqa: ARG001
) -> list[CheckMessage]:
    """Whether it is written down who opens connections."""
    given = getattr(settings, "UNHANG", None)
    owners = given.get("OWNERS", True) if isinstance(given, Mapping) else True
    if isinstance(owners, bool):
        return []
    return [
        Error(
            f'UNHANG["OWNERS"] is {owners!r}, neither True nor False: nothing is written down.',
            hint="See Settings in unhang's documentation.",
            id="unhang.E006",
        )
    ]


def _messages(alias: str, database: Mapping[str, Any]) -> Iterator[CheckMessage]:
    if database["ENGINE"] == OWN_ENGINE:
        yield from _lent_by_the_pool(alias, database)
    else:
        yield from _kept_by_django(alias, database)


def _lent_by_the_pool(alias: str, database: Mapping[str, Any]) -> Iterator[CheckMessage]:
    age, options = database["CONN_MAX_AGE"], database["OPTIONS"]
    if age != 0:
        yield Error(
            f"CONN_MAX_AGE of {alias} is {age!r}, and this ENGINE refuses it: the pool decides how "
            "long a connection is kept.",
            hint="Leave CONN_MAX_AGE out. See unhang explain UH401.",
            id="unhang.E003",
        )
    try:
        pool = parse_options(options.get("pool"))
    except OptionError as error:
        yield Error(
            f'OPTIONS["pool"] of {alias}: {error}',
            hint="See unhang explain UH401.",
            id="unhang.E002",
        )
    else:
        if pool.max_size == 1:
            yield Warning(
                f"max_size of {alias} is 1: code that waits inside a transaction for a thread "
                f"which queries waits for itself, until the timeout of {pool.timeout:g} s.",
                hint="Set max_size to 2 or more; a connection is opened only when it is needed.",
                id="unhang.W005",
            )
    conflicts = transaction_conflicts(str(options.get("init_command") or ""))
    if conflicts:
        yield Warning(
            f"The init_command of {alias} has {', '.join(conflicts)}, but the pool lends "
            "connections that are outside any transaction.",
            hint="Take it out, and use transaction.atomic(). See unhang explain UH404.",
            id="unhang.W003",
        )


def _kept_by_django(alias: str, database: Mapping[str, Any]) -> Iterator[CheckMessage]:
    age, pool = database["CONN_MAX_AGE"], database["OPTIONS"].get("pool")
    if isinstance(age, str):
        yield Error(
            f"CONN_MAX_AGE of {alias} is the text {age!r}.",
            hint="Django compares it with a clock: convert it with int(…).",
            id="unhang.E001",
        )
    elif age is None:
        yield Warning(
            f"CONN_MAX_AGE of {alias} is None: no wait_timeout is longer than for ever.",
            hint="Set it below the server's wait_timeout: 280 for 300. See unhang explain UH101.",
            id="unhang.W001",
        )
    if age != 0 and not database["CONN_HEALTH_CHECKS"] and not pool:
        yield Warning(
            f"Connections of {alias} outlive a request and are never checked.",
            hint="Set CONN_HEALTH_CHECKS = True. See unhang explain UH104.",
            id="unhang.W002",
        )
    if "pool" in database["OPTIONS"] and database["ENGINE"] in STOCK_ENGINES:
        yield Error(
            f'OPTIONS["pool"] of {alias} goes to the driver, which refuses it: Django\'s own MySQL '
            "backend has no pool.",
            hint=f'Set "ENGINE": "{OWN_ENGINE}", which has one. See unhang explain UH401.',
            id="unhang.E004",
        )


def _receivers() -> list[str]:
    """Dotted names of those that neither Django nor unhang connected."""
    names = []
    # The key and the receiver come first in each entry; what follows differs (Django 5.2, 6.1).
    for _key, receiver, *_more in connection_created.receivers:
        function = receiver() if isinstance(receiver, weakref.ReferenceType) else receiver
        while isinstance(function, functools.partial):
            function = function.func
        if function is None:
            continue  # it was collected
        if not hasattr(function, "__qualname__"):
            function = type(function)  # an object with __call__
        if function.__module__.partition(".")[0] not in ("django", "unhang"):
            names.append(f"{function.__module__}.{function.__qualname__}")
    return names
