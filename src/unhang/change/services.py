"""Managed services: the commands that change a server's parameters there, for a person to paste.

On RDS, Aurora, Cloud SQL and Azure `SET GLOBAL` of a timeout is refused: the value belongs to a
parameter group, flags, or server parameters, and only the service's own tools change those. The
commands were written from the services' documentation (AWS CLI `rds`, `gcloud sql`, `az mysql`),
not run against them; what is in effect is then read from the server, whoever typed them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from unhang.survey.model import Variable

_DEFAULTS: Final = ("compiled default", "unknown")
"""Origins after which a service's parameter is taken for never set."""


@dataclass(frozen=True, slots=True)
class Commands:
    """What to paste, forward and back; each line a command or a comment for the shell."""

    forward: tuple[str, ...]
    back: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Change:
    """Variables with their new values, and those of before; `None` was never set."""

    host: str
    after: Mapping[str, int]
    before: Mapping[str, int | None]


def commands_for(
    service: str, host: str, variables: Mapping[str, Variable], after: Mapping[str, int]
) -> Commands:
    """The commands of a service that set these values, and those that take them back.

    Args:
        service: A name of `reaper.providers`: `rds`, `aurora`, `cloudsql`, `azure`.
        host: The server's address; RDS and Azure tell the instance's name by it.
        variables: As they are now.
        after: New values by name.

    Raises:
        KeyError: No such service.
    """
    before = {
        name: None if variables[name].origin.kind in _DEFAULTS else variables[name].value
        for name in after
    }
    return _SERVICES[service](_Change(host, after, before))


def _rds(change: _Change) -> Commands:
    return _aws(change, cluster=False)


def _aurora(change: _Change) -> Commands:
    return _aws(change, cluster=".cluster-" in change.host.lower())


def _aws(change: _Change, *, cluster: bool) -> Commands:
    """RDS has a group an instance; Aurora one a cluster, which an instance's own may override."""
    name, region = _aws_names(change.host)
    kind = "cluster" if cluster else "instance"
    query = (
        "DBClusters[0].DBClusterParameterGroup"
        if cluster
        else "DBInstances[0].DBParameterGroups[0].DBParameterGroupName"
    )
    group = "db-cluster-parameter-group" if cluster else "db-parameter-group"
    find = (
        f"GROUP=$(aws rds describe-db-{kind}s --region {region} --db-{kind}-identifier {name} "
        f"--query '{query}' --output text)"
    )
    about = (
        '# A group named "default.…" cannot be changed: make one of your own with',
        f"# aws rds create-{group}, give it to the {kind}, and reboot once.",
    )
    forward = (find, *about, _aws_set(change.after, group, region))
    return Commands(forward, (find, *_aws_back(change, group, region)))


def _aws_set(values: Mapping[str, int], group: str, region: str) -> str:
    parameters = " ".join(
        f"ParameterName={name},ParameterValue={value},ApplyMethod=immediate"
        for name, value in values.items()
    )
    return (
        f'aws rds modify-{group} --region {region} --{group}-name "$GROUP" '
        f"--parameters {parameters}"
    )


def _aws_back(change: _Change, group: str, region: str) -> tuple[str, ...]:
    old = {name: value for name, value in change.before.items() if value is not None}
    unset = [name for name, value in change.before.items() if value is None]
    lines = []
    if old:
        lines.append(_aws_set(old, group, region))
    if unset:
        parameters = " ".join(f"ParameterName={name},ApplyMethod=immediate" for name in unset)
        lines.append(
            f'aws rds reset-{group} --region {region} --{group}-name "$GROUP" '
            f"--parameters {parameters}"
        )
    return tuple(lines)


def _aws_names(host: str) -> tuple[str, str]:
    """Instance and region from `NAME.RANDOM.REGION.rds.amazonaws.com`."""
    found = re.fullmatch(r"([^.]+)\.[^.]+\.([a-z0-9-]+)\.rds\.amazonaws\.com(\.cn)?", host.lower())
    return (found[1], found[2]) if found else ("INSTANCE", "REGION")


def _cloudsql(change: _Change) -> Commands:
    show = "gcloud sql instances describe INSTANCE --format='yaml(settings.databaseFlags)'"
    warning = "# --database-flags REPLACES all flags: repeat those that the first command shows."
    patch = "gcloud sql instances patch INSTANCE --database-flags="
    old = {name: value for name, value in change.before.items() if value is not None}
    return Commands(
        (show, warning, patch + _flags(change.after)), (show, warning, patch + _flags(old))
    )


def _flags(values: Mapping[str, int]) -> str:
    return ",".join([*(f"{name}={value}" for name, value in values.items()), "OTHER_FLAGS"])


def _azure(change: _Change) -> Commands:
    name = change.host.split(".")[0] if "." in change.host else "SERVER"
    base = (
        "az mysql flexible-server parameter set --resource-group GROUP --server-name "
        f"{shlex.quote(name)}"
    )
    return Commands(
        tuple(f"{base} --name {n} --value {value}" for n, value in change.after.items()),
        tuple(
            # Without a value Azure sets its own default.
            f"{base} --name {n}" + ("" if value is None else f" --value {value}")
            for n, value in change.before.items()
        ),
    )


_SERVICES: Final[Mapping[str, Callable[[_Change], Commands]]] = {
    "rds": _rds,
    "aurora": _aurora,
    "cloudsql": _cloudsql,
    "azure": _azure,
}

NAMES: Final = tuple(_SERVICES)
