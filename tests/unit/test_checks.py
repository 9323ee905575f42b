"""Django's system checks of the settings."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import CheckMessage
from django.db import connections
from django.db.backends.signals import connection_created

from unhang.checks import (
    check_connection_receivers,
    check_connection_settings,
    check_owners,
)
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
        {"CONN_HEALTH_CHECKS": False, "OPTIONS": {"pool": True}, "ENGINE": "shop.db.mysql"},
        {"OPTIONS": {"init_command": "SET autocommit=0"}},  # Django sets it right
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


OWN = {"ENGINE": "unhang.backends.mysql", "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False}


def found(monkeypatch: pytest.MonkeyPatch, **values: Any) -> list[CheckMessage]:
    database = OWN | {"OPTIONS": {}} | values
    monkeypatch.setattr(connections, "settings", {"default": database})
    return check_connection_settings(None)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pool": True},
        {"pool": {"max_size": 2, "lease": "request"}},
        {"init_command": "SET sql_mode='STRICT_ALL_TABLES'"},
    ],
)
def test_unhangs_own_engine_needs_nothing_more(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    assert found(monkeypatch, OPTIONS=options) == []


@pytest.mark.parametrize("age", [60, None, "0"])
def test_an_age_beside_the_pool_is_one_error(monkeypatch: pytest.MonkeyPatch, age: object) -> None:
    (error,) = found(monkeypatch, CONN_MAX_AGE=age)
    assert error.id == "unhang.E003"
    assert repr(age) in error.msg


def test_options_that_the_backend_refuses_are_told_in_its_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (error,) = found(monkeypatch, OPTIONS={"pool": {"max_sise": 5}})
    assert error.id == "unhang.E002"
    assert "of default: there is no pool option 'max_sise'; did you mean 'max_size'?" in error.msg


def test_all_that_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = found(
        monkeypatch,
        CONN_MAX_AGE=60,
        OPTIONS={"pool": {"max_size": 1}, "init_command": "SET autocommit=0"},
    )
    assert {message.id for message in messages} == {"unhang.E003", "unhang.W003", "unhang.W005"}
    assert any("autocommit = 0" in message.msg for message in messages)


def test_a_pool_for_djangos_own_backend_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert messages(monkeypatch, OPTIONS={"pool": {"max_size": 5}}) == ["unhang.E004"]
    assert messages(monkeypatch, OPTIONS={"pool": False}) == ["unhang.E004"]


class Receiver:
    """Something of a project that hears of new connections."""

    def method(self, **kwargs: Any) -> None: ...

    def __call__(self, **kwargs: Any) -> None: ...


def function(**kwargs: Any) -> None: ...


@pytest.fixture
def only_own_receivers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Django's own stay; what a test connects is gone after it."""
    before = list(connection_created.receivers)
    monkeypatch.setattr(connection_created, "receivers", before)
    yield
    connection_created.sender_receivers_cache.clear()


def receivers(monkeypatch: pytest.MonkeyPatch, **values: Any) -> list[str]:
    monkeypatch.setattr(connections, "settings", {"default": OWN | {"OPTIONS": {}} | values})
    found = check_connection_receivers(None)
    assert {message.id for message in found} <= {"unhang.W004"}
    return [message.msg.split(" ")[0] for message in found]


@pytest.mark.usefixtures("only_own_receivers")
def test_receivers_of_a_new_connection_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Receiver()
    partly = functools.partial(function, more=1)
    for receiver in (function, one.method, one, partly):
        connection_created.connect(receiver, weak=receiver is not partly)
    names = [name.removeprefix(f"{__name__}.") for name in receivers(monkeypatch)]
    assert names == ["function", "Receiver.method", "Receiver", "function"]


@pytest.mark.usefixtures("only_own_receivers")
def test_receivers_do_not_matter_to_another_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    connection_created.connect(function)
    assert receivers(monkeypatch, ENGINE="django.db.backends.mysql") == []


@pytest.mark.usefixtures("only_own_receivers")
def test_djangos_own_receivers_and_collected_ones_are_no_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = Receiver()
    monkeypatch.setattr(Receiver, "__module__", "django.contrib.gis.apps")
    connection_created.connect(theirs)
    connection_created.connect(Receiver().method)  # dead at once
    assert receivers(monkeypatch) == []


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        (None, []),
        ({}, []),
        ({"OWNERS": True}, []),
        ({"OWNERS": False}, []),
        ({"OWNERS": "no"}, ["unhang.E006"]),
        ({"OWNERS": 0}, ["unhang.E006"]),
    ],
)
def test_owners_are_written_down_or_not(
    monkeypatch: pytest.MonkeyPatch, given: Any, ids: list[str]
) -> None:
    monkeypatch.setattr(settings, "UNHANG", given, raising=False)
    assert [message.id for message in check_owners(None)] == ids
