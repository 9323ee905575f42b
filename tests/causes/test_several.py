"""Several causes at once: each is named."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from support.causes import rules_of
from support.causes import shop as a_shop
from unhang.lab import Server


@pytest.mark.every_engine
def test_several_causes_at_once_are_all_named(server: Server, tmp_path: Path) -> None:
    with (
        a_shop(server, tmp_path, CONN_MAX_AGE=300) as shop,
        closing(shop.connect()) as holder,
        closing(shop.connect()) as writer,
    ):
        shop.script("scheduler.py", "query()\nready()\ntime.sleep(60)\n")
        with holder.cursor() as cursor:
            cursor.execute("SELECT GET_LOCK('close_day', 1)")
        with writer.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("UPDATE item SET n = 5 WHERE id = 1")
        findings = shop.until("UH101", "UH104", "UH202", "UH208", "UH502")
        assert set(rules_of(findings)) == {"UH101", "UH104", "UH202", "UH208", "UH502"}
        # Each session is told once, by the rule that knows most about it.
        told = [number for finding in findings for number in finding.sessions]
        assert len(told) == len(set(told)) == 3
