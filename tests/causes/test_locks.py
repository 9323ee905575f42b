"""Sleepers that hold something, and those who wait for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

from support.causes import Shop, rules_of

pytestmark = pytest.mark.every_engine


def run(connection: Any, *statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def waiting_for(shop: Shop, *statements: str) -> Iterator[None]:
    """Sessions that each run one statement, which will have to wait; ended in the end."""

    def wait(connection: Any, statement: str) -> None:
        try:
            run(connection, statement)
        except Exception as error:  # noqa: BLE001 - it is killed in the end
            errors.append(error)

    errors: list[Exception] = []
    with ExitStack() as stack:
        threads = []
        for statement in statements:
            connection = stack.enter_context(closing(shop.connect()))
            number = connection.thread_id()
            threads.append(threading.Thread(target=wait, args=(connection, statement), daemon=True))
            threads[-1].start()
            stack.callback(_kill, shop, number, threads[-1])
        yield


def _kill(shop: Shop, number: int, thread: threading.Thread) -> None:
    if thread.is_alive():
        shop.server.execute(f"KILL {number}")
    thread.join(10)


def test_an_uncommitted_transaction(shop: Shop) -> None:
    with closing(shop.connect()) as connection:
        run(connection, "BEGIN", "UPDATE item SET n = 5 WHERE id = 1")
        findings = shop.until("UH202")
        assert rules_of(findings)[0] == "UH202"
        assert "1 modified" in " ".join(dict(findings[0].evidence).values())
        run(connection, "COMMIT")
        assert "UH202" not in rules_of(shop.diagnose())


def test_autocommit_off_and_only_read(make_shop: Any) -> None:
    with make_shop(AUTOCOMMIT=False) as shop, closing(shop.connect(autocommit=False)) as connection:
        run(connection, "SELECT * FROM item")
        findings = shop.until("UH504")
        assert rules_of(findings)[0] == "UH504"
        assert "AUTOCOMMIT is off" in findings[0].sentence
        run(connection, "COMMIT")
        assert "UH504" not in rules_of(shop.diagnose())


def test_a_transaction_that_only_read_names_both_causes(shop: Shop) -> None:
    with closing(shop.connect()) as connection:
        run(connection, "BEGIN", "SELECT * FROM item")
        findings = shop.until("UH504")
        assert rules_of(findings)[0] == "UH504"
        assert "atomic()" in findings[0].sentence


def test_get_lock_forgotten(shop: Shop) -> None:
    with closing(shop.connect()) as connection:
        run(connection, "SELECT GET_LOCK('close_day', 1)")
        findings = shop.until("UH502")
        assert rules_of(findings)[0] == "UH502"
        assert findings[0].severity == "warning"
        assert "close_day" in findings[0].sentence
        with waiting_for(shop, "SELECT GET_LOCK('close_day', 60)"):
            finding = shop.until_first("UH502", "1 waiting")
            assert finding.severity == "critical"
        run(connection, "SELECT RELEASE_LOCK('close_day')")
        assert "UH502" not in rules_of(shop.diagnose())


def test_lock_tables(shop: Shop) -> None:
    with closing(shop.connect()) as connection:
        run(connection, "LOCK TABLES item WRITE")
        with waiting_for(shop, "SELECT * FROM item"):
            finding = shop.until_first("UH503", "1 waiting")
            assert finding.severity == "critical"
            assert f"{shop.user}.item" in finding.sentence
        run(connection, "UNLOCK TABLES")
        assert "UH503" not in rules_of(shop.diagnose())


def test_a_chain_behind_one_sleeper(shop: Shop) -> None:
    with closing(shop.connect()) as connection:
        run(connection, "BEGIN", "SELECT * FROM item")
        number = connection.thread_id()
        with waiting_for(shop, "ALTER TABLE item ADD COLUMN note INT"):
            shop.until_first("UH501")
            with waiting_for(shop, *["SELECT * FROM item"] * 3):
                finding = shop.until_first("UH501", "4 sessions wait")
                assert f"session {number}" in finding.sentence
                assert f"KILL {number};" in finding.cure
                run(connection, "ROLLBACK")
                assert "UH501" not in rules_of(shop.diagnose())


def test_a_row_that_one_sleeper_has_locked(shop: Shop) -> None:
    with closing(shop.connect()) as connection:
        run(connection, "BEGIN", "UPDATE item SET n = 5 WHERE id = 1")
        update = "UPDATE item SET n = 6 WHERE id = 1"
        with waiting_for(shop, update):
            findings = shop.until("UH501")
            assert rules_of(findings)[0] == "UH501"
            assert "1 changed rows" in findings[0].sentence
