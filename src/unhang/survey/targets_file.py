"""`unhang.toml`: the databases of an organisation by name, and the order in which plans reach them.

    [targets.staging]                            # a Django project's databases
    settings = "shop.settings.staging"
    login = { option_file = "~/.unhang.cnf" }    # instead of the application's own account

    [targets.primary]                            # a server without a project
    host = "db1.example.com"
    user = "dba"
    password_env = "DB1_PASSWORD"

    [groups]
    staging = ["staging"]
    production = ["primary"]

    [promotion]
    production = "staging"                       # what must have been applied and watched first

The file holds no secrets, only where they are: in an environment variable, in an option file, or in
what a command prints. Reading it fetches none of them, runs nothing and connects to nothing.

- A target has either `settings` or a server. With `settings` it may have `project` (the folder of
  `manage.py`; default: the file's), `python`, `aliases` and `login`, an account as of a server.
- A server is `host` (with `port`) or `unix_socket`, an `option_file`, or a whole DSN from `dsn_env`
  or `dsn_command`. Beside a DSN there can only be `ssl_…` keys; what stands beside an option file
  counts instead of what that says.
- An account is `user`, with `password_env` or `password_command` unless it has no password, or what
  `option_file` or the DSN says. A `port` needs its `host`, also in a `login`, which without an
  address is an account on the application's own server.
- `password_command` and `dsn_command` are lists of words, no shell reads them. The command runs in
  the file's folder with no input; the first line that it prints is the secret, it has 30 s, and
  what it says on stderr is dropped.
- Paths are relative to the file's folder, `~` is a home. A program without a `/` is looked up in
  PATH.
- Names are letters, digits, `_`, `-` and `.`. A group may have the name of a target if it is that
  target alone, so that a name never means two things. A group's members are targets, not groups.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.survey.login import Login
from unhang.survey.project import Project, find_project
from unhang.survey.secrets import PLACE_KEYS, SERVER_KEYS, Account, read_account
from unhang.survey.toml_table import Table, read_table, shown, suggestion

FILE_NAME: Final = "unhang.toml"

_PROJECT_KEYS: Final = ("settings", "project", "python", "aliases", "login")


@dataclass(frozen=True, slots=True)
class NamedTarget:
    """A Django project's databases, or a server, under a name.

    Attributes:
        settings: The project's settings module; `None` for a server without a project.
        folder: The project's folder.
        python: The interpreter that can import the project, if not the usual one.
        aliases: The entries of DATABASES that are meant; empty means all.
        account: Of a server, how to reach it; of a project, what to use instead of its own account.
    """

    file: Path
    name: str
    settings: str | None = None
    folder: Path | None = None
    python: str | None = None
    aliases: tuple[str, ...] = ()
    account: Account | None = None

    def __repr__(self) -> str:
        # Any value may turn out to be a DSN that somebody put under the wrong key.
        return f"<NamedTarget {self.name}>"

    @property
    def project(self) -> Project | None:
        """The project; `None` for a server without one.

        Raises:
            UsageProblem: Its folder is not there.
        """
        if self.settings is None or self.folder is None:
            return None
        if not self.folder.is_dir():
            # Without the path: whoever put a DSN there shall not see it printed.
            message = _("{file}: [targets.{name}] project: there is no such folder.")
            raise UsageProblem(message.format(file=self.file, name=self.name))
        return find_project(
            settings_module=self.settings, directory=self.folder, python=self.python
        )

    def login(self) -> Login | None:
        """The account that looks and changes, its secrets fetched now.

        Returns:
            `None` where the application's own is to be used.

        Raises:
            UsageProblem: A secret cannot be fetched, or the option file cannot be read.
        """
        return self.account.login() if self.account else None


@dataclass(frozen=True, slots=True)
class TargetsFile:
    """What an `unhang.toml` says.

    Attributes:
        targets: In the file's order.
        groups: The names of their targets.
        promotion: For a group, the one in which a plan must have been applied before.
    """

    path: Path
    targets: tuple[NamedTarget, ...]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    promotion: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The targets' names."""
        return tuple(target.name for target in self.targets)

    def chosen(self, names: Sequence[str], groups: Sequence[str]) -> tuple[NamedTarget, ...]:
        """The targets that are named, alone or with their group: in the file's order, each once.

        Raises:
            UsageProblem: There is no such target, or no such group.
        """
        wanted = {self._target(name) for name in names}
        for group in groups:
            wanted.update(self.groups[self._group(group)])
        return tuple(target for target in self.targets if target.name in wanted)

    def groups_of(self, name: str) -> tuple[str, ...]:
        """The groups that a target belongs to.

        Raises:
            UsageProblem: There is no such target.
        """
        self._target(name)
        return tuple(group for group, members in self.groups.items() if name in members)

    def requires(self, group: str) -> str | None:
        """The group in which a plan for this one must have been applied and watched before.

        Raises:
            UsageProblem: There is no such group.
        """
        return self.promotion.get(self._group(group))

    def _target(self, name: str) -> str:
        message = _("{file} has no target {name}; it has: {known}.")
        return _among(self.names, name, message, self)

    def _group(self, name: str) -> str:
        message = _("{file} has no group {name}; it has: {known}.")
        return _among(tuple(self.groups), name, message, self)


