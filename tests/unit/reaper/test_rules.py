"""Every rule of the reaper: one session passes all of them, and the smallest change spares it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unhang.reaper.policy import UNKNOWNS, Policy, Unknown
from unhang.reaper.rules import RULES, Looks, protected_because, spared_because, unknown_to
from unhang.survey.session import Lock, Session

POLICY = Policy(frozenset({"app"}), idle_seconds=300, protected=frozenset({"root", "repl*"}))
LOCK = Lock("user", "EXCLUSIVE", "cron")


def harmless(**changes: Any) -> Session:
    """Nobody needs it, and all of that is known."""
    given: dict[str, Any] = {
        "id": 7,
        "user": "app",
        "host": "10.0.0.1",
        "database": "shop",
        "command": "Sleep",
        "seconds": 400.0,
        "activity": 99,
        "in_transaction": False,
        "empty_transaction": False,
        "xa": False,
        "locks": (),
        "temporary_tables": False,
        "blocks": (),
        "is_client": True,
    }
    return Session(**given | changes)


def looks(now: dict[str, Any] | None = None, **changes: Any) -> Looks:
    """Two looks 2 s apart at a harmless session; `now` changes it in both."""
    later = harmless(**now or {})
    before = replace(later, seconds=later.seconds - changes.get("gap", 2.0))
    given: dict[str, Any] = {"before": before, "gap": 2.0, "uptime": 10_000.0}
    return Looks(later, **given | changes)


def rule_that_spares(seen: Looks, policy: Policy = POLICY) -> str | None:
    found = spared_because(seen, policy)
    return found[0] if found else None


def test_a_harmless_session_passes_every_rule() -> None:
    assert spared_because(looks(), POLICY) is None


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"user": "other"}, "account"),
        ({"command": "Query"}, "asleep"),
        ({"is_client": False}, "client"),
        ({"in_transaction": True}, "transaction"),
        ({"locks": (LOCK,)}, "locks"),
        ({"blocks": (8,)}, "blocks"),
        ({"empty_transaction": True}, "empty-transaction"),
        ({"xa": True}, "empty-transaction"),
        ({"temporary_tables": True}, "temporary-tables"),
        ({"seconds": 299.9}, "idle"),
        ({"activity": None}, "unused"),
    ],
)
def test_one_thing_is_enough_to_spare_it(change: dict[str, Any], rule: str) -> None:
    assert rule_that_spares(looks(change)) == rule
    every = replace(POLICY, accepted=frozenset(UNKNOWNS))
    assert rule_that_spares(looks(change), every) == rule, "what is known is not unknown"


FIELDS: list[tuple[str, Unknown]] = [
    ("is_client", "threads"),
    ("in_transaction", "transactions"),
    ("empty_transaction", "empty-transactions"),
    ("xa", "empty-transactions"),
    ("locks", "locks"),
    ("temporary_tables", "temporary-tables"),
]


@pytest.mark.parametrize(("field", "unknown"), FIELDS)
def test_unknown_spares_unless_just_that_is_accepted(field: str, unknown: Unknown) -> None:
    seen = looks({field: None})
    others = frozenset(UNKNOWNS) - {unknown}
    assert unknown_to([seen.now]) == {unknown}
    for accepted in (frozenset[Unknown](), others):
        found = spared_because(seen, replace(POLICY, accepted=accepted))
        assert found is not None
        assert f"--accept-unknown {unknown}" in found[1]
    assert rule_that_spares(seen, replace(POLICY, accepted=frozenset({unknown}))) is None


def test_a_known_half_of_an_unknown_still_spares() -> None:
    policy = replace(POLICY, accepted=frozenset(UNKNOWNS))
    for change in (
        {"xa": True, "empty_transaction": None},
        {"xa": None, "empty_transaction": True},
    ):
        assert rule_that_spares(looks(change), policy) == "empty-transaction"


def test_each_rule_has_a_name_of_its_own() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(
    "user", ["APP", "App", "app2", "ap", "app%", "app ", " app", "a'b", "%", "", "app@%", "äpp"]
)
def test_an_account_is_matched_letter_for_letter(user: str) -> None:
    assert rule_that_spares(looks({"user": user})) == "account"
    assert protected_because(looks({"user": user}), POLICY) is not None


@pytest.mark.parametrize("user", ["a'b", "%", "app%", "[red]"])
def test_odd_names_mean_only_themselves(user: str) -> None:
    policy = replace(POLICY, accounts=frozenset({user}))
    assert rule_that_spares(looks({"user": user}), policy) is None
    assert rule_that_spares(looks({"user": "app"}), policy) == "account"


@pytest.mark.parametrize(
    ("user", "spared"), [("root", True), ("root2", False), ("repl", True), ("repl_7", True)]
)
def test_protected_accounts_are_never_ended_whatever_was_asked_for(user: str, spared: bool) -> None:
    policy = replace(POLICY, accounts=frozenset({user}))
    assert rule_that_spares(looks({"user": user}), policy) == (
        "protected-account" if spared else None
    )


def test_nobody_without_a_name_is_ended() -> None:
    policy = Policy(frozenset({""}), idle_seconds=300)
    assert rule_that_spares(looks({"user": ""}), policy) == "protected-account"


@pytest.mark.parametrize("command", ["sleep", "SLEEP", "Sleep ", "", "Binlog Dump", "Connect"])
def test_asleep_is_one_word(command: str) -> None:
    assert rule_that_spares(looks({"command": command})) == "asleep"


def test_our_own_are_spared() -> None:
    assert rule_that_spares(looks(own=frozenset({7}))) == "own"
    assert protected_because(looks(own=frozenset({7})), POLICY) is not None


@pytest.mark.parametrize(
    ("seconds", "rule"), [(299.999, "idle"), (300.0, None), (float("nan"), "idle"), (-5.0, "idle")]
)
def test_exactly_the_threshold_is_idle_enough(seconds: float, rule: str | None) -> None:
    assert rule_that_spares(looks({"seconds": seconds})) == rule


@pytest.mark.parametrize(
    ("uptime", "rule"), [(10_000.0, None), (398.0, None), (397.9, "credible"), (0.0, "credible")]
)
def test_nobody_slept_longer_than_the_server_runs(uptime: float, rule: str | None) -> None:
    assert rule_that_spares(looks(uptime=uptime)) == rule


@pytest.mark.parametrize(
    ("gap", "rule"), [(2.0, None), (1.8, None), (1.79, "seen-twice"), (0.0, "seen-twice")]
)
def test_looks_that_are_too_close_prove_nothing(gap: float, rule: str | None) -> None:
    assert rule_that_spares(looks(gap=gap)) == rule


def test_one_look_is_not_enough() -> None:
    assert rule_that_spares(looks(before=None)) == "seen-twice"


@pytest.mark.parametrize("change", [{"user": "other"}, {"host": "10.0.0.2"}])
def test_an_id_that_was_somebody_elses_is_another_session(change: dict[str, Any]) -> None:
    assert rule_that_spares(looks(before=harmless(seconds=398.0, **change))) == "seen-twice"


@pytest.mark.parametrize(
    "change", [{"activity": 98}, {"activity": 100}, {"activity": None}, {"command": "Query"}]
)
def test_what_was_used_in_between_is_spared(change: dict[str, Any]) -> None:
    assert rule_that_spares(looks(before=harmless(seconds=398.0, **change))) == "unused"


@pytest.mark.parametrize(
    ("before", "rule"),
    [(398.0, None), (396.0, None), (400.0, None), (395.9, "aged"), (400.1, "aged"), (1.0, "aged")],
)
def test_idle_time_must_grow_as_our_clock_does(before: float, rule: str | None) -> None:
    assert rule_that_spares(looks(before=harmless(seconds=before))) == rule


def test_one_that_is_named_is_judged_by_whose_it_is_only() -> None:
    busy = looks({"in_transaction": True, "locks": (LOCK,), "seconds": 0.0}, before=None, gap=0.0)
    assert protected_because(busy, POLICY) is None
    for change in ({"user": "root"}, {"command": "Query"}, {"is_client": None}):
        assert protected_because(looks(change), POLICY) is not None
