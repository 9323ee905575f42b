"""The rule, and what must hold for every number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unhang import timeouts

wait_timeouts = st.integers(timeouts.MIN_WAIT_TIMEOUT, timeouts.MAX_WAIT_TIMEOUT)


@pytest.mark.parametrize(
    ("wait_timeout", "limit"),
    [(300, 280), (60, 48), (3, 2), (1, 0), (2, 1), (7, 5), (100, 80), (28_800, 28_780)],
)
def test_the_worked_examples(wait_timeout: int, limit: int) -> None:
    assert timeouts.client_limit(wait_timeout) == limit


@given(wait_timeouts)
def test_the_client_always_lets_go_first(wait_timeout: int) -> None:
    limit = timeouts.client_limit(wait_timeout)
    assert timeouts.lets_go_first(limit, wait_timeout)
    assert limit + timeouts.margin(wait_timeout) <= wait_timeout


@given(wait_timeouts, wait_timeouts)
def test_a_longer_wait_timeout_never_gives_a_shorter_limit(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert timeouts.client_limit(low) <= timeouts.client_limit(high)


@given(st.integers(0, timeouts.MAX_WAIT_TIMEOUT - 20))
def test_the_required_wait_timeout_is_the_smallest_that_is_enough(limit: int) -> None:
    needed = timeouts.required_wait_timeout(limit)
    assert timeouts.client_limit(needed) >= limit
    if needed > timeouts.MIN_WAIT_TIMEOUT:
        assert timeouts.client_limit(needed - 1) < limit


@pytest.mark.parametrize("nonsense", [0, -1, timeouts.MAX_WAIT_TIMEOUT + 1, float("nan")])
def test_a_value_that_no_server_takes_is_refused(nonsense: float) -> None:
    with pytest.raises(ValueError, match="must be from 1 to 31536000"):
        timeouts.client_limit(nonsense)


def test_no_wait_timeout_is_long_enough_for_more_than_a_year() -> None:
    with pytest.raises(ValueError, match="no wait_timeout is long enough"):
        timeouts.required_wait_timeout(timeouts.MAX_WAIT_TIMEOUT)


def test_for_ever_is_never_first() -> None:
    assert not timeouts.lets_go_first(None, timeouts.MAX_WAIT_TIMEOUT)
