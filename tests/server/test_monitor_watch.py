"""A watch sees a real server through refusals and a restart."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pymysql

from unhang import lab
from unhang.monitor.compare import compare
from unhang.monitor.history import History
from unhang.monitor.refused import refused_between
from unhang.monitor.sample import Sample
from unhang.monitor.watch import watch


def test_it_still_sees_the_server_while_others_are_refused(tmp_path: Path) -> None:
    refused: list[int] = []

    with (
        lab.server(max_connections=10) as server,
        contextlib.ExitStack() as crowd,
        History(tmp_path / "history.db") as history,
    ):
        server.create_account("app", "secret", ("SELECT ON *.*",))

        def crowd_in(_sample: Sample) -> None:
            for _ in range(6):
                try:
                    crowd.enter_context(contextlib.closing(server.connect("app", "secret")))
                except pymysql.OperationalError as error:
                    refused.append(error.args[0])

        taken = watch(
            lambda: server.connect("app", "secret"),
            interval=0.2,
            samples=4,
            history=history,
            on_sample=crowd_in,
        )
        samples = history.window()
    assert taken == len(samples) == 4
    assert [sample.gap for sample in samples] == [None] * 4
    assert set(refused) == {1040}
    last = refused_between(samples[0], samples[-1])
    assert last is not None
    assert last.count > 0
    assert compare(samples, samples).row("refused").verdict == "too few samples"


def test_a_restart_of_the_server_is_a_gap_and_no_end() -> None:
    samples: list[Sample] = []

    with lab.server() as server:
        steps: dict[int, Any] = {1: server.stop, 2: server.start}

        def act(sample: Sample) -> None:
            samples.append(sample)
            steps.get(len(samples), lambda: None)()

        watch(server.connect, interval=0.2, duration=60, samples=10, on_sample=act)
    gaps = [bool(sample.gap) for sample in samples]
    assert gaps[:2] == [False, True]
    assert samples[1].gap is not None
    assert samples[1].gap.startswith("2003")
    assert gaps[-1] is False
