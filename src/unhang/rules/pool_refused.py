"""UH401: the backend refuses what the settings say of the pool."""

from __future__ import annotations

from collections.abc import Iterator

from unhang.i18n import _
from unhang.mysql.engine import OWN_ENGINE, STOCK_ENGINES
from unhang.rules.model import Finding, Rule
from unhang.rules.text import seconds
from unhang.survey.model import Alias, Survey
from unhang.survey.pools import OPTION_NAMES


def judge(survey: Survey) -> Iterator[Finding]:
    for alias in survey.aliases:
        if alias.own_pool and alias.own_pool.problem:
            yield _bad_option(alias, alias.own_pool.problem)
        if alias.own_pool and alias.conn_max_age != 0:
            yield _kept_by_django(alias)
        if alias.pool and alias.engine in STOCK_ENGINES:
            yield _not_for_the_driver(alias)


def _bad_option(alias: Alias, problem: str) -> Finding:
    return Finding(
        RULE.id,
        "critical",
        alias.name,
        _("The backend refuses the pool's options, and with them every query: {problem}").format(
            problem=problem if problem.endswith((".", "?")) else f"{problem}."
        ),
        (("ENGINE", alias.engine), ('OPTIONS["pool"]', problem)),
        _('# in OPTIONS["pool"] of DATABASES["{alias}"], of these names only:\n# {names}').format(
            alias=alias.name, names=", ".join(OPTION_NAMES)
        ),
    )


def _kept_by_django(alias: Alias) -> Finding:
    return Finding(
        RULE.id,
        "critical",
        alias.name,
        _(
            "CONN_MAX_AGE is {age}, and the backend refuses it: here the pool decides how long a "
            "connection is kept, not Django."
        ).format(age=seconds(alias.conn_max_age)),
        (("ENGINE", alias.engine), ("CONN_MAX_AGE", seconds(alias.conn_max_age))),
        f'DATABASES["{alias.name}"]["CONN_MAX_AGE"] = 0',
    )


def _not_for_the_driver(alias: Alias) -> Finding:
    return Finding(
        RULE.id,
        "critical",
        alias.name,
        _(
            'Django\'s own MySQL backend has no pool: it hands OPTIONS["pool"] to the driver, '
            "which refuses the unknown keyword, and no connection opens."
        ),
        (("ENGINE", alias.engine),),
        f'DATABASES["{alias.name}"]["ENGINE"] = "{OWN_ENGINE}"',
    )


def _story() -> str:
    return _(
        "The ENGINE unhang.backends.mysql needs no further setting: it lends a connection only "
        'while it is used. OPTIONS["pool"] may tune it, and nothing there is dropped silently: an '
        "unknown name, or a value that makes no sense, ends in ImproperlyConfigured at the first "
        "query.\n\n"
        "CONN_MAX_AGE other than 0 is refused as well, since it would mean two owners of one "
        "connection. What it was for is done by the pool: a connection is kept and used again, and "
        "is let go before the server's wait_timeout, which the pool reads from each session.\n\n"
        "Django's own MySQL backend knows no pool. There every option goes to the driver, and "
        "mysqlclient and PyMySQL both refuse one called pool."
    )


RULE = Rule("UH401", _("Pool settings that are refused"), _story, judge)
