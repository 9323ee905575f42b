"""Managed services: which one a server is, what ends a session there, and whom never to touch."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.reaper.ending.outcome import Kill, plain_kill
from unhang.survey.connect import Connection, fetch_rows

_EVERYWHERE: Final = "everywhere"
_NAMES: Final = (
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('aurora_version', 'basedir', 'version',"
    " 'version_comment', 'azure_server_name', 'aad_auth_only')"
)


@dataclass(frozen=True, slots=True)
class Provider:
    """A managed service, or none.

    Attributes:
        name: As in the data; empty for a server of one's own.
        title: What people call it; empty likewise.
        kill: What ends another account's session, for an administrator.
        protected: Accounts that are never ended.
    """

    title: str
    kill: Kill
    protected: frozenset[str]
    name: str = ""


def detect(connection: Connection, host: str, file: Path | None = None) -> Provider:
    """The service that runs this server, by its variables or its name.

    Args:
        file: Instead of the data that comes with unhang.

    Raises:
        UsageProblem: The file cannot be used.
    """
    data = _read(file)
    variables = {str(name).lower(): str(value) for name, value in fetch_rows(connection, _NAMES)}
    always = frozenset(data[_EVERYWHERE]["protected"])
    for name, about in data.items():
        if name != _EVERYWHERE and _is(about, variables, host):
            template = str(about["kill"])
            return Provider(
                str(about["title"]),
                plain_kill if template.startswith("KILL ") else _filled(template),
                always | frozenset(about["protected"]),
                name,
            )
    return Provider("", plain_kill, always)


def titled(name: str) -> str:
    """What people call a service of unhang's own data.

    Raises:
        KeyError: There is no such service.
    """
    return str(_read(None)[name]["title"])


def protected_anywhere(file: Path | None = None) -> frozenset[str]:
    """The accounts that are protected on any service: for saved sessions, whose service is unknown.

    Raises:
        UsageProblem: The file cannot be used.
    """
    return frozenset(name for about in _read(file).values() for name in about["protected"])


def _filled(template: str) -> Kill:
    return lambda target: template.replace("{id}", str(target))


def _is(about: Mapping[str, Any], variables: Mapping[str, str], host: str) -> bool:
    by_variable = any(
        name in variables and text.lower() in variables[name].lower()
        for name, text in about.get("recognised_by", ())
    )
    return by_variable or any(host.lower().endswith(end) for end in about.get("host_suffix", ()))


def _read(file: Path | None) -> Mapping[str, Mapping[str, Any]]:
    source = file or resources.files("unhang.reaper").joinpath("providers.toml")
    try:
        data = tomllib.loads(source.read_text(encoding="utf-8"))
        if _EVERYWHERE not in data:
            raise ValueError(f"it has no [{_EVERYWHERE}]")
        for name, about in data.items():
            _check(name, about)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageProblem(
            _("The providers in {file} cannot be used: {reason}.").format(file=file, reason=reason),
            cure=_("Start from a copy of unhang's own: docs/reference/reaper.md shows it."),
        ) from None
    return data


def _check(name: str, about: Any) -> None:
    """A slip in here would leave accounts unprotected without a word.

    Raises:
        ValueError: What is wrong.
    """
    needed = ("protected",) if name == _EVERYWHERE else ("title", "kill", "protected")
    for key in needed:
        if not isinstance(about, Mapping) or key not in about:
            raise ValueError(f"[{name}] has no {key}")
    for key in ("protected", "host_suffix"):
        if not _are_texts(about.get(key, [])):
            raise ValueError(f"[{name}] {key} is no list of names")
    pairs = about.get("recognised_by", [])
    if not (isinstance(pairs, list) and all(_are_texts(p) and len(p) == 2 for p in pairs)):
        raise ValueError(f"[{name}] recognised_by is no list of pairs")
    if name != _EVERYWHERE and "{id}" not in str(about["kill"]):
        raise ValueError(f"[{name}] kill has no {{id}}")


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
