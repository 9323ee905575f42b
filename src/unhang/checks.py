"""System checks of the settings alone; they open no connection.

The server's side of the same questions is judged by `unhang diagnose`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Warning, register
from django.db import connections

from unhang.mysql.engine import is_mysql_engine


@register()
def check_connection_settings(
    app_configs: Sequence[AppConfig] | None,  # noqa: ARG001 - the signature Django calls
    **kwargs: Any,  # noqa: ARG001
) -> list[CheckMessage]:
    """CONN_MAX_AGE and CONN_HEALTH_CHECKS of every MySQL alias."""
    return [
        message
        for alias, database in connections.settings.items()
        if is_mysql_engine(database["ENGINE"])
        for message in _messages(alias, database)
    ]


def _messages(alias: str, database: Mapping[str, Any]) -> Iterator[CheckMessage]:
    age = database["CONN_MAX_AGE"]
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
    if age != 0 and not database["CONN_HEALTH_CHECKS"] and not database["OPTIONS"].get("pool"):
        yield Warning(
            f"Connections of {alias} outlive a request and are never checked.",
            hint="Set CONN_HEALTH_CHECKS = True. See unhang explain UH104.",
            id="unhang.W002",
        )
