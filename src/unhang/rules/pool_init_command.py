"""UH404: an init_command that works against the pool."""

from __future__ import annotations

from collections.abc import Iterator

from unhang import timeouts
from unhang.i18n import _
from unhang.rules.model import Finding, Rule
from unhang.rules.text import seconds
from unhang.survey.model import Alias, PoolFacts, Survey


def judge(survey: Survey) -> Iterator[Finding]:
    for alias in survey.aliases:
        if alias.own_pool is None:
            continue
        if alias.init_conflicts:
            yield _against_transactions(alias)
        if alias.session_wait_timeout:
            yield from _own_timeout(alias, alias.own_pool, alias.session_wait_timeout, survey)


def _against_transactions(alias: Alias) -> Finding:
    what = ", ".join(alias.init_conflicts)
    return Finding(
        RULE.id,
        "warning",
        alias.name,
        _(
            "The init_command has {what}: the pool lends connections that are outside any "
            "transaction, and this makes them begin inside one, or end it in another way."
        ).format(what=what),
        ((_("in the init_command"), what),),
        _(
            '# take it out of OPTIONS["init_command"] of DATABASES["{alias}"]; a transaction is '
            "begun with\nwith transaction.atomic():"
        ).format(alias=alias.name),
    )


def _own_timeout(alias: Alias, pool: PoolFacts, own: int, survey: Survey) -> Iterator[Finding]:
    servers = survey.server.value("wait_timeout")
    limit = max(timeouts.client_limit(own), own / 2)  # the backend's bound below 2 s
    if pool.max_idle and limit < pool.max_idle:
        yield Finding(
            RULE.id,
            "warning",
            alias.name,
            _(
                "The init_command gives each session a wait_timeout of {own}, so the pool lets go "
                "after {limit} instead of {idle}: after every pause it has to connect anew."
            ).format(own=seconds(own), limit=seconds(limit), idle=seconds(pool.max_idle)),
            _evidence(own, servers, pool),
            _out_with_it(alias),
        )
    elif servers and own > servers:
        yield Finding(
            RULE.id,
            "notice",
            alias.name,
            _(
                "The init_command gives each session a wait_timeout of {own} instead of {wait}. "
                "The pool does not need it, and what a host leaves behind when it dies sleeps that "
                "long."
            ).format(own=seconds(own), wait=seconds(servers)),
            _evidence(own, servers, pool),
            _out_with_it(alias),
        )


def _evidence(own: int, servers: int | None, pool: PoolFacts) -> tuple[tuple[str, str], ...]:
    return (
        (_("wait_timeout by init_command"), seconds(own)),
        ("wait_timeout", seconds(servers)),
        ("max_idle", seconds(pool.max_idle)),
    )


def _out_with_it(alias: Alias) -> str:
    return _('# take wait_timeout out of OPTIONS["init_command"] of DATABASES["{alias}"]').format(
        alias=alias.name
    )


def _story() -> str:
    return _(
        'OPTIONS["init_command"] runs once for each connection that the pool opens, and again '
        "after a session was reset. It is the right place for what every session shall have, such "
        "as sql_mode or time_zone.\n\n"
        "Two things do not belong there. What makes transactions begin or end elsewhere than the "
        "application says (autocommit = 0, START TRANSACTION, LOCK TABLES, a completion_type): a "
        "connection that is lent must be outside any transaction, or the work of two borrowers "
        "runs together.\n\n"
        "And a wait_timeout: with the pool there is nothing to keep in step, since it reads the "
        "limit of each session and lets go earlier. A very short one makes it connect anew after "
        "every pause; a long one keeps the sessions of a host that died."
    )


RULE = Rule("UH404", _("An init_command that works against the pool"), _story, judge)
