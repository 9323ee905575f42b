"""A Django project on disk: where it is, and what its settings say once loaded."""

from __future__ import annotations

import ast
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.latency.rundir import run_dir_from
from unhang.mysql.engine import MYSQL_ENGINES, OWN_ENGINES, is_mysql_engine
from unhang.mysql.init_command import session_wait_timeout, transaction_conflicts
from unhang.survey import settings_probe
from unhang.survey.login import Login, from_django
from unhang.survey.model import Alias
from unhang.survey.pools import pool_facts

LOAD_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Project:
    """Where a project is and how its settings are loaded.

    Attributes:
        directory: What `manage.py` would put first on `sys.path`.
        settings_module: Dotted name.
        python: The interpreter that can import the project.
    """

    directory: Path
    settings_module: str
    python: str = sys.executable


@dataclass(frozen=True, slots=True)
class Settings:
    """A project's settings in effect. Holds passwords: never print it.

    Attributes:
        mysql_driver: What Django would load for MySQL: `mysqlclient`, `pymysql`, or `None`.
        has_unhang: The project's interpreter can import unhang, so its ENGINE can be used there.
    """

    project: Project
    databases: Mapping[str, Mapping[str, Any]]
    django_version: str
    settings_file: Path | None
    loaded_files: tuple[Path, ...]
    middleware: tuple[str, ...]
    unhang: Mapping[str, Any]
    mysql_driver: str | None = None
    has_unhang: bool = False

    def __repr__(self) -> str:
        return f"<Settings {self.project.settings_module}: {', '.join(self.databases)}>"

    @property
    def mysql_aliases(self) -> tuple[str, ...]:
        """The aliases whose ENGINE is one of MySQL's, Django's own or a third party's."""
        return tuple(
            name for name, database in self.databases.items() if is_mysql_engine(database["ENGINE"])
        )

    @property
    def run_dir(self) -> Path:
        """Where the application leaves its counters, and who opened which connection.

        Raises:
            UsageProblem: `UNHANG["RUN_DIR"]` is no path.
        """
        project = self.project
        try:
            return run_dir_from(
                self.unhang,
                project_dir=project.directory,
                settings_module=project.settings_module,
            )
        except TypeError:
            raise UsageProblem(_('UNHANG["RUN_DIR"] must be the path of a folder.')) from None

    def login(self, alias: str) -> Login:
        """The application's own login for an alias."""
        database, driver = self.databases[alias], self.mysql_driver
        if database["ENGINE"] in OWN_ENGINES and driver != "pymysql":
            # As the backend chooses; where nothing answers to MySQLdb it takes PyMySQL.
            driver = os.environ.get("UNHANG_DRIVER") or driver or "pymysql"
        return from_django(database, driver=driver)

    def alias(self, name: str) -> Alias:
        """An alias's settings in effect, without secrets."""
        database, login = self.databases[name], self.login(name)
        init_command = str(database["OPTIONS"].get("init_command") or "")
        return Alias(
            name=name,
            engine=str(database["ENGINE"]),
            host=login.address,
            user=login.user,
            database=login.database or "",
            conn_max_age=_seconds(name, database["CONN_MAX_AGE"]),
            conn_health_checks=bool(database["CONN_HEALTH_CHECKS"]),
            atomic_requests=bool(database["ATOMIC_REQUESTS"]),
            pool=pool_facts(database),
            session_wait_timeout=session_wait_timeout(init_command),
            init_conflicts=transaction_conflicts(init_command),
            # Django sets autocommit itself after the driver and the init_command had their say.
            autocommit=bool(database.get("AUTOCOMMIT", True)),
        )


def _seconds(alias: str, value: object) -> int | None:
    if value is None or value == math.inf:
        return None
    if isinstance(value, int | float) and not math.isnan(value):
        # A negative one is over at once, as 0 is.
        return max(0, int(value))
    message = _("CONN_MAX_AGE of {alias} is {value!r}, not a number of seconds.")
    raise UsageProblem(
        message.format(alias=alias, value=value),
        cure=_("Django compares it with a clock: a string from the environment needs int(…)."),
    )


