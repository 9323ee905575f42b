"""Options are validated once, and sealed."""

from __future__ import annotations

import dataclasses

import pytest

from unhang.pool import OptionError, PoolOptions, parse_options


def test_true_means_the_defaults() -> None:
    assert parse_options(True) == PoolOptions()


def test_an_unknown_name_is_refused_and_the_nearest_known_one_named() -> None:
    with pytest.raises(OptionError, match=r"no pool option 'max_szie'; did you mean 'max_size'\?"):
        parse_options({"max_szie": 3})
    with pytest.raises(OptionError, match=r"known are min_size, max_size"):
        parse_options({"zzz": 3})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"max_size": 0}, "max_size must be a whole number from 1 on, not 0"),
        ({"max_size": "10"}, "max_size must be a whole number from 1 on, not '10'"),
        ({"max_size": True}, "max_size must be a whole number"),
        ({"min_size": -1}, "min_size must be a whole number from 0 on"),
        ({"min_size": 5, "max_size": 4}, r"min_size \(5\) must not be above max_size \(4\)"),
        ({"timeout": 0}, "timeout must be a number of seconds above 0, not 0"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"max_idle": "5"}, "max_idle must be a number of seconds"),
        ({"max_lifetime": None}, "max_lifetime must be"),
        ({"max_waiting": 1.5}, "max_waiting must be a whole number"),
        ({"lease": "statement"}, "lease must be 'transaction' or 'request', not 'statement'"),
        ("yes", "must be a dict, or True"),
        (False, "must be a dict, or True"),
    ],
)
def test_a_value_out_of_range_is_refused(given: object, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        parse_options(given)


def test_options_cannot_be_changed_behind_the_pools_back() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PoolOptions().max_size = 5  # type: ignore[misc]
