"""`UNHANG["LANES"]`, and who is in which lane by it: commands and tasks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from celery.signals import task_postrun, task_prerun

from unhang.lanes import at_start, naming
from unhang.lanes.settings import MOST, NamedLane, matching, parse_lanes
from unhang.pool import OptionError, SlowLane


def test_nothing_is_no_lane() -> None:
    assert parse_lanes(None) == {}
    assert parse_lanes({}) == {}


def test_a_lane_has_the_slow_ones_limits_where_it_has_none_of_its_own() -> None:
    slow = SlowLane(share=0.3, timeout=7, threshold=2.5)
    lanes = parse_lanes({"a": {}, "b": {"share": 0.1}, "c": {"timeout": 30}})
    limits = {name: lane.limits(slow) for name, lane in lanes.items()}
    assert (limits["a"].share, limits["a"].timeout) == (0.3, 7)
    assert (limits["b"].share, limits["b"].timeout) == (0.1, 7)
    assert (limits["c"].share, limits["c"].timeout) == (0.3, 30)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["a"], "must be a dict of lanes by name"),
        ("a", "must be a dict of lanes by name"),
        ({"a": None}, "lane 'a': its options must be a dict"),
        ({"": {}}, "cannot be called ''"),
        ({5: {}}, "cannot be called 5"),
        ({"x" * 33: {}}, "up to 32 bytes"),
        ({"é" * 17: {}}, "up to 32 bytes"),
        ({"slow": {}}, "'slow' and 'new' are taken"),
        ({"new": {}}, "'slow' and 'new' are taken"),
        ({"a": {"shares": 0.1}}, "lane 'a': there is no option 'shares'; did you mean 'share'"),
        ({"a": {"zzz": 1}}, "known are share, timeout, urls, tasks, commands"),
        ({"a": {"share": 1.5}}, "lane 'a': .*share must be a share between 0 and 1, not 1.5"),
        ({"a": {"share": True}}, "lane 'a': .*share"),
        ({"a": {"share": "0.1"}}, "lane 'a': .*share"),
        ({"a": {"timeout": 0}}, "lane 'a': .*timeout must be a number of seconds above 0"),
        ({"a": {"timeout": float("inf")}}, "lane 'a': .*timeout"),
        ({"a": {"urls": "/reports/*"}}, "lane 'a': urls must be a list of strings"),
        ({"a": {"tasks": [5]}}, "lane 'a': tasks must be a list of strings"),
        ({"a": {"commands": [""]}}, "lane 'a': commands must be a list of strings"),
        ({f"lane{n}": {} for n in range(MOST + 1)}, f"there are 7 lanes; {MOST} at most"),
    ],
)
def test_what_makes_no_sense_is_told(given: object, text: str) -> None:
    with pytest.raises(OptionError, match=text):
        parse_lanes(given)


def test_as_many_lanes_as_can_be_named_can_be() -> None:
    given = {f"lane{n}": {} for n in range(MOST)}
    assert list(parse_lanes(given)) == list(given)
    assert list(parse_lanes({"x" * 32: {}})) == ["x" * 32]


def test_the_first_lane_with_a_fitting_pattern_counts() -> None:
    lanes = parse_lanes(
        {
            "a": {"tasks": ["shop.nightly_*", "shop.?"]},
            "b": {"tasks": ["shop.*"], "commands": ["report"]},
        }
    )
    names = ["shop.nightly_sums", "shop.x", "shop.other", "SHOP.x", "other", ""]
    assert [matching(lanes, "tasks", name) for name in names] == ["a", "a", "b", None, None, None]
    assert matching(lanes, "commands", "report") == "b"
    assert matching(lanes, "urls", "report") is None


# ---- commands and tasks ----

LANES = {
    "reports": NamedLane(commands=["nightly", "sum_*"]),
    "mail": NamedLane(tasks=["shop.mail.*"]),
    "sums": NamedLane(tasks=["shop.sums"]),
}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    naming.enter_process(None)
    for signal in (task_prerun, task_postrun):
        signal.disconnect(dispatch_uid="unhang.lanes")


@pytest.mark.parametrize(
    ("arguments", "lane"),
    [
        (["manage.py", "nightly"], "reports"),
        (["manage.py", "sum_up", "--fast"], "reports"),
        (["manage.py", "migrate"], None),
        (["manage.py", "migrate", "nightly"], None),
        (["manage.py"], None),
    ],
)
def test_a_command_names_the_lane_of_its_process(arguments: list[str], lane: str | None) -> None:
    at_start.begin(LANES, arguments)
    assert naming.name_for("default") == lane


def test_without_tasks_in_the_settings_celery_is_not_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "celery.signals", None)
    at_start.begin({"reports": LANES["reports"]}, ["manage.py", "nightly"])
    assert naming.name_for("default") == "reports"


@pytest.fixture
def app() -> Any:
    from celery import Celery

    made = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    made.conf.update(task_always_eager=True, task_store_eager_result=False)
    return made


def test_each_task_runs_in_its_own_lane(app: Any) -> None:
    seen: list[tuple[str, str | None]] = []

    @app.task(name="shop.mail.send")
    def send() -> None:
        seen.append(("send", naming.name_for("default")))

    @app.task(name="shop.other")
    def other() -> None:
        seen.append(("other", naming.name_for("default")))

    @app.task(name="shop.sums")
    def sums() -> None:
        send.delay()
        other.delay()
        seen.append(("sums", naming.name_for("default")))

    at_start.begin(LANES, ["celery", "worker"])
    sums.delay()
    other.delay()
    assert seen == [("send", "mail"), ("other", "sums"), ("sums", "sums"), ("other", None)]
    assert naming.name_for("default") is None


def test_a_task_that_fails_leaves_its_lane(app: Any) -> None:
    @app.task(name="shop.sums")
    def sums() -> None:
        raise ZeroDivisionError

    at_start.begin(LANES, ["celery", "worker"])
    assert sums.delay().failed()
    assert naming.name_for("default") is None