def _among(known: Sequence[str], name: str, message: str, file: TargetsFile) -> str:
    if name in known:
        return name
    cure = ""
    if name in file.groups:
        cure = _("{name} is a group, not a target.").format(name=name)
    elif name in file.names:
        cure = _("{name} is a target, not a group.").format(name=name)
    names = ", ".join(known) or _("none")
    raise UsageProblem(message.format(file=file.path, name=shown(name), known=names), cure=cure)


def find(directory: Path) -> Path | None:
    """The `unhang.toml` of a folder: in it, else in the nearest folder above it.

    The search ends at the top of a repository. Above the folder itself, a file counts only if it
    belongs to root, to us, or to whose the folder is: it names commands that will be run, and
    anybody may put one in /tmp.
    """
    start = directory.absolute()
    try:
        owners = {0, os.geteuid(), start.stat().st_uid}
        for folder in (start, *start.parents):
            file = folder / FILE_NAME
            if file.is_file() and (folder == start or file.stat().st_uid in owners):
                return file
            if (folder / ".git").exists():
                break
    except PermissionError:
        # Started by sudo in somebody's home: where we may not look, there is nothing for us.
        pass
    return None


def read(path: Path) -> TargetsFile:
    """What a file says. No secret is fetched and no command run.

    Raises:
        UsageProblem: It cannot be read or has a mistake, with file, table, key and cure.
    """
    top = read_table(path.absolute())
    top.allow(("targets", "groups", "promotion"))
    table = top.table("targets")
    if not table.values:
        raise UsageProblem(
            _("{file} names no targets.").format(file=top.file),
            cure='[targets.staging]\nsettings = "shop.settings.staging"',
        )
    targets = tuple(_target(name, table) for name in table.names())
    groups = _groups(top.table("groups"), [target.name for target in targets])
    return TargetsFile(top.file, targets, groups, _promotion(top.table("promotion"), groups))


def _target(name: str, tables: Table) -> NamedTarget:
    table = tables.table(name)
    table.allow((*_PROJECT_KEYS, *SERVER_KEYS))
    if "settings" not in table.values:
        _refuse_project_keys(table)
        return NamedTarget(table.file, name, account=read_account(table))
    server = [key for key in SERVER_KEYS if key in table.values]
    if server:
        raise table.problem(
            server[0],
            _("{where} does not go with settings: a target is a project or a server."),
            cure=_("An account instead of the application's own goes into login."),
        )
    login = table.table("login")
    login.allow(SERVER_KEYS)
    return NamedTarget(
        table.file,
        name,
        settings=_module(table),
        folder=table.path("project") or table.file.parent,
        python=table.program("python"),
        aliases=table.texts("aliases"),
        account=read_account(login) if "login" in table.values else None,
    )


def _refuse_project_keys(table: Table) -> None:
    for key in _PROJECT_KEYS:
        if key in table.values:
            raise table.problem(
                key,
                _("{where} belongs to a Django project, but settings are missing."),
                cure='settings = "shop.settings.staging"',
            )
    if not any(key in table.values for key in PLACE_KEYS):
        raise table.problem(
            "",
            _("{where} names neither a project nor a server."),
            cure=_("A project: settings. A server: {keys}.").format(keys=", ".join(PLACE_KEYS)),
        )


def _module(table: Table) -> str | None:
    module = table.text("settings")
    if module and all(part.isidentifier() for part in module.split(".")):
        return module
    raise table.problem(
        "settings",
        _("{where} must be a module's dotted name."),
        cure='settings = "shop.settings.staging"',
    )


def _groups(table: Table, targets: Sequence[str]) -> dict[str, tuple[str, ...]]:
    groups = {name: table.texts(name) for name in table.names()}
    for name, members in groups.items():
        for member in members:
            if member not in targets:
                message = _("{where}: there is no target {name}.")
                cure = suggestion(member, targets)
                raise table.problem(name, message, cure=cure, name=member)
        if name in targets and members != (name,):
            raise table.problem(
                name,
                _("{where} is also the name of a target, which is not the same."),
                cure=_("Give one of them another name."),
            )
    return groups


def _promotion(table: Table, groups: Iterable[str]) -> dict[str, str]:
    promotion = {group: table.text(group) or "" for group in table.names()}
    for pair in promotion.items():
        for name in pair:
            if name not in groups:
                message = _("{where}: there is no group {name}.")
                raise table.problem(pair[0], message, cure=suggestion(name, groups), name=name)
    for group in promotion:
        way = [group]
        while way[-1] in promotion and way[-1] not in way[:-1]:
            way.append(promotion[way[-1]])
        if way[-1] in way[:-1]:
            message = _("{where} goes in a circle: {way}.")
            raise table.problem(group, message, way=" → ".join(way))
    return promotion
