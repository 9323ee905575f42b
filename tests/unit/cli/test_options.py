"""What a call is about, when several things say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unhang.cli import options
from unhang.errors import UsageProblem

SETTINGS = """
SECRET_KEY = "x"
DATABASES = {"default": {"ENGINE": "django.db.backends.mysql", "HOST": "127.0.0.1", "PORT": 3310}}
"""
DSN = "mysql://u@127.0.0.1:3311/"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    monkeypatch.delenv("UNHANG_DSN", raising=False)
    monkeypatch.setattr(options, "_directory", None)
    folder = tmp_path / "project"
    (folder / "conf").mkdir(parents=True)
    (folder / "conf" / "__init__.py").touch()
    (folder / "conf" / "settings.py").write_text(SETTINGS)
    (folder / "manage.py").write_text(
        'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "conf.settings")\n'
    )
    (tmp_path / "my.cnf").write_text("[client]\nhost=127.0.0.1\nport=3312\n")
    monkeypatch.chdir(tmp_path)
    return folder


def port(**given: Any) -> int:
    return options.resolve(**given).single.login.port


@pytest.mark.parametrize("server", ["dsn", "option_file"])
@pytest.mark.parametrize("other", ["settings", "project", "aliases"])
def test_a_server_and_a_project_cannot_both_be_named(
    project: Path, server: str, other: str
) -> None:
    values = {"dsn": DSN, "option_file": Path("my.cnf"), "settings": "conf.settings"}
    values |= {"project": project, "aliases": ["default"]}
    with pytest.raises(UsageProblem, match=f"--.* and --{other[:5]}.* cannot be used together"):
        options.resolve(**{name: values[name] for name in (server, other)})  # type: ignore[arg-type]  # by name


def test_the_environments_dsn_yields_to_what_is_typed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNHANG_DSN", DSN)
    assert port() == 3311
    assert port(project=project) == 3310
    assert port(option_file=Path("my.cnf")) == 3312
    assert port(dsn="mysql://u@127.0.0.1:3313/") == 3313
    monkeypatch.chdir(project)
    assert port(settings="conf.settings") == 3310
    assert port(aliases=["default"]) == 3310


def test_manage_pys_own_project_comes_before_the_environment(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNHANG_DSN", DSN)
    options.use_directory(project)
    assert port() == 3310
    assert port(dsn=DSN) == 3311
