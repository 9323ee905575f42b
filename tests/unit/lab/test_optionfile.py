"""Options by Python name become lines of an option file."""

from pathlib import Path

from unhang.lab import optionfile


def test_names_get_dashes_and_booleans_get_their_bare_forms() -> None:
    named = {"wait_timeout": 3, "general_log": True, "log_bin": False, "sql_mode": ""}
    assert optionfile.lines(named) == ["wait-timeout=3", "general-log", "skip-log-bin", "sql-mode="]


def test_what_was_asked_for_comes_after_the_defaults_and_before_drop_ins() -> None:
    text = optionfile.render("mysql", ["--key-buffer-size=2M"], Path("/x/conf.d"))
    assert text.startswith("[mysqld]\n")
    assert text.index("key-buffer-size=1M") < text.index("key-buffer-size=2M")
    assert text.index("key-buffer-size=2M") < text.index("!includedir /x/conf.d\n")


def test_each_kind_gets_only_options_that_it_knows() -> None:
    assert "aria" not in optionfile.render("mysql", [], Path("/x"))
    assert "temptable" not in optionfile.render("mariadb", [], Path("/x"))
