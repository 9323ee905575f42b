"""Tables of a TOML file, read with care: a mistake is named by file, table and key.

No value but a name is ever quoted: it may be a secret that somebody wrote where it does not belong.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeGuard

from unhang.errors import UsageProblem
from unhang.i18n import _

_PLAIN_PASSWORDS: Final = frozenset({"password", "passwd", "passphrase", "pass", "pwd", "secret"})
_PLAIN_DSNS: Final = frozenset({"dsn", "url", "uri"})
_NAME: Final = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes:
        name: As its header has it; empty for the file's top.
    """

    file: Path
    name: str
    values: Mapping[str, Any] = field(repr=False)

    def where(self, key: str = "") -> str:
        """File, table and key, for messages."""
        place = f"{self.file}: [{self.name}]" if self.name else f"{self.file}:"
        return f"{place} {shown(key)}" if key else place

    def problem(self, key: str, message: str, *, cure: str = "", **values: object) -> UsageProblem:
        """The exception for a mistake at a key; the message has `{where}` for the place."""
        return UsageProblem(message.format(where=self.where(key), **values), cure=cure)

    def allow(self, known: Iterable[str]) -> None:
        """Make sure that it has no other keys.

        Raises:
            UsageProblem: It has one.
        """
        for key in self.values:
            if key not in known:
                raise self._unknown(key, tuple(known))

    def _unknown(self, key: str, known: tuple[str, ...]) -> UsageProblem:
        plain = key.casefold()
        if plain in _PLAIN_PASSWORDS:
            return self.problem(
                key,
                _("{where}: passwords do not belong in this file."),
                cure=_("Use password_env, password_command or option_file instead."),
            )
        if plain in _PLAIN_DSNS:
            return self.problem(
                key,
                _("{where}: a DSN holds a password, which does not belong in this file."),
                cure=_("Use dsn_env or dsn_command instead."),
            )
        message = _("{where}: there is no such key.") if self.name else _("{where}: no such table.")
        return self.problem(key, message, cure=suggestion(key, known))

    def table(self, key: str) -> Table:
        """A table in this one; an empty one when the key is not there."""
        values = self.values.get(key, {})
        if not isinstance(values, dict):
            raise self.problem(key, _("{where} must be a table."))
        return Table(self.file, f"{self.name}.{key}".lstrip("."), values)

    def names(self) -> tuple[str, ...]:
        """Its keys, where they are names that people give.

        Raises:
            UsageProblem: One of them is not fit for a command line or a list.
        """
        for name in self.values:
            if not _NAME.fullmatch(name):
                cure = _("A name is made of letters, digits, _, - and a point.")
                raise self.problem(name, _("{where}: that is no name."), cure=cure)
        return tuple(self.values)

    def text(self, key: str) -> str | None:
        """A text of one line.

        Raises:
            UsageProblem: It is something else, or empty.
        """
        value = self.values.get(key)
        if value is None or _is_line(value):
            return value
        raise self.problem(key, _("{where} must be a text of one line."))

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of different texts; `()` when the key is not there.

        Raises:
            UsageProblem: It is something else, or empty, or has one twice.
        """
        if key not in self.values:
            return ()
        values = self.values[key]
        if not (isinstance(values, list) and values and all(map(_is_line, values))):
            raise self.problem(key, _('{where} must be a list of names: ["…"].'))
        for number, value in enumerate(values):
            if value in values[:number]:
                raise self.problem(key, _("{where} has {value} twice."), value=value)
        return tuple(values)

    def words(self, key: str) -> tuple[str, ...]:
        """A command and its arguments; `()` when the key is not there.

        Raises:
            UsageProblem: It is something else.
        """
        if key not in self.values:
            return ()
        words = self.values[key]
        if (
            isinstance(words, list)
            and all(isinstance(word, str) and "\0" not in word for word in words)
            and words
            and _is_line(words[0])
        ):
            return (self._program(words[0]), *words[1:])
        raise self.problem(
            key,
            _("{where} must be a list of words; no shell reads it."),
            cure=f'{key} = ["pass", "show", "db1"]',
        )

    def program(self, key: str) -> str | None:
        """A program: a path, or what is looked up in PATH."""
        typed = self.text(key)
        return self._program(typed) if typed else None

    def _program(self, typed: str) -> str:
        return str(self._path(typed)) if os.sep in typed or typed[0] == "~" else typed

    def path(self, key: str) -> Path | None:
        """A path, relative to the file's folder."""
        typed = self.text(key)
        return self._path(typed) if typed else None

    def _path(self, typed: str) -> Path:
        path = Path(typed)
        # A home that nobody knows stays as it is, and will not be found.
        with suppress(RuntimeError):
            path = path.expanduser()
        return self.file.parent / path

    def number(self, key: str, *, most: int) -> int | None:
        """A whole number from 1.

        Raises:
            UsageProblem: It is something else.
        """
        value = self.values.get(key)
        if value is None or (type(value) is int and 0 < value <= most):
            return value
        raise self.problem(key, _("{where} must be a whole number from 1 to {most}."), most=most)


def read_table(path: Path) -> Table:
    """The top of a file.

    Raises:
        UsageProblem: It cannot be read, or is not TOML.
    """
    try:
        # Some editors begin a file with a byte order mark, which TOML does not know.
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
    else:
        return Table(path, "", values)
    # Out here: from Python 3.14 the exception above carries the file's whole text.
    message = _("{file} cannot be read: {reason}.")
    raise UsageProblem(message.format(file=path, reason=reason))


def suggestion(name: str, known: Iterable[str]) -> str:
    """What was perhaps meant, else what there is."""
    names = tuple(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return _("Did you mean {name}?").format(name=near[0])
    return _("Known are: {names}.").format(names=", ".join(names) or _("none"))


def shown(name: str) -> str:
    """A name as a message may have it: control characters would command the terminal."""
    return name if name.isprintable() and name else repr(name)


def _is_line(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.isprintable() and bool(value.strip())
