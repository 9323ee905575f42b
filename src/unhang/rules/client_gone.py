"""UH210: the process that opened a session has ended, and the server was not told."""

from __future__ import annotations

from collections.abc import Iterator

from unhang.i18n import _, ngettext
from unhang.rules.model import Finding, Rule
from unhang.rules.text import named, seconds
from unhang.survey.model import Survey
from unhang.survey.session import Session


def judge(survey: Survey) -> Iterator[Finding]:
    gone = {held.session for held in survey.held if not held.pids}
    found = sorted(
        (session for session in survey.sleepers if session.id in gone), key=lambda s: -s.seconds
    )
    if not found:
        return
    open_work = any(session.is_idle_in_transaction for session in found)
    yield Finding(
        RULE.id,
        "critical" if open_work else "warning",
        survey.target,
        ngettext(
            "The process behind {n} sleeper has ended, and the server does not know: its TCP "
            "connection is half open, for {oldest} now.",
            "The processes behind {n} sleepers have ended, and the server does not know: their TCP "
            "connections are half open, the oldest for {oldest} now.",
            len(found),
        ).format(n=len(found), oldest=seconds(found[0].seconds)),
        (
            *(
                (
                    named(session),
                    _("asleep {asleep}; {transaction}").format(
                        asleep=seconds(session.seconds),
                        transaction=_transaction(session),
                    ),
                )
                for session in found[:5]
            ),
            ("wait_timeout", seconds(survey.server.value("wait_timeout"))),
        ),
        "\n".join(f"KILL {session.id};" for session in found[:20])
        + "\n"
        + _(
            "# and let the server find out by itself next time (Linux, seconds):\n"
            "sysctl -w net.ipv4.tcp_keepalive_time=120 net.ipv4.tcp_keepalive_intvl=20"
        ),
        tuple(session.id for session in found),
    )


def _transaction(session: Session) -> str:
    if session.in_transaction is None:
        return _("whether in a transaction is unknown")
    return _("in a transaction") if session.in_transaction else _("in no transaction")


def _story() -> str:
    return _(
        "When a process ends, its kernel closes its connections and the server ends the sessions. "
        "When the host loses power, a firewall or NAT forgets the connection, or a proxy in "
        "between keeps its side open, nobody tells the server: the session sleeps on, with its "
        "locks, until wait_timeout. TCP keepalive finds out after two hours by default.\n\n"
        "unhang reports it where the process is known (the driver says its number when it "
        "connects, or the application wrote it down), ran on this host, and is not there any "
        "more. Without that, such a session looks like any other old sleeper.\n\n"
        "Ending it is safe if it is in no transaction; in one, its work is rolled back, which "
        "nobody can finish any more. A shorter wait_timeout and TCP keepalive bound it."
    )


RULE = Rule("UH210", _("Sleepers whose process has ended: half-open TCP"), _story, judge, "cause")
