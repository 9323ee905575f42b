"""Whom a round ends: the warm minimum, the limit, and tables of sessions that chance made."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unhang.reaper.choose import Choice, Look, choose
from unhang.reaper.policy import UNKNOWNS, Policy
from unhang.reaper.reaper import replay
from unhang.survey.codec import decode, encode
from unhang.survey.session import Lock, Session

UPTIME = 10_000.0
POLICY = Policy(frozenset({"app"}), idle_seconds=300, keep=0, most=1000)


def sleeper(id_: int, seconds: float = 400.0, **changes: Any) -> Session:
    """One that nobody needs."""
    given: dict[str, Any] = {
        "user": "app",
        "host": "10.0.0.1",
        "database": "shop",
        "command": "Sleep",
        "activity": id_ * 10,
        "in_transaction": False,
        "empty_transaction": False,
        "xa": False,
        "locks": (),
        "temporary_tables": False,
        "blocks": (),
        "is_client": True,
    }
    return Session(id=id_, seconds=seconds, **given | changes)


def chosen(*now: Session, before: Look | None = None, **policy: Any) -> Choice:
    """The choice among sessions that nobody used in between."""
    earlier = [replace(session, seconds=session.seconds - 2) for session in now]
    first = before or Look(earlier, 100.0, UPTIME - 2)
    return choose(Look(now, 102.0, UPTIME), first, replace(POLICY, **policy))


def ids(sessions: Any) -> list[int]:
    return [getattr(entry, "session", entry).id for entry in sessions]


def test_all_that_pass_are_victims_the_longest_idle_first() -> None:
    found = chosen(sleeper(1, 400), sleeper(2, 900), sleeper(3, 400))
    assert ids(found.victims) == [2, 1, 3]
    assert not found.spared


def test_without_an_earlier_look_nobody_is_chosen() -> None:
    found = choose(Look([sleeper(1)], 102.0, UPTIME), None, POLICY)
    assert not found.victims
    assert [entry.rule for entry in found.spared] == ["seen-twice"]


def test_our_own_are_never_chosen() -> None:
    first = Look([sleeper(1, 398)], 100.0, UPTIME - 2)
    found = choose(Look([sleeper(1)], 102.0, UPTIME), first, POLICY, frozenset({1}))
    assert not found.victims


@pytest.mark.parametrize("uptime", [3.0, 1_000.0, UPTIME - 60, UPTIME + 60])
def test_another_server_or_a_restarted_one_makes_the_first_look_worthless(uptime: float) -> None:
    """Ids begin anew with the server, and so do the counters of activity."""
    first = Look([sleeper(1, 398, activity=5)], 100.0, uptime)
    now = Look([sleeper(1, 400, activity=5)], 102.0, UPTIME)
    assert not choose(now, first, POLICY).victims


def test_ids_that_are_reused_after_a_restart_are_spared_in_looks_far_apart() -> None:
    first = Look([sleeper(5, 10, activity=3)], 0.0, 90_000.0)
    now = Look([sleeper(5, 2_950, activity=3)], 3_600.0, 3_500.0)
    found = choose(now, first, POLICY)
    assert not found.victims
    assert "restarted" in found.spared[0].reason


def test_each_user_and_host_keeps_its_warm_minimum() -> None:
    here = [sleeper(n, 400 + n) for n in range(1, 6)]
    there = [sleeper(n, 400 + n, host="10.0.0.2") for n in range(11, 14)]
    other = [sleeper(21, 400, user="batch")]
    found = chosen(*here, *there, *other, keep=2, accounts=frozenset({"app", "batch"}))
    assert sorted(ids(found.victims)) == [3, 4, 5, 13]
    assert {entry.rule for entry in found.spared} == {"keep"}


def test_those_used_lately_are_warm_already() -> None:
    found = chosen(sleeper(1, 5), sleeper(2, 6), sleeper(3), sleeper(4), keep=2)
    assert sorted(ids(found.victims)) == [3, 4]


@pytest.mark.parametrize(
    "held",
    [
        {"in_transaction": True},
        {"locks": (Lock("user", "EXCLUSIVE", "cron"),)},
        {"empty_transaction": True},
        {"xa": True},
        {"temporary_tables": True},
    ],
)
def test_those_that_hold_something_are_not_warm(held: dict[str, Any]) -> None:
    found = chosen(sleeper(1, 5, **held), sleeper(2), sleeper(3), keep=1)
    assert ids(found.victims) == [2], "3 is the warmest that holds nothing"


def test_the_warm_minimum_holds_where_transactions_are_unknown_and_accepted() -> None:
    many = [sleeper(n, in_transaction=None) for n in range(1, 6)]
    found = chosen(*many, keep=2, accepted=frozenset({"transactions"}))
    assert len(found.victims) == 3


def test_the_limit_takes_the_longest_idle() -> None:
    found = chosen(*(sleeper(n, 400 + n) for n in range(1, 8)), most=3)
    assert ids(found.victims) == [7, 6, 5]
    assert [entry.rule for entry in found.spared] == ["limit"] * 4


def test_a_limit_of_none_ends_none() -> None:
    found = chosen(sleeper(1), most=0)
    assert not found.victims
    assert ids(found.spared) == [1]


def test_sleepers_in_a_transaction_are_shown_whoever_they_are() -> None:
    found = chosen(sleeper(1, user="other", in_transaction=True), sleeper(2, in_transaction=True))
    assert ids(found.transactions) == [1, 2]
    assert ids(found.spared) == [2]
    assert not found.victims


def test_five_thousand_sessions_are_judged_in_no_time() -> None:
    many = [sleeper(n, n % 900, host=f"10.0.{n % 50}.1") for n in range(1, 5001)]
    began = time.process_time()
    found = chosen(*many, keep=3, most=20)
    assert time.process_time() - began < 5  # quadratic would take a minute
    assert len(found.victims) == 20


# ---- tables made by chance, and a judge that knows nothing of the rules ----

MAYBE = st.sampled_from([False, False, False, True, None])
LOCKS = st.sampled_from([(), (), (), None, (Lock("metadata", "SHARED_READ", "shop.t"),)])
USERS = st.sampled_from(["app", "app", "app", "batch", "APP", "app2", "ap", "root", "repl_1", "%"])
TIMES = st.sampled_from([0.0, 59.0, 299.9, 300.0, 301.0, 450.0, 5_000.0, 20_000.0])


@st.composite
def tables(draw: st.DrawFn) -> tuple[Look, Look]:
    """An earlier and a later look; most sessions are nearly harmless."""
    gap = draw(st.sampled_from([0.0, 1.0, 2.0, 2.0, 2.0, 60.0]))
    now, before = [], []
    for id_ in range(1, draw(st.integers(0, 9)) + 1):
        session = sleeper(
            id_,
            draw(TIMES),
            user=draw(USERS),
            host=draw(st.sampled_from(["a", "b"])),
            command=draw(st.sampled_from(["Sleep"] * 6 + ["Query", "sleep", "Daemon"])),
            in_transaction=draw(MAYBE),
            empty_transaction=draw(MAYBE),
            xa=draw(MAYBE),
            temporary_tables=draw(MAYBE),
            locks=draw(LOCKS),
            blocks=draw(st.sampled_from([(), (), (), None, (99,)])),
            is_client=draw(st.sampled_from([True, True, True, None, False])),
            activity=draw(st.sampled_from([7, 7, 7, 8, None])),
        )
        now.append(session)
        change = draw(
            st.sampled_from(
                [{}] * 6
                + [
                    {"user": "other"},
                    {"host": "c"},
                    {"activity": 6},
                    {"activity": None},
                    {"command": "Query"},
                    {"seconds": 0.0},
                ]
            )
        )
        if draw(st.integers(0, 9)):
            aged: dict[str, Any] = {"seconds": session.seconds - gap}
            before.append(replace(session, **aged | change))
    uptime = draw(st.sampled_from([100.0, 400.0, UPTIME, UPTIME, UPTIME]))
    restarted = draw(st.sampled_from([0.0, 0.0, 0.0, 500.0]))
    return Look(before, 50.0, uptime - gap + restarted), Look(now, 50.0 + gap, uptime)


POLICIES = st.builds(
    Policy,
    accounts=st.sampled_from(
        [frozenset({"app"}), frozenset({"app", "batch", "root", "repl_1"}), frozenset({"%"})]
    ),
    idle_seconds=st.sampled_from([60.0, 300.0]),
    accepted=st.frozensets(st.sampled_from(UNKNOWNS)),
    keep=st.integers(0, 3),
    most=st.integers(0, 9),
    protected=st.just(frozenset({"root", "repl*"})),
)


def _may_end(session: Session, before: Look, now: Look, policy: Policy) -> bool:
    """The same question, asked in another way: everything must be proven."""
    earlier = [other for other in before.sessions if other.id == session.id]
    gap = now.at - before.at
    known = [
        (session.is_client is True, session.is_client is None, "threads"),
        (session.in_transaction is False, session.in_transaction is None, "transactions"),
        (session.locks == (), session.locks is None, "locks"),
        (
            session.temporary_tables is False,
            session.temporary_tables is None,
            "temporary-tables",
        ),
        (
            session.xa is False and session.empty_transaction is False,
            not session.xa and not session.empty_transaction,
            "empty-transactions",
        ),
    ]
    return (
        any(session.user == name for name in policy.accounts)
        and session.user != "root"
        and not session.user.startswith("repl")
        and session.command == "Sleep"
        and not session.blocks
        and all(sure or (unknown and name in policy.accepted) for sure, unknown, name in known)
        and policy.idle_seconds <= session.seconds <= now.uptime + 2
        and len(earlier) == 1
        and gap >= 1.8
        and now.uptime > before.uptime
        and earlier[0].command == "Sleep"
        and earlier[0].user == session.user
        and earlier[0].host == session.host
        and session.activity is not None
        and earlier[0].activity == session.activity
        and abs(session.seconds - earlier[0].seconds - gap) <= max(2, gap / 5)
    )


@given(tables(), POLICIES, st.frozensets(st.integers(1, 9), max_size=2))
def test_whoever_is_chosen_is_proven_harmless(
    looked: tuple[Look, Look], policy: Policy, own: frozenset[int]
) -> None:
    before, now = looked
    found = choose(now, before, policy, own)
    able = {s.id for s in now.sessions if s.id not in own and _may_end(s, before, now, policy)}
    victims = set(ids(found.victims))
    assert victims <= able
    assert len(found.victims) == len(victims) <= policy.most
    # Whoever could be ended and is not was kept warm or is over the limit.
    reasons = {entry.session.id: entry for entry in found.spared}
    assert {id_ for id_, entry in reasons.items() if entry.rule in ("keep", "limit")} == (
        able - victims
    )
    # Each sleeper of an allowed account is told about, once.
    told = [*ids(found.victims), *ids(found.spared)]
    assert sorted(told) == sorted(
        s.id for s in now.sessions if s.user in policy.accounts and s.command == "Sleep"
    )
    assert all(entry.rule and entry.reason for entry in found.spared)


@given(tables(), POLICIES)
def test_the_warm_minimum_is_left_whatever_happens(
    looked: tuple[Look, Look], policy: Policy
) -> None:
    before, now = looked
    victims = choose(now, before, policy).victims
    left = Counter((s.user, s.host) for s in now.sessions if s not in victims)
    for session in victims:
        place = session.user, session.host
        kept = [
            s
            for s in now.sessions
            if (s.user, s.host) == place and s not in victims and s.command == "Sleep"
        ]
        assert len(kept) >= policy.keep
        assert left[place] >= policy.keep
        unneeded = [s for s in kept if not (s.in_transaction or s.xa or s.temporary_tables)]
        assert len(unneeded) >= policy.keep


@given(tables(), POLICIES)
def test_a_replay_of_saved_looks_chooses_what_a_live_round_would(
    looked: tuple[Look, Look], policy: Policy
) -> None:
    before, now = (
        replace(look, sessions=[decode(Session, encode(s)) for s in look.sessions])
        for look in looked
    )
    live = choose(looked[1], looked[0], policy)
    assert replay(before, now, policy).choice == live
    # One look stands for two in which nobody did anything.
    alone = replay(None, now, replace(policy, keep=0, most=99)).choice
    assert set(ids(live.victims)) <= set(ids(alone.victims))
    still = Look(
        [replace(s, seconds=s.seconds - 2) for s in now.sessions], now.at - 2, now.uptime - 2
    )
    assert set(ids(alone.victims)) <= {
        s.id for s in now.sessions if _may_end(s, still, now, policy)
    }
    assert not replay(None, now, policy).outcomes
