"""Finding a project and loading its settings in a fresh interpreter."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from unhang.errors import UsageProblem
from unhang.survey.collect import targets_of
from unhang.survey.model import Alias, PoolFacts
from unhang.survey.project import Project, find_project, load_settings

MANAGE = 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "conf.settings")\n'
SETTINGS = """
import sys
print("a settings module that prints")
SECRET_KEY = "x"
DATABASES = {
    "default": {"ENGINE": "django.db.backends.mysql", "NAME": "a", "USER": "u", "PASSWORD": "50%",
                "HOST": "127.0.0.1", "PORT": "3310", "CONN_MAX_AGE": None},
    "replica": {"ENGINE": "django.db.backends.mysql", "NAME": "a", "HOST": "127.0.0.1",
                "PORT": 3310},
    "log": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "__init__.py").touch()
    (tmp_path / "conf" / "settings.py").write_text(SETTINGS)
    (tmp_path / "manage.py").write_text(MANAGE)
    return tmp_path


def test_manage_py_in_the_folder_leads_to_the_settings(folder: Path) -> None:
    project = find_project(directory=folder)
    assert project is not None
    settings = load_settings(project)
    assert settings.mysql_aliases == ("default", "replica")
    default, replica = settings.alias("default"), settings.alias("replica")
    assert (default.conn_max_age, default.conn_health_checks) == (None, False)
    assert (replica.conn_max_age, replica.host) == (0, "127.0.0.1:3310")
    assert settings.login("default").password == "50%"
    assert settings.settings_file == folder / "conf" / "settings.py"


def test_manage_py_may_assign_instead_of_setdefault(folder: Path) -> None:
    (folder / "manage.py").write_text(
        'import os\nos.environ["DJANGO_SETTINGS_MODULE"] = "conf.settings"\n'
    )
    project = find_project(directory=folder)
    assert project is not None
    assert project.settings_module == "conf.settings"


def test_two_aliases_on_one_server_are_one_target(folder: Path) -> None:
    settings = load_settings(Project(folder, "conf.settings"))
    (target,) = targets_of(settings)
    assert target.name == "default, replica"


def test_no_manage_py_and_nothing_named_is_no_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    assert find_project() is None


def test_a_folder_without_manage_py_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    with pytest.raises(UsageProblem, match=r"There is no manage\.py in"):
        find_project(directory=tmp_path)


def test_settings_that_do_not_exist_are_one_sentence(folder: Path) -> None:
    with pytest.raises(UsageProblem, match=r"There are no settings nowhere\.settings in"):
        load_settings(Project(folder, "nowhere.settings"))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('no key')", "RuntimeError: no key"),
        ("import os; os.environ['NOT_SET']", "KeyError: 'NOT_SET'"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        ("this is no python", "SyntaxError"),
        ("import os; os._exit(3)", "do not load"),
    ],
)
def test_settings_that_fail_say_why_without_a_traceback(
    folder: Path, code: str, reason: str
) -> None:
    (folder / "conf" / "settings.py").write_text(code)
    with pytest.raises(UsageProblem, match=reason) as raised:
        load_settings(Project(folder, "conf.settings"))
    assert "Traceback" not in str(raised.value)


def test_an_interpreter_that_is_not_there_is_one_sentence(folder: Path) -> None:
    with pytest.raises(UsageProblem, match="cannot be started"):
        load_settings(Project(folder, "conf.settings", python="/no/such/python"))


def test_an_unknown_alias_names_the_known_ones(folder: Path) -> None:
    settings = load_settings(Project(folder, "conf.settings"))
    with pytest.raises(UsageProblem, match="it has: default, replica, log"):
        targets_of(settings, only=["primary"])


def test_an_alias_that_is_not_mysql_is_refused(folder: Path) -> None:
    settings = load_settings(Project(folder, "conf.settings"))
    with pytest.raises(UsageProblem, match=r"ENGINE is django\.db\.backends\.sqlite3"):
        targets_of(settings, only=["log"])


def test_a_conn_max_age_that_is_text_is_refused(folder: Path) -> None:
    file = folder / "conf" / "settings.py"
    file.write_text(SETTINGS.replace('"CONN_MAX_AGE": None', '"CONN_MAX_AGE": "60"'))
    settings = load_settings(Project(folder, "conf.settings"))
    with pytest.raises(UsageProblem, match="not a number of seconds"):
        settings.alias("default")


def test_the_settings_object_never_prints_a_password(folder: Path) -> None:
    settings = load_settings(Project(folder, "conf.settings"))
    assert "50%" not in f"{settings} {settings!r}"


def test_hundreds_of_aliases_are_loaded(folder: Path) -> None:
    with (folder / "conf" / "settings.py").open("a") as file:
        file.write("DATABASES |= {f't{n}': dict(DATABASES['log']) for n in range(400)}\n")
    assert len(load_settings(Project(folder, "conf.settings")).databases) == 403


def test_reading_the_variable_is_not_naming_the_settings(folder: Path) -> None:
    (folder / "manage.py").write_text(
        f'import os\nbefore = os.environ.get("DJANGO_SETTINGS_MODULE")\n{MANAGE}'
    )
    project = find_project(directory=folder)
    assert project is not None
    assert project.settings_module == "conf.settings"


def test_a_manage_py_that_only_reads_the_variable_names_no_settings(folder: Path) -> None:
    (folder / "manage.py").write_text('import os\nos.environ.get("DJANGO_SETTINGS_MODULE")\n')
    with pytest.raises(UsageProblem, match="does not say which settings"):
        find_project(directory=folder)


