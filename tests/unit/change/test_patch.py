"""A patch goes there and back, byte for byte, and holds no more than it must."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unhang.change.patch import as_diff, between

texts = st.text(st.sampled_from("ab\n\r é\udc80"), max_size=60)


@given(texts, texts)
def test_there_and_back_again(before: str, after: str) -> None:
    patch = between(before, after)
    assert patch.applied_to(before) == after
    assert patch.inverse().applied_to(after) == before
    assert patch.inverse().inverse() == patch


def test_it_refuses_a_text_it_was_not_made_for() -> None:
    with pytest.raises(ValueError, match="not the one"):
        between("a\n", "b\n").applied_to("a\n\n")


def test_it_knows_which_side_a_text_is() -> None:
    patch = between("a", "b")
    assert [patch.state_of(text) for text in ("a", "b", "c")] == ["before", "after", "other"]


def test_it_holds_only_what_changes() -> None:
    before = 'KEY = "secret"\nDATABASES = {\n    "PASSWORD": "hunter2",\n    "A": 1,\n}\n'
    patch = between(before, before.replace('"A": 1,', '"A": 2,'))
    assert [(hunk.old, hunk.new) for hunk in patch.hunks] == [("1", "2")]


def test_the_diff_for_people_blots_out_secrets() -> None:
    before = 'D = {"PASSWORD": "hunter2", "A": 1}\n'
    diff = as_diff(before, before.replace("1", "2"), "settings.py")
    assert "hunter2" not in diff
    assert '+D = {"PASSWORD": "…", "A": 2}' in diff
