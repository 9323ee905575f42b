"""A plan: what would change on which target, in which order, saved so that apply does just that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from unhang import timeouts
from unhang.change.files import replace_file
from unhang.change.steps import Step, step_from_json, step_to_json
from unhang.errors import Refused, UsageProblem
from unhang.i18n import _
from unhang.survey.codec import decode, encode

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class AliasLimit:
    """An alias and its CONN_MAX_AGE when the plan was made; `None` is for ever."""

    name: str
    conn_max_age: int | None


@dataclass(frozen=True, slots=True)
class ServerTarget:
    """The server a plan is for.

    Attributes:
        name: How the steps call it: its aliases, or its address.
        identity: What the server itself said (see `survey.model.Server`).
        wait_timeout: What it was when the plan was made, seconds.
        aliases: Django's aliases on it, the first of which is the way to reach it; none when a
            login must be given again.
        target: Its name in `unhang.toml`, which is the way to reach it then; else empty.
        also: Further names that lead to it there, and count for what promotion asks.
    """

    name: str
    address: str
    identity: str
    version: str
    wait_timeout: int
    aliases: tuple[AliasLimit, ...]
    target: str = ""
    also: tuple[str, ...] = ()

    def was_safe(self, alias: AliasLimit) -> bool:
        """Whether the client let go first before anything was changed."""
        return timeouts.lets_go_first(alias.conn_max_age, self.wait_timeout)


@dataclass(frozen=True, slots=True)
class ProjectTarget:
    """The project a plan is for."""

    directory: str
    settings_module: str
    python: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in safe order, and what they are for.

    Attributes:
        id: Names the plan, its journal and nothing else.
        created_at: ISO 8601, UTC.
        warnings: What the reader should know before saying yes.
        goal: What it was made to reach, by name; equal for a plan and the one it is promoted to.
        targets_file: The `unhang.toml` whose targets it is for; empty if none.
        promoted_from: The ids of the plans that were applied and watched elsewhere before this.
    """

    id: str
    created_at: str
    made_by: str
    servers: tuple[ServerTarget, ...]
    project: ProjectTarget | None
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()
    goal: Mapping[str, int | bool] = field(default_factory=dict)
    targets_file: str = ""
    promoted_from: tuple[str, ...] = ()

    @property
    def targets(self) -> frozenset[str]:
        """The names in `unhang.toml` that it is for, also where several name one server."""
        names = (name for server in self.servers for name in (server.target, *server.also))
        return frozenset(filter(None, names))

    def to_json(self) -> dict[str, Any]:
        """Plain data with schema and hash."""
        plain = {
            "schema": SCHEMA,
            "id": self.id,
            "created_at": self.created_at,
            "made_by": self.made_by,
            "servers": encode(self.servers),
            "project": encode(self.project),
            "steps": [step_to_json(step) for step in self.steps],
            "warnings": list(self.warnings),
            "goal": dict(self.goal),
            "targets_file": self.targets_file,
            "promoted_from": list(self.promoted_from),
        }
        return plain | {"hash": _hash(plain)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The plan that `to_json` printed.

        Raises:
            ValueError: Not a plan of this schema.
            Refused: It was edited after it was made.
        """
        if data.get("schema") != SCHEMA:
            raise ValueError(f"plan schema {data.get('schema')!r} is not {SCHEMA}")
        if data.get("hash") != _hash({k: v for k, v in data.items() if k != "hash"}):
            raise Refused(
                _("The plan was edited after it was made: its hash does not match."),
                cure=_("Make a new one with unhang plan and the options you want."),
            )
        project = data["project"]
        return cls(
            id=data["id"],
            created_at=data["created_at"],
            made_by=data["made_by"],
            servers=tuple(decode(ServerTarget, server) for server in data["servers"]),
            project=decode(ProjectTarget, project) if project else None,
            steps=tuple(step_from_json(step) for step in data["steps"]),
            warnings=tuple(data["warnings"]),
            goal=data.get("goal", {}),
            targets_file=data.get("targets_file", ""),
            promoted_from=_names(data.get("promoted_from", "")),
        )


def _names(said: str | list[str]) -> tuple[str, ...]:
    """One name, as plans had it before there could be several, or a list of them."""
    return tuple(filter(None, [said] if isinstance(said, str) else said))


def _hash(plain: Mapping[str, Any]) -> str:
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def save(plan: Plan, path: Path) -> None:
    """Write the plan, readable by its owner only: it tells where what is to be found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Escaped: bytes of a file that are not UTF-8 (surrogates here) could not be written otherwise.
    text = json.dumps(plan.to_json(), indent=2, ensure_ascii=True) + "\n"
    replace_file(path, text.encode(), mode=0o600)


def load(path: Path) -> Plan:
    """A saved plan.

    Raises:
        UsageProblem: The file is missing or is not a plan.
        Refused: It was edited.
    """
    try:
        return Plan.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or error
        message = _("{path} is not a plan: {reason}.").format(path=path, reason=reason)
        raise UsageProblem(message, cure="unhang plan") from None
