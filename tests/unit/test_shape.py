"""What makes two SQL texts the same statement; and no value is left in what is shown."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unhang.shape import LONGEST, certain_shape_of, shape_of


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("SELECT a FROM t WHERE b = 5", "SELECT a FROM t WHERE b = ?"),
        ("SELECT a FROM t WHERE b = -5.25e-3", "SELECT a FROM t WHERE b = -?"),
        ("SELECT a FROM t WHERE b = 0xCAFE", "SELECT a FROM t WHERE b = ?"),
        ("SELECT a FROM t WHERE b = 'x'", "SELECT a FROM t WHERE b = ?"),
        ("SELECT a FROM t WHERE b = ''", "SELECT a FROM t WHERE b = ?"),
        ("SELECT a FROM t WHERE b = 'it''s'", "SELECT a FROM t WHERE b = ?"),
        (r"SELECT a FROM t WHERE b = 'it\'s'", "SELECT a FROM t WHERE b = ?"),
        (
            r"SELECT a FROM t WHERE b = 'back\\' AND c = 'x'",
            "SELECT a FROM t WHERE b = ? AND c = ?",
        ),
        ('SELECT a FROM t WHERE b = "say ""x"""', "SELECT a FROM t WHERE b = ?"),
        ("SELECT a FROM t WHERE b = '/* none */'", "SELECT a FROM t WHERE b = ?"),
        ("SELECT a FROM t WHERE b LIKE 'x%%'", "SELECT a FROM t WHERE b LIKE ?"),
        ("SELECT a %% 3 FROM t", "SELECT a %% ? FROM t"),
        ("SELECT a FROM t WHERE b = %s", "SELECT a FROM t WHERE b = %s"),
        ("SELECT a FROM t WHERE b IN (%s, %s,%s)", "SELECT a FROM t WHERE b IN (%s, …)"),
        ("SELECT a FROM t WHERE b IN (1, 2,3)", "SELECT a FROM t WHERE b IN (…)"),
        ("SELECT a FROM t WHERE b IN ('x', 2)", "SELECT a FROM t WHERE b IN (…)"),
        ("SELECT  a\n\tFROM t ", "SELECT a FROM t"),
        ("SELECT a /* user 17 */ FROM t", "SELECT a FROM t"),
        ("/* it's */ SELECT a FROM t WHERE b = 'x'", "SELECT a FROM t WHERE b = ?"),
        ("SELECT a /* 1 */ + /* 2 */ 3 FROM t", "SELECT a + ? FROM t"),
        ("SELECT `1st`, t2.c3, col4 FROM t5", "SELECT `1st`, t2.c3, col4 FROM t5"),
        ("SELECT a FROM t LIMIT 10 OFFSET 40", "SELECT a FROM t LIMIT ? OFFSET ?"),
        (b"SELECT a FROM t WHERE b = 'x'", "SELECT a FROM t WHERE b = ?"),
        (b"SELECT a FROM t WHERE b = '\xff\xfe'", "SELECT a FROM t WHERE b = ?"),
    ],
)
def test_a_shape_has_neither_values_nor_comments_nor_lengths(text: str | bytes, shape: str) -> None:
    assert shape_of(text) == shape


def test_a_text_and_its_bytes_are_the_same_statement() -> None:
    text = "SELECT é FROM t WHERE b = 'ü'"
    assert shape_of(text.encode()) == shape_of(text)


def test_an_object_that_can_be_written_as_text_has_a_shape() -> None:
    class Composed:
        def __str__(self) -> str:
            return "SELECT 5"

    assert shape_of(Composed()) == "SELECT ?"


@pytest.mark.parametrize(
    "text",
    [
        "-- don't\nSELECT a FROM t WHERE b = {}",
        "# don't\nSELECT a FROM t WHERE b = {}",
        "SELECT `don't` FROM t WHERE b = {}",
        'SELECT `12" wide` FROM t WHERE b = {}',
    ],
)
def test_a_quote_that_begins_no_value_uncovers_none(text: str) -> None:
    assert "secret" not in shape_of(text.format("'secret'"))
    assert "secret" not in shape_of(text.format('"secret"'))


@pytest.mark.parametrize("comment", ["-- of user 17\n", "# of user 17\n"])
def test_comments_to_the_end_of_a_line_are_left_out(comment: str) -> None:
    assert shape_of(f"SELECT a {comment}FROM t") == "SELECT a FROM t"


