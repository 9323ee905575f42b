"""Django's system checks of the settings."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.db import connections

from unhang.checks import check_connection_settings
from unhang.mysql.engine import is_mysql_engine

if not settings.configured:
    settings.configure()


def messages(monkeypatch: pytest.MonkeyPatch, **values: Any) -> list[str]:
    database = {
        "ENGINE": "django.db.backends.mysql",
        "CONN_MAX_AGE": 280,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {},
    } | values
    monkeypatch.setattr(connections, "settings", {"default": database})
    return [str(message.id) for message in check_connection_settings(None)]


def test_an_age_that_is_text_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert messages(monkeypatch, CONN_MAX_AGE="60") == ["unhang.E001"]


def test_an_age_without_end_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert messages(monkeypatch, CONN_MAX_AGE=None) == ["unhang.W001"]


def test_kept_connections_that_nobody_checks_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert messages(monkeypatch, CONN_HEALTH_CHECKS=False) == ["unhang.W002"]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False},
        {"CONN_HEALTH_CHECKS": False, "OPTIONS": {"pool": True}},
        {"ENGINE": "django.db.backends.sqlite3", "CONN_MAX_AGE": None},
        {"ENGINE": "django.db.backends.postgresql", "CONN_MAX_AGE": "60"},
    ],
)
def test_what_is_healthy_or_not_mysql_is_silent(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]
) -> None:
    assert messages(monkeypatch, **values) == []


def test_another_makers_engine_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert messages(monkeypatch, ENGINE="shop.db.MariaDB", CONN_MAX_AGE="60") == ["unhang.E001"]


@pytest.mark.parametrize(
    ("engine", "answer"),
    [
        ("django.db.backends.mysql", True),
        ("django.contrib.gis.db.backends.mysql", True),
        ("dj_db_conn_pool.backends.MySQL", True),
        ("shop.mariadb", True),
        ("django.db.backends.dummy", False),
        ("", False),
    ],
)
def test_an_engine_of_mysql_is_known_by_its_name(engine: str, answer: bool) -> None:
    assert is_mysql_engine(engine) is answer