def find_project(
    *, settings_module: str | None = None, directory: Path | None = None, python: str | None = None
) -> Project | None:
    """The project that the options name, else the one whose `manage.py` is in this folder.

    Returns:
        `None` when nothing names a project and there is no `manage.py`.

    Raises:
        UsageProblem: A folder without `manage.py` was named, or its settings cannot be told.
    """
    folder = (directory or Path.cwd()).resolve()
    manage = folder / "manage.py"
    module = settings_module or os.environ.get("DJANGO_SETTINGS_MODULE")
    if module is None and manage.is_file():
        module = _module_in(manage)
    if module is None:
        if directory is None:
            return None
        raise UsageProblem(
            _("There is no manage.py in {folder}.").format(folder=folder),
            cure=_("Name the settings with --settings PACKAGE.MODULE."),
        )
    return Project(folder, module, _interpreter(python or os.environ.get("UNHANG_PYTHON")))


def _interpreter(typed: str | None) -> str:
    """The interpreter as a path that holds in every folder: it is started in the project's."""
    if not typed:
        return sys.executable
    if os.sep in typed:
        # Not resolved: a virtual environment's interpreter is a link, and works by its place.
        return str(Path(typed).expanduser().absolute())
    return shutil.which(typed) or typed


def _module_in(manage: Path) -> str:
    """The settings module that a `manage.py` sets: a string beside DJANGO_SETTINGS_MODULE."""
    try:
        tree = ast.parse(manage.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        tree = ast.Module(body=[], type_ignores=[])
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            texts = [a.value for a in call.args if isinstance(a, ast.Constant)]
            match texts:
                case ["DJANGO_SETTINGS_MODULE", str(module)] if module != texts[0]:
                    return module
        if isinstance(call, ast.Assign) and "DJANGO_SETTINGS_MODULE" in ast.dump(call.targets[0]):
            value = call.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                return value.value
    raise UsageProblem(
        _("{manage} does not say which settings it uses.").format(manage=manage),
        cure=_("Name them with --settings PACKAGE.MODULE."),
    )


def load_settings(project: Project) -> Settings:
    """The settings as a fresh interpreter sees them now, defaults filled in.

    A fresh one each time, so that an edit made a moment ago is seen, and nothing of the project
    runs inside this process.

    Raises:
        UsageProblem: They do not load; the message holds the reason.
    """
    answer = _ask(project)
    if "error" in answer:
        raise _unloadable(project, answer)
    if not isinstance(answer["unhang"], Mapping):
        message = _("UNHANG in {module} is not a dict.")
        raise UsageProblem(message.format(module=project.settings_module))
    file = answer["settings_file"]
    return Settings(
        project=project,
        databases=answer["databases"],
        django_version=answer["django_version"],
        settings_file=Path(file) if file else None,
        loaded_files=tuple(Path(name) for name in answer["loaded_files"]),
        middleware=tuple(answer["middleware"]),
        unhang=answer["unhang"],
        mysql_driver=answer["mysql_driver"],
        has_unhang=answer["has_unhang"],
    )


def _ask(project: Project) -> Mapping[str, Any]:
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": project.settings_module,
        # manage.py may have put more than its own folder on the path.
        "PYTHONPATH": os.pathsep.join(
            [str(project.directory), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    # A file, not a pipe: a pipe holds 64 KB, and nobody reads before the answer is complete. It has
    # no name, since the answer holds passwords.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as answers:
        try:
            process = subprocess.Popen(
                [project.python, settings_probe.__file__, str(answers.fileno()), MYSQL_ENGINES],
                cwd=project.directory,
                env=environment,
                pass_fds=[answers.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        except OSError as error:
            message = _("The interpreter {python} cannot be started: {reason}.")
            raise UsageProblem(
                message.format(python=project.python, reason=error.strerror)
            ) from None
        with process:
            try:
                __, stderr = process.communicate(timeout=LOAD_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                return {"error": _("it took longer than {n} s").format(n=LOAD_SECONDS), "kind": ""}
        answers.seek(0)
        text = answers.read()
    if text:
        answer: Mapping[str, Any] = json.loads(text)
        return answer
    return {"error": (stderr.strip().splitlines() or ["?"])[-1], "kind": ""}


def _unloadable(project: Project, answer: Mapping[str, Any]) -> UsageProblem:
    module, error = project.settings_module, answer["error"]
    if answer["kind"] == "ModuleNotFoundError" and f"'{module.split('.')[0]}'" in error:
        return UsageProblem(
            _("There are no settings {module} in {folder}.").format(
                module=module, folder=project.directory
            ),
            cure=_("Run it in the folder of manage.py, or name the folder with --project."),
        )
    return UsageProblem(
        _("The settings {module} do not load: {error}").format(module=module, error=error),
        cure=_(
            "Run it where the application runs, with its environment variables; "
            "--python names the interpreter of its virtual environment."
        ),
    )
