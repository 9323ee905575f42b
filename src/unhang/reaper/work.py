"""Opening what a reaper needs: its connections, the lead, the audit, and the policy in effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from unhang.errors import Refused, UsageProblem
from unhang.i18n import _
from unhang.reaper.audit import Audit
from unhang.reaper.lead import take_lead
from unhang.reaper.policy import Policy, check_floor, usual_idle
from unhang.reaper.providers import Provider, detect
from unhang.reaper.reaper import Reaper
from unhang.survey.collect import Target, current_account
from unhang.survey.connect import Connection, connected
from unhang.survey.server import read_server


@dataclass(frozen=True, slots=True)
class Work:
    """What one call is to do.

    Attributes:
        wanted: As typed; accounts and idle time may be left to the settings.
        idle_seconds: `None` for what the settings make safe.
        i_know: An idle time that is shorter than is safe is wanted.
        as_login: The account that looks also ends, instead of the application's own.
        audit: The file of the records.
        providers: Data of managed services instead of unhang's own.
    """

    target: Target
    wanted: Policy
    stop_file: Path
    audit: Path
    idle_seconds: float | None = None
    i_know: bool = False
    execute: bool = False
    as_login: bool = False
    providers: Path | None = None

    def check_stop_file(self) -> None:
        """Refuse to begin, or to go on, while the stop file is there.

        Raises:
            Refused: It is.
        """
        if self.execute and self.stop_file.exists():
            raise Refused(
                _("The stop file {path} is there: nothing is ended.").format(path=self.stop_file),
                cure=_("Delete it when whoever put it there agrees."),
            )

    @contextmanager
    def opened(self) -> Iterator[tuple[Reaper, Provider]]:
        """A reaper that leads on its server, and the service it runs on.

        Raises:
            Refused: Another reaper leads, or the idle time is too short.
            UsageProblem: Nobody can end the sessions of an account that was named.
        """
        with ExitStack() as stack:
            inspector = stack.enter_context(connected(self.target.login))
            account = current_account(inspector)
            server = read_server(inspector, account=account, unseen=lambda _unseen: None)
            provider = detect(inspector, self.target.login.host, self.providers)
            policy = self._policy(provider)
            if self.execute:
                take_lead(inspector)
            killers = self._killers(stack, policy) if self.execute else {}
            for killer in killers.values():
                self._prove_same(killer, server.identity)
            reaper = Reaper(
                inspector=inspector,
                killers=killers,
                engine=server.engine,
                account=account,
                policy=policy,
                stop_file=self.stop_file,
                audit=self._audit(stack, server.identity, policy) if self.execute else None,
            )
            if self.as_login:
                reaper.kill = provider.kill
            yield reaper, provider

    def _policy(self, provider: Provider) -> Policy:
        aliases = self.target.aliases
        own = frozenset(login.user for login in self.target.applications)
        idle = usual_idle(aliases) if self.idle_seconds is None else self.idle_seconds
        if not self.i_know:
            check_floor(idle, aliases)
        return replace(
            self.wanted,
            accounts=self.wanted.accounts or own,
            idle_seconds=idle,
            protected=provider.protected,
        )

    def _killers(self, stack: ExitStack, policy: Policy) -> Mapping[str, Connection]:
        if self.as_login:
            killer = stack.enter_context(connected(self.target.login, several_statements=True))
            return dict.fromkeys(policy.accounts, killer)
        own = {login.user: login for login in self.target.applications}
        missing = sorted(policy.accounts - set(own))
        if missing:
            raise UsageProblem(
                _("The password of {users} is not known.").format(users=", ".join(missing)),
                cure=_("Let the account of --login end their sessions, with --as-login."),
            )
        return {
            user: stack.enter_context(connected(own[user], several_statements=True))
            for user in sorted(policy.accounts)
        }

    def _prove_same(self, killer: Connection, identity: str) -> None:
        """A login with an address of its own, a proxy, or a name of several servers may mislead.

        Ids are small numbers: on another server the same one is somebody else.
        """
        found = read_server(killer, account="", unseen=lambda _unseen: None).identity
        if found != identity:
            raise Refused(
                _("Two servers: {seen} is looked at, and on {other} it would be ended.").format(
                    seen=identity, other=found
                ),
                cure=_("Leave host and port out of the login; the application's are used then."),
            )

    def _audit(self, stack: ExitStack, identity: str, policy: Policy) -> Audit:
        facts = {
            "server": identity,
            "address": self.target.login.address,
            "idle_seconds": policy.idle_seconds,
            "accepted": sorted(policy.accepted),
        }
        return stack.enter_context(Audit(self.audit, facts))