@pytest.mark.parametrize("value", [".5", "0b1011", "1.e5", "x'CAFE'", "b'101'", "N'x'"])
def test_every_way_to_write_a_value_is_known(value: str) -> None:
    digits = [part for part in ("5", "1011", "CAFE", "101") if part in value]
    shape = shape_of(f"SELECT a FROM t WHERE b > {value}")
    assert not [part for part in digits if part in shape]


def test_a_value_longer_than_what_is_looked_at_is_not_shown() -> None:
    long = "secret" * LONGEST
    assert "secret" not in shape_of(f"INSERT INTO t (a) VALUES ('{long}')")
    assert "secret" not in shape_of(f"INSERT INTO t (a) VALUES ('{long}")


def test_statements_that_differ_in_a_very_long_value_are_the_same() -> None:
    one, other = "a" * 2 * LONGEST, "b" * 2 * LONGEST
    assert shape_of(f"UPDATE t SET a = '{one}'") == shape_of(f"UPDATE t SET a = '{other}'")


@pytest.mark.parametrize("row", ["(%s, %s)", "(1, 'x')", "(%s)", "(NULL, %s)"])
def test_an_insert_is_the_same_whatever_the_number_of_its_rows(row: str) -> None:
    shapes = {
        shape_of(f"INSERT INTO t (a, b) VALUES {', '.join([row] * count)}")
        for count in (2, 3, 50, 5_000)
    }
    assert len(shapes) == 1


def test_a_long_text_costs_no_more_than_a_while() -> None:
    """No text makes the search go back and forth: each of these would take hours."""
    for text in ("'" * 50_000, "'\\" * 25_000, "%s," * 20_000, "/*" * 25_000, '"' + "'" * 50_000):
        assert len(shape_of(text)) <= len(text)


plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@st.composite
def literals(draw: st.DrawFn) -> str:
    """A value as people write it into SQL."""
    quote = draw(st.sampled_from("'\""))
    text = draw(plain).replace("\\", "\\\\")
    doubled = draw(st.booleans())
    quoted = quote + text.replace(quote, quote * 2 if doubled else "\\" + quote) + quote
    number = draw(st.integers(0, 10**12))
    return draw(
        st.sampled_from(
            [quoted, str(number), f"{number}.25", f"{number}e5", hex(number), f"{number}.5E-3"]
        )
    )


TEMPLATES = (
    "SELECT a FROM t1 WHERE b = {0} AND `c` <> {1} ORDER BY {2}",
    "SELECT a FROM t WHERE b IN ({0}, {1}) OR c IN ({2})",
    "INSERT INTO t (a, b) VALUES ({0}, {1}) ON DUPLICATE KEY UPDATE a={2}",
    "UPDATE t SET a={0}, b=%s WHERE c>={1} AND d LIKE {2}",
    "SELECT /* {0} */ CONCAT({0},{1}) FROM t LIMIT 5",
)


@settings(max_examples=300)
@given(
    template=st.sampled_from(TEMPLATES),
    one=st.tuples(literals(), literals(), literals()),
    other=st.tuples(literals(), literals(), literals()),
)
def test_no_literal_survives(
    template: str, one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    # A comment ends at its first end, whatever stands before it.
    one, other = (tuple(v.replace("*/", "") for v in values) for values in (one, other))
    assert shape_of(template.format(*one)) == shape_of(template.format(*other))


@given(plain)
def test_any_text_has_a_shape(text: str) -> None:
    assert len(shape_of(text)) <= len(text) + 10
    assert shape_of(text) == shape_of(text.encode())


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (r"SELECT 'C:\' AS a, 'hunter2' AS password", "SELECT ? …"),
        (r"SELECT 5, 'it\'s', 'secret'", "SELECT ?, ? …"),
        (r"SELECT 'C:\\' AS a, 'hunter2' AS b", "SELECT ? AS a, ? AS b"),
        ("SELECT $$it's$$, 'secret', $tag$it's$tag$ FROM t$1", "SELECT ?, ?, ? FROM t$1"),
        ("SELECT 1 WHERE card=4111111111111111AND x=1", "SELECT ? WHERE card=?AND x=?"),
    ],
)
def test_what_may_be_a_value_is_not_shown(text: str, shape: str) -> None:
    assert certain_shape_of(text) == shape
