"""Option files, read as the clients read them."""

from __future__ import annotations

import pytest

from unhang.mysql import option_file


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('x="ab # c"', "ab # c"),
        ("x=a#b", "a#b"),
        ("x = 1 # a comment", "1"),
        ("x='a' # a comment", "a"),
        ("x=5;6", "5;6"),
        (r'x="a\"b # c"', 'a"b # c'),
        (r"x=a\\b", r"a\b"),
        (r"x=a\sb\tc", "a b\tc"),
        (r"x='a\nb\rc\bd'", "a\nb\rc\bd"),
        (r"x=a\qb", r"a\qb"),
        ("x='it\"s", "'it\"s"),
        ("x", ""),
        ("x=a=b", "a=b"),
    ],
)
def test_a_value_is_what_the_clients_make_of_it(line: str, value: str) -> None:
    assert option_file.parse(f"[client]\n{line}\n") == {"client": {"x": value}}


def test_groups_repeat_comments_and_includes_are_skipped() -> None:
    text = (
        "\ufeff# first\n!includedir /etc/mysql\n[client]\nssl-ca=/a\n; c\n[mysqld]\nport=1\n"
        "  [client]  # again\n  ssl_ca = /b\nport=2\n"
    )
    assert option_file.parse(text) == {
        "client": {"ssl_ca": "/b", "port": "2"},
        "mysqld": {"port": "1"},
    }


@pytest.mark.parametrize("text", ["port=1\n[client]\n", "[client\nport=1\n"])
def test_what_is_no_option_file_names_the_line(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        option_file.parse(text)