@pytest.mark.parametrize(
    ("code", "age"),
    [('float("inf")', None), ("-1", 0), ("59.9", 59), ("True", 1)],
)
def test_an_unusual_conn_max_age_is_read_as_django_acts_on_it(
    folder: Path, code: str, age: int | None
) -> None:
    file = folder / "conf" / "settings.py"
    file.write_text(SETTINGS.replace('"CONN_MAX_AGE": None', f'"CONN_MAX_AGE": {code}'))
    assert load_settings(Project(folder, "conf.settings")).alias("default").conn_max_age == age


def test_a_conn_max_age_that_is_no_number_is_refused(folder: Path) -> None:
    file = folder / "conf" / "settings.py"
    file.write_text(SETTINGS.replace('"CONN_MAX_AGE": None', '"CONN_MAX_AGE": float("nan")'))
    settings = load_settings(Project(folder, "conf.settings"))
    with pytest.raises(UsageProblem, match="not a number of seconds"):
        settings.alias("default")


def test_the_init_command_of_an_alias_is_read(folder: Path) -> None:
    with (folder / "conf" / "settings.py").open("a") as file:
        file.write("DATABASES['replica']['OPTIONS'] = {'init_command': 'SET wait_timeout=30'}\n")
    settings = load_settings(Project(folder, "conf.settings"))
    assert settings.alias("replica").session_wait_timeout == 30
    assert settings.alias("default").session_wait_timeout is None


@pytest.mark.parametrize(
    ("code", "driver"),
    [
        ("import pymysql; pymysql.install_as_MySQLdb()", "pymysql"),
        ("import sys, types; sys.modules['MySQLdb'] = types.ModuleType('MySQLdb')", "mysqlclient"),
        ("import sys; sys.modules['MySQLdb'] = None", None),
    ],
)
def test_the_driver_that_django_would_load_is_known(
    folder: Path, code: str, driver: str | None
) -> None:
    (folder / "conf" / "__init__.py").write_text(code)
    assert load_settings(Project(folder, "conf.settings")).mysql_driver == driver


def test_without_a_mysql_alias_no_driver_is_loaded(folder: Path) -> None:
    file = folder / "conf" / "settings.py"
    file.write_text(SETTINGS.replace("backends.mysql", "backends.sqlite3"))
    (folder / "MySQLdb.py").write_text("raise SystemExit('loaded')")
    assert load_settings(Project(folder, "conf.settings")).mysql_driver is None


def test_an_unhang_setting_that_is_no_dict_is_refused(folder: Path) -> None:
    with (folder / "conf" / "settings.py").open("a") as file:
        file.write("UNHANG = ['WORKERS']\n")
    with pytest.raises(UsageProblem, match=r"UNHANG in conf\.settings is not a dict"):
        load_settings(Project(folder, "conf.settings"))


def test_an_interpreter_named_from_this_folder_is_found_from_the_projects(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("here")
    (here / "py").symlink_to(sys.executable)
    monkeypatch.chdir(here)
    project = find_project(directory=folder, python="./py")
    assert project is not None
    assert project.python == str(here / "py")  # not resolved: a link is how virtualenvs work
    by_name = find_project(directory=folder, python="sh")
    assert by_name is not None
    assert by_name.python == shutil.which("sh")


def with_own_engine(folder: Path, **values: object) -> Alias:
    with (folder / "conf" / "settings.py").open("a") as file:
        file.write(f"DATABASES['default'] |= {{'ENGINE': 'unhang.backends.mysql', **{values!r}}}\n")
    return load_settings(Project(folder, "conf.settings")).alias("default")


def test_unhangs_own_engine_is_a_pool_without_any_option(folder: Path) -> None:
    alias = with_own_engine(folder)
    assert alias.own_pool == PoolFacts(
        ours=True, min_size=1, max_size=10, max_idle=5.0, lease="transaction"
    )
    settings = load_settings(Project(folder, "conf.settings"))
    assert settings.alias("replica").pool is None


def test_the_options_of_a_pool_are_read_as_the_backend_reads_them(folder: Path) -> None:
    alias = with_own_engine(
        folder, OPTIONS={"pool": {"max_size": 4, "lease": "request"}, "init_command": "BEGIN"}
    )
    assert alias.own_pool is not None
    assert (alias.own_pool.max_size, alias.own_pool.lease) == (4, "request")
    assert alias.init_conflicts == ("BEGIN",)


def test_options_that_are_refused_keep_the_reason(folder: Path) -> None:
    alias = with_own_engine(folder, OPTIONS={"pool": {"max_sise": 4}})
    assert alias.own_pool is not None
    assert "did you mean 'max_size'?" in alias.own_pool.problem
    assert alias.own_pool.max_size is None


def test_a_pool_of_another_engine_is_only_known_to_be_there(folder: Path) -> None:
    with (folder / "conf" / "settings.py").open("a") as file:
        file.write("DATABASES['replica']['OPTIONS'] = {'pool': {'max_sise': 4}}\n")
    alias = load_settings(Project(folder, "conf.settings")).alias("replica")
    assert alias.pool == PoolFacts(ours=False)
    assert alias.own_pool is None


@pytest.mark.parametrize(("code", "variable"), [("None", ""), ("sys", "pymysql")])
def test_the_driver_that_unhangs_own_engine_chooses_is_known(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, variable: str
) -> None:
    (folder / "conf" / "__init__.py").write_text(f"import sys; sys.modules['MySQLdb'] = {code}")
    monkeypatch.setenv("UNHANG_DRIVER", variable)
    options = {"unix_socket": "/run/shop.sock"}
    with_own_engine(folder, HOST="db.example.org", OPTIONS=options)
    settings = load_settings(Project(folder, "conf.settings"))
    assert settings.login("default").unix_socket, "mysqlclient would go to the host"
