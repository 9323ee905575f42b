"""The demo project's files look like a person wrote them."""

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unhang.lab.project import SHOP, Database, Serving, Worker, write_project

DATABASE = Database("shop", "shop", "pa\"ss'w\\rd", "127.0.0.1", 3306)
SERVING = Serving("gthread", 2, 8, "127.0.0.1", 8000)


def settings_of(tmp_path: Path, database: Database, **settings: object) -> dict[str, Any]:
    """The literal values of a written settings file."""
    write_project(tmp_path / "demo", SHOP, database, SERVING, settings)
    tree = ast.parse((tmp_path / "demo/shopsite/settings.py").read_text())
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:  # BASE_DIR, which is computed
                continue
    return found


def test_only_what_differs_from_djangos_defaults_is_written(tmp_path: Path) -> None:
    default = settings_of(tmp_path, DATABASE)["DATABASES"]["default"]
    assert default == {
        "ENGINE": "django.db.backends.mysql",
        "NAME": "shop",
        "USER": "shop",
        "PASSWORD": "pa\"ss'w\\rd",
        "HOST": "127.0.0.1",
        "PORT": "3306",
    }


@pytest.mark.parametrize("max_age", [280, None])
def test_a_connection_age_is_written_as_a_literal(tmp_path: Path, max_age: int | None) -> None:
    database = replace(DATABASE, max_age=max_age, health_checks=True)
    default = settings_of(tmp_path, database)["DATABASES"]["default"]
    assert default["CONN_MAX_AGE"] == max_age
    assert default["CONN_HEALTH_CHECKS"] is True


def test_a_pool_is_written_as_a_person_would(tmp_path: Path) -> None:
    pool = {"max_size": 5, "timeout": 0.5, "lease": "request"}
    database = replace(DATABASE, engine="unhang.backends.mysql", pool=pool)
    default = settings_of(tmp_path, database)["DATABASES"]["default"]
    assert default["ENGINE"] == "unhang.backends.mysql"
    assert default["OPTIONS"] == {"pool": pool}
    text = (tmp_path / "demo/shopsite/settings.py").read_text()
    assert '"OPTIONS": {"pool": {"max_size": 5, "timeout": 0.5, "lease": "request"}},' in text


def test_given_settings_beat_the_projects_own(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, DATABASE, TIME_ZONE="Asia/Seoul", EXTRA={"a": [1]})
    assert settings["TIME_ZONE"] == "Asia/Seoul"
    assert settings["EXTRA"] == {"a": [1]}


def test_unhang_is_installed_and_measures_first(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, DATABASE)
    assert "unhang" in settings["INSTALLED_APPS"]
    assert settings["MIDDLEWARE"][0] == "unhang.middleware.ResponseTimes"
    assert (tmp_path / "demo/run").is_dir()


def test_no_template_is_left_in_the_project(tmp_path: Path) -> None:
    settings_of(tmp_path, DATABASE)
    assert not list((tmp_path / "demo").rglob("*-tpl"))


@pytest.mark.parametrize(
    ("worker", "processes", "words"),
    [
        ("sync", 2, {"gunicorn"}),
        ("gthread", 1, {"gunicorn"}),
        ("gevent", 1, {"gunicorn"}),
        ("asgi", 1, {"uvicorn"}),
        ("asgi", 3, {"uvicorn", "--workers", "3"}),
    ],
)
def test_each_worker_kind_has_its_command(worker: Worker, processes: int, words: set[str]) -> None:
    command = set(replace(SERVING, worker=worker, processes=processes).command("python"))
    assert words <= command
    assert ("--workers" in command) == ("--workers" in words)
