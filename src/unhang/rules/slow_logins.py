"""UH506: clients hang while they connect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from unhang.i18n import _, ngettext
from unhang.rules.model import Finding, Rule
from unhang.rules.text import seconds
from unhang.survey.model import Survey

SLOW_SECONDS: Final = 1.0
MANY: Final = 3


def judge(survey: Survey) -> Iterator[Finding]:
    slow = sorted((age for age in survey.logins or () if age >= SLOW_SECONDS), reverse=True)
    if not slow:
        return
    skips = survey.server.value("skip_name_resolve")
    yield Finding(
        RULE.id,
        "critical" if len(slow) >= MANY else "warning",
        survey.target,
        (
            ngettext(
                "{n} client has been logging in for {oldest}.",
                "{n} clients are logging in, the slowest for {oldest}.",
                len(slow),
            )
            + " "
            + (
                _("skip_name_resolve is on, so not for DNS: the clients do not answer, or the net.")
                if skips
                else _(
                    "The server looks up the name of each client's address first "
                    "(skip_name_resolve is off): slow DNS, unless the clients themselves do not "
                    "answer."
                )
            )
        ).format(n=len(slow), oldest=seconds(slow[0])),
        (
            (_("logging in for {s} s or longer").format(s=f"{SLOW_SECONDS:g}"), str(len(slow))),
            (_("the slowest"), seconds(slow[0])),
            ("skip_name_resolve", {None: "?", 0: "OFF"}.get(skips, "ON")),
        ),
        _(
            "# on the database's host, for an application host's address; seconds mean slow DNS:\n"
            "time getent hosts 10.0.0.7\n"
            "# in the server's option file, once every account has an address or % for its host:\n"
            "[mysqld]\nskip_name_resolve"
        )
        if not skips
        else _(
            "# the path between client and server, and connect_timeout:\nSHOW FULL PROCESSLIST;"
        ),
    )


def _story() -> str:
    return _(
        "Before the server says a word to a new client, it asks DNS for the name of the client's "
        "address, and then for the address of that name. When the name server is slow or gone, "
        "each new connection hangs for seconds, first from hosts that the server has not met yet, "
        "and with CONN_MAX_AGE = 0 every request does. Each of them takes a slot meanwhile.\n\n"
        'Clients that log in are the sessions of "unauthenticated user". One that has been at it '
        "for 1 s is a warning, three are critical. A client that connects and then says nothing "
        "looks the same on the server; `time getent hosts ADDRESS` on the server's host tells "
        "them apart. With skip_name_resolve on, no name is asked for.\n\n"
        "Accounts that name a host by its name (app@web1.example) stop working with "
        "skip_name_resolve; give them addresses or % first."
    )


RULE = Rule("UH506", _("Clients hang while they connect"), _story, judge, "cause")
