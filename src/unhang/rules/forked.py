"""UH209: several processes have one connection: it was open when the process forked."""

from __future__ import annotations

from collections.abc import Iterator

from unhang.i18n import _, ngettext
from unhang.rules.model import Finding, Rule
from unhang.rules.text import named, seconds
from unhang.survey.model import Survey


def judge(survey: Survey) -> Iterator[Finding]:
    sessions = {session.id: session for session in survey.sessions}
    shared = [h for h in survey.held if len(h.pids) > 1 and h.session in sessions]
    if not shared:
        return
    processes = sorted({pid for held in shared for pid in held.pids})
    yield Finding(
        RULE.id,
        "critical",
        survey.target,
        ngettext(
            "{n} connection is open in {processes} processes at once: opened before fork(), so one "
            "process may read the answer to another one's query.",
            "{n} connections are open in several of {processes} processes at once: opened before "
            "fork(), so one process may read the answer to another one's query.",
            len(shared),
        ).format(n=len(shared), processes=len(processes)),
        tuple(
            (
                named(sessions[held.session]),
                _("processes {pids}; asleep {asleep}").format(
                    pids=", ".join(map(str, held.pids)),
                    asleep=seconds(sessions[held.session].seconds),
                ),
            )
            for held in shared[:5]
        ),
        _(
            "# where the code runs before the fork (preload_app, a module's import, ready()),\n"
            "# for instance in gunicorn.conf.py:\n"
            "def pre_fork(server, worker):\n"
            "    from django.db import connections\n"
            "    connections.close_all()"
        ),
        tuple(held.session for held in shared),
    )


def _story() -> str:
    return _(
        "fork() copies open files, sockets too. When a master process queries the database while "
        "it loads the application (gunicorn --preload, uWSGI without lazy-apps, a multiprocessing "
        "pool, a task worker) and then forks, parent and children hold one and the same "
        'connection. Two of them that use it at once mix their bytes: wrong answers, "Packet '
        'sequence number wrong", "Lost connection", "Commands out of sync". And when one child '
        "closes it, it has gone away for the others.\n\n"
        "unhang looks which processes of this host have the socket open at the other end of a "
        "session; processes that run another program do not count. Clients on other hosts, on "
        "unix sockets, or of other users are not seen.\n\n"
        "Close all connections before the fork, or do not query while the application loads. The "
        "ENGINE unhang.backends.mysql notices a fork by itself."
    )


RULE = Rule("UH209", _("One connection in several processes, after fork()"), _story, judge, "cause")
