"""UH104: connections are kept between requests and never checked."""

from __future__ import annotations

from collections.abc import Iterator

from unhang.i18n import _
from unhang.rules.model import Finding, Rule
from unhang.rules.text import seconds
from unhang.survey.model import Survey


def judge(survey: Survey) -> Iterator[Finding]:
    for alias in survey.aliases:
        if alias.conn_max_age == 0 or alias.conn_health_checks or alias.pool:
            continue
        yield Finding(
            RULE.id,
            "warning",
            alias.name,
            _(
                "Connections are kept {age} and never checked: after a restart of the server, a "
                "KILL or a network cut, the next request of each worker fails."
            ).format(age=seconds(alias.conn_max_age)),
            (
                ("CONN_MAX_AGE", seconds(alias.conn_max_age)),
                ("CONN_HEALTH_CHECKS", "False"),
            ),
            f'DATABASES["{alias.name}"]["CONN_HEALTH_CHECKS"] = True',
        )


def _story() -> str:
    return _(
        "With CONN_MAX_AGE above 0 a connection outlives its request. CONN_HEALTH_CHECKS = True "
        "makes Django ping it once, before the first query of each request, and open a new one if "
        "it is dead. The price is one round trip a request; without it, a connection that died "
        "between two requests costs a whole failed request, in which every query fails.\n\n"
        "Django's check works only inside the request cycle: threads, management commands and "
        "task workers are never checked."
    )


RULE = Rule("UH104", _("Persistent connections without health checks"), _story, judge)
