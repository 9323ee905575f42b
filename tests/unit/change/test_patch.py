"""A patch goes there and back, byte for byte, and knows its text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unhang.change.patch import Hunk, Patch

texts = st.text(st.sampled_from("ab\n\r é\udc80"), max_size=60)


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, list[Hunk]]:
    text = draw(texts)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8, unique=True)))
    pairs = zip(cuts[::2], cuts[1::2], strict=False)
    return text, [Hunk(a, text[a:b], draw(texts)) for a, b in pairs]


@given(changes())
def test_there_and_back_again(change: tuple[str, list[Hunk]]) -> None:
    before, hunks = change
    patch = Patch.of(before, reversed(hunks))
    after = patch.applied_to(before)
    assert patch.inverse().applied_to(after) == before
    assert patch.inverse().inverse() == patch
    assert len(after) == len(before) + sum(len(h.new) - len(h.old) for h in hunks)


def test_it_changes_what_it_says() -> None:
    patch = Patch.of("a=1\nb=2\n", [Hunk(6, "2", "30"), Hunk(2, "1", "")])
    assert patch.applied_to("a=1\nb=2\n") == "a=\nb=30\n"


def test_it_refuses_a_text_it_was_not_made_for() -> None:
    with pytest.raises(ValueError, match="not the one"):
        Patch.of("a\n", [Hunk(0, "a", "b")]).applied_to("a\n\n")


def test_it_knows_which_side_a_text_is() -> None:
    patch = Patch.of("a", [Hunk(0, "a", "b")])
    assert [patch.state_of(text) for text in ("a", "b", "c")] == ["before", "after", "other"]
