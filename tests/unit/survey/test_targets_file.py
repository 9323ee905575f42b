"""`unhang.toml`: names for databases, their order of promotion, and never a secret."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unhang.errors import UsageProblem
from unhang.survey import secrets
from unhang.survey.login import Login
from unhang.survey.targets_file import NamedTarget, TargetsFile, find, read
from unhang.survey.toml_table import read_table

SECRET = "hunter2"
EXAMPLE = """
[targets.web]
settings = "shop.settings.production"
project = "site"
python = "venv/bin/python"
aliases = ["default", "replica"]
login = { option_file = "~/.unhang.cnf" }

[targets.primary]
host = "db1.example.com"
port = 3307
user = "dba"
password_env = "DB1_PASSWORD"
ssl_ca = "certs/ca.pem"

[targets.replica1]
unix_socket = "/run/mysqld/mysqld.sock"
user = "root"

[targets.staging]
dsn_env = "STAGING_DSN"

[groups]
staging = ["staging"]
production = ["web", "replica1", "primary"]
databases = ["primary", "replica1"]

[promotion]
production = "staging"
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "unhang.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture
def example(tmp_path: Path) -> TargetsFile:
    return read(written(tmp_path, EXAMPLE))


def target(folder: Path, lines: str) -> NamedTarget:
    """The only target of a file: a server with these lines."""
    return read(written(folder, f"[targets.one]\n{lines}\n")).targets[0]


def login_of(folder: Path, lines: str) -> Login:
    login = target(folder, lines).login()
    assert login is not None
    return login


def refused(folder: Path, text: str) -> str:
    """What is said about a file that is not accepted."""
    with pytest.raises(UsageProblem) as raised:
        read(written(folder, text))
    assert str(folder / "unhang.toml") in raised.value.message
    assert_silent(raised.value)
    return str(raised.value)


def assert_silent(error: BaseException) -> None:
    """Nothing of an exception holds the secret, nor what hangs on it."""
    chain: BaseException | None = error
    while chain is not None:
        assert SECRET not in "".join([*traceback.format_exception(chain), repr(chain)])
        assert SECRET not in str(vars(chain))
        chain = chain.__cause__ or chain.__context__


# What the file says


def test_targets_keep_the_order_of_the_file(example: TargetsFile) -> None:
    assert example.names == ("web", "primary", "replica1", "staging")


def test_a_projects_paths_are_relative_to_the_file(example: TargetsFile, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    web = example.targets[0]
    assert web.project is not None
    assert web.project.settings_module == "shop.settings.production"
    assert web.project.directory == (tmp_path / "site").resolve()
    assert web.project.python == str(tmp_path / "venv/bin/python")
    assert web.aliases == ("default", "replica")


def test_a_project_is_in_the_files_folder_unless_it_says_where(tmp_path: Path) -> None:
    one = target(tmp_path, 'settings = "shop.settings"')
    assert one.project is not None
    assert one.project.directory == tmp_path.resolve()
    assert one.login() is None, "the application's own account"


def test_a_server_has_no_project(example: TargetsFile) -> None:
    assert [named.project is None for named in example.targets[1:]] == [True] * 3


def test_a_project_whose_folder_is_gone_is_told_when_it_is_needed(example: TargetsFile) -> None:
    with pytest.raises(UsageProblem, match=r"\[targets.web\] project: there is no such folder"):
        _ = example.targets[0].project


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    written(tmp_path, "\ufeff" + EXAMPLE)
    assert len(read(tmp_path / "unhang.toml").targets) == 4


# Choosing


def test_the_chosen_come_once_and_in_the_files_order(example: TargetsFile) -> None:
    chosen = example.chosen(["replica1", "staging"], ["databases", "databases"])
    assert [named.name for named in chosen] == ["primary", "replica1", "staging"]
    assert example.chosen([], []) == ()


def test_an_unknown_target_is_refused_with_the_known_ones(example: TargetsFile) -> None:
    with pytest.raises(UsageProblem, match="no target primry; it has: web, primary, replica1, s"):
        example.chosen(["primry"], [])


def test_a_group_given_as_a_target_is_told_apart(example: TargetsFile) -> None:
    with pytest.raises(UsageProblem, match="production is a group, not a target"):
        example.chosen(["production"], [])
    with pytest.raises(UsageProblem, match="web is a target, not a group"):
        example.chosen([], ["web"])


def test_a_target_knows_its_groups_and_a_group_what_it_requires(example: TargetsFile) -> None:
    assert example.groups_of("primary") == ("production", "databases")
    assert example.requires("production") == "staging"
    assert example.requires("staging") is None
    with pytest.raises(UsageProblem, match="no target nobody"):
        example.groups_of("nobody")
    with pytest.raises(UsageProblem, match="no group nobody; it has: staging, production"):
        example.requires("nobody")


# Finding


def test_a_file_is_found_in_the_folder_or_above_it(tmp_path: Path) -> None:
    file = written(tmp_path, EXAMPLE)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find(tmp_path) == file
    assert find(deep) == file


def test_the_search_ends_at_the_top_of_a_repository(tmp_path: Path) -> None:
    written(tmp_path, EXAMPLE)
    repository = tmp_path / "shop"
    (repository / ".git").mkdir(parents=True)
    (repository / "site").mkdir()
    assert find(repository / "site") is None
    assert find(repository) is None


def test_a_strangers_file_above_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, EXAMPLE)
    below = tmp_path / "shop"
    below.mkdir()
    stat = Path.stat

    def strange(path: Path, **more: Any) -> os.stat_result:
        found = stat(path, **more)
        if path != file:
            return found
        return os.stat_result((*found[:4], 4711, *found[5:10]))

    monkeypatch.setattr(Path, "stat", strange)
    assert find(below) is None
    assert find(tmp_path) == file, "in the folder itself it is as trusted as its manage.py"


# Accounts


def test_a_password_comes_from_the_environment(
    example: TargetsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB1_PASSWORD", SECRET)
    login = example.targets[1].login()
    assert login is not None
    assert (str(login), login.password) == ("dba@db1.example.com:3307", SECRET)
    assert login.ssl == {"ca": str(tmp_path / "certs/ca.pem")}
    assert SECRET not in f"{example!r} {example} {login!r}"


@pytest.mark.parametrize(("value", "problem"), [(None, "not set"), ("", "empty")])
def test_a_missing_variable_is_named(
    example: TargetsFile,
    monkeypatch: pytest.MonkeyPatch,
    value: str | None,
    problem: str,
) -> None:
    monkeypatch.delenv("DB1_PASSWORD", raising=False)
    if value is not None:
        monkeypatch.setenv("DB1_PASSWORD", value)
    with pytest.raises(UsageProblem) as raised:
        example.targets[1].login()
    place = r"unhang.toml: [targets.primary] password_env: the environment variable DB1_PASSWORD"
    assert f"{place} is {problem}." in raised.value.message


def test_a_password_in_the_place_of_a_variables_name_is_not_repeated(tmp_path: Path) -> None:
    one = target(tmp_path, f'host = "db"\nuser = "u"\npassword_env = "{SECRET}"')
    assert SECRET not in repr(one)
    with pytest.raises(
        UsageProblem, match="names an environment variable that is not set"
    ) as raised:
        one.login()
    assert_silent(raised.value)


def test_a_socket_needs_no_password(example: TargetsFile) -> None:
    assert str(example.targets[2].login()) == "root@/run/mysqld/mysqld.sock"


def test_a_dsn_comes_from_the_environment(
    example: TargetsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGING_DSN", f"mysql://u:{SECRET}@db/shop\n")
    login = example.targets[3].login()
    assert login is not None
    assert (str(login), login.password) == ("u@db:3306", SECRET)


@pytest.mark.parametrize(
    "dsn",
    [
        SECRET,
        f"{SECRET}://u@db/",
        f"mysql://u@db:{SECRET}/",
        f"mysql://u:1/{SECRET}@db/",
        f"mysql://u:1#{SECRET}@db/",
        f"postgres://u:{SECRET}@db/",
        f"mysql://[{SECRET}/",
    ],
)
def test_what_is_no_dsn_is_not_repeated(
    example: TargetsFile, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    monkeypatch.setenv("STAGING_DSN", dsn)
    with pytest.raises(
        UsageProblem, match=r"\[targets.staging\] dsn_env .*\n.*USER:PASSW"
    ) as raised:
        example.targets[3].login()
    assert_silent(raised.value)


def test_an_option_file_says_what_the_keys_do_not(tmp_path: Path) -> None:
    (tmp_path / "my.cnf").write_text(
        f"[client]\nuser=file\npassword={SECRET}\nhost=far\nport=3310\nssl-ca=/ca.pem\n"
    )
    login = login_of(tmp_path, 'option_file = "my.cnf"')
    assert (str(login), login.password) == ("file@far:3310", SECRET)
    login = login_of(
        tmp_path, 'option_file = "my.cnf"\nhost = "near"\nuser = "key"\nssl_cert = "c.pem"'
    )
    assert (str(login), login.password) == ("key@near:3310", SECRET)
    assert login.ssl == {"ca": "/ca.pem", "cert": str(tmp_path / "c.pem")}


def test_a_host_beside_an_option_file_counts_instead_of_its_socket(tmp_path: Path) -> None:
    (tmp_path / "my.cnf").write_text("[client]\nuser=file\nsocket=/s\n")
    assert login_of(tmp_path, 'option_file = "my.cnf"').address == "/s"
    assert login_of(tmp_path, 'option_file = "my.cnf"\nhost = "db"').address == "db:3306"


def test_a_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".my.cnf").write_text("[client]\nuser=me\nhost=db\n")
    assert str(login_of(tmp_path, 'option_file = "~/.my.cnf"')) == "me@db:3306"
    with pytest.raises(UsageProblem, match="cannot be read"):
        login_of(tmp_path, 'option_file = "~nobody-is-called-so/.my.cnf"')


def test_a_projects_login_is_an_account_on_the_applications_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PW", SECRET)
    lines = 'settings = "shop.settings"\nlogin = { user = "dba", password_env = "PW" }'
    login = login_of(tmp_path, lines)
    assert not login.names_a_server
    acting = Login(host="db", port=3310, user="shop").acting_as(login)
    assert (str(acting), acting.password) == ("dba@db:3310", SECRET)


# Commands


def by_command(folder: Path, *words: str) -> NamedTarget:
    lines = f'host = "db"\nuser = "u"\npassword_command = {json.dumps(words)}'
    return target(folder, lines)


@pytest.mark.parametrize("printed", ["hunter2", "hunter2\n", "hunter2\r\nuser: x\n"])
def test_the_first_line_that_a_command_prints_is_the_secret(tmp_path: Path, printed: str) -> None:
    login = by_command(tmp_path, "printf", "%s", printed).login()
    assert login is not None
    assert login.password == SECRET


def test_a_command_runs_in_the_files_folder_without_a_shell_or_input(tmp_path: Path) -> None:
    script = tmp_path / "bin" / "show"
    script.parent.mkdir()
    script.write_text('#!/bin/sh\nread line && exit 9\necho "$PWD $1"\n')
    script.chmod(0o700)
    login = by_command(tmp_path, "bin/show", "$HOME; *").login()
    assert login is not None
    assert login.password == f"{tmp_path} $HOME; *"


def test_reading_the_file_runs_no_command(tmp_path: Path) -> None:
    one = by_command(tmp_path, "touch", str(tmp_path / "ran"), SECRET)
    assert SECRET not in f"{one} {one!r}"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["sh", "-c", f"echo {SECRET}; echo {SECRET} >&2; exit 3"], "command sh ended with code 3"),
        (["true", SECRET], "command true printed nothing"),
        (["printf", f"\n{SECRET}"], "command printf printed nothing"),
        (["./none", SECRET], "none cannot be started: No such file or directory"),
        ([f"pass {SECRET}"], "command pass cannot be started: No such file or directory"),
        (["printf", rf"{SECRET}\377"], "command printf printed something that is not UTF-8"),
        (["sh", "-c", f"echo {SECRET}; kill -9 $$"], "command sh ended with code -9"),
    ],
)
def test_a_command_that_fails_is_named_and_what_it_said_is_not(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    words: Sequence[str],
    problem: str,
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(UsageProblem) as raised:
        by_command(tmp_path, *words).login()
    assert problem in raised.value.message
    assert "unhang.toml: [targets.one] password_command" in raised.value.message
    assert_silent(raised.value)
    assert SECRET not in "".join([*capfd.readouterr(), caplog.text])


def test_a_command_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "COMMAND_SECONDS", 0.2)
    program = f"import time; print('{SECRET}', flush=True); time.sleep(60)"
    with pytest.raises(UsageProblem, match=r"took longer than 0.2 s") as raised:
        by_command(tmp_path, sys.executable, "-c", program).login()
    assert_silent(raised.value)


# Mistakes


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('hots = "db"', "[targets.one] hots: there is no such key.\nDid you mean host?"),
        ('zzz = "db"', "[targets.one] zzz: there is no such key.\nKnown are: settings, project"),
        ('host = "db"\npassword = "hunter2"', "password: passwords do not belong in this file"),
        ('PASSWD = "hunter2"', "Use password_env, password_command or option_file"),
        ("password.env = 'PW'", "passwords do not belong"),
        ('dsn = "mysql://u:hunter2@db/"', "dsn: a DSN holds a password"),
        ('url = "mysql://u:hunter2@db/"', "Use dsn_env or dsn_command"),
        ('user = "u"', "[targets.one] names neither a project nor a server."),
        ('aliases = ["a"]', "[targets.one] aliases belongs to a Django project, but settings are"),
        ('host = "db"\nlogin = { user = "u" }', "login belongs to a Django project"),
        ('settings = "a.b"\nhost = "db"', "[targets.one] host does not go with settings"),
        ('settings = "a.b"\nuser = "u"', "goes into login"),
        ('settings = "a/b.py"', "settings must be a module's dotted name"),
        ("settings = 5", "settings must be a text of one line"),
        ('settings = "a"\nlogin = "mysql://u:hunter2@db"', "login must be a table"),
        ('settings = "a"\nlogin = {}', "[targets.one.login] names no account"),
        ('settings = "a"\nlogin = { user = "u", port = 3310 }', "port needs its host beside it"),
        ('settings = "a"\nlogin = { password = "hunter2" }', "[targets.one.login] password: "),
        ('settings = "a"\naliases = []', "aliases must be a list of names"),
        ('settings = "a"\naliases = "hunter2"', "aliases must be a list of names"),
        ('settings = "a"\naliases = ["x", "x"]', "aliases has x twice"),
        ('host = "db"', "[targets.one] names no account"),
        ('host = "db"\nunix_socket = "/s"\nuser = "u"', "host does not go with unix_socket"),
        ('option_file = "f"\nport = 3306', "port needs its host beside it"),
        ('dsn_env = "A"\ndsn_command = ["b"]', "dsn_env does not go with dsn_command"),
        ('dsn_env = "A"\nhost = "b"', "dsn_env does not go with host"),
        ('host = "b"\nuser="u"\npassword_env = "A"\npassword_command = ["b"]', "only one of them"),
        ('host = "u:hunter2@db"\nuser = "u"', "host must be a host's name or address alone"),
        ('host = "db:3310"\nuser = "u"', "A port has the key port"),
        ('host = ""\nuser = "u"', "host must be a text of one line"),
        ('host = "db"\nuser = "a\\nb"', "user must be a text of one line"),
        (
            'host = "db"\nuser = "u"\nport = "hunter2"',
            "port must be a whole number from 1 to 65535",
        ),
        ('host = "db"\nuser = "u"\nport = true', "port must be a whole number"),
        ('host = "db"\nuser = "u"\nport = 65536', "port must be a whole number"),
        ('host = "db"\nuser = "u"\npassword_env = "hunter2!"', "not the secret itself"),
        (
            'dsn_env = "mysql://u:hunter2@db/"',
            "dsn_env must be the name of an environment variable",
        ),
        ('dsn_command = "echo hunter2"', "dsn_command must be a list of words"),
        ("dsn_command = []", 'dsn_command = ["pass", "show", "db1"]'),
        ('dsn_command = ["a", 5]', "must be a list of words"),
    ],
)
def test_a_mistake_in_a_target_is_named(tmp_path: Path, lines: str, problem: str) -> None:
    assert problem in refused(tmp_path, f"[targets.one]\n{lines}\n")


def test_an_ipv6_address_is_a_host(tmp_path: Path) -> None:
    assert login_of(tmp_path, 'host = "::1"\nuser = "u"').host == "::1"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "names no targets"),
        ("[targets]", "names no targets"),
        ("targets = 5", "targets must be a table"),
        ("[targets]\na = 5", "[targets] a must be a table"),
        ('[target.a]\nhost = "db"', "target: no such table.\nDid you mean targets?"),
        ('password = "hunter2"', "password: passwords do not belong"),
        ('[targets."a b"]\nhost = "db"', "[targets] a b: that is no name"),
        ('[targets."\\u001b[31m"]\nhost = "db"', r"[targets] '\x1b[31m': that is no name"),
        ("[targets", "cannot be read: "),
        ("a = " + "[" * 5000, "cannot be read: "),
        ("a = " + "9" * 5000, "cannot be read: "),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[groups]\nall = []", "[groups] all must be a list of names"),
        ('[groups]\nall = "one"', "[groups] all must be a list of names"),
        ('[groups]\nall = ["oen"]', "[groups] all: there is no target oen.\nDid you mean one?"),
        ('[groups]\nall = ["one", "one"]', "[groups] all has one twice"),
        ('[groups]\none = ["one", "two"]', "[groups] one is also the name of a target"),
        ('[groups]\none = ["two"]', "[groups] one is also the name of a target"),
        ('[groups]\nall = ["two"]\n[groups.x]', "[groups] x must be a list"),
        ('[promotion]\na = "b"', "[promotion] a: there is no group a.\nKnown are: none"),
        ('[groups]\na = ["one"]\n[promotion]\na = "b"', "[promotion] a: there is no group b"),
        ('[groups]\na = ["one"]\n[promotion]\na = "a"', "goes in a circle: a → a"),
        (
            '[groups]\na = ["one"]\nb = ["two"]\n[promotion]\na = "b"\nb = "a"',
            "[promotion] a goes in a circle: a → b → a",
        ),
        ('[groups]\na = ["one"]\n[promotion]\na = ["a"]', "[promotion] a must be a text"),
    ],
)
def test_a_mistake_in_groups_or_promotion_is_named(tmp_path: Path, text: str, problem: str) -> None:
    two = "".join(f'[targets.{name}]\nhost = "db"\nuser = "u"\n' for name in ("one", "two"))
    assert problem in refused(tmp_path, two + text)


def test_a_group_may_have_the_name_of_its_only_target(example: TargetsFile) -> None:
    assert example.groups["staging"] == ("staging",)


def test_a_promotion_may_have_several_steps(tmp_path: Path) -> None:
    text = '[targets.one]\nhost = "db"\nuser = "u"\n[groups]\n'
    text += "".join(f'{name} = ["one"]\n' for name in "abc") + '[promotion]\na = "b"\nb = "c"\n'
    file = read(written(tmp_path, text))
    assert [file.requires(name) for name in "abc"] == ["b", "c", None]


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="cannot be read: No such file or directory"):
        read(tmp_path / "unhang.toml")


def test_what_the_file_says_is_not_in_the_repr_of_its_tables(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, f'password = "{SECRET}"'))
    assert SECRET not in repr(table)


# Whatever people write

ODD = st.sampled_from(
    [
        "",
        " ",
        "x",
        "~",
        "~nobody-is-called-so",
        "a\nb",
        "\0",
        f"u:{SECRET}@db",
        f"mysql://u:{SECRET}@db/",
        True,
        0,
        -1,
        3306,
        1.5,
        [],
        {},
        [[]],
        [SECRET, 5],
        {"a": SECRET},
    ]
)
GOOD: Mapping[str, Sequence[Any]] = {
    "settings": ["shop.settings"],
    "project": [".", "none"],
    "python": ["bin/python", "python3"],
    "aliases": [["default"]],
    "host": ["db", "::1"],
    "port": [3307],
    "unix_socket": ["/s"],
    "user": ["u"],
    "option_file": ["good.cnf", "early.cnf", "open.cnf", "bytes.cnf", "none.cnf", "."],
    "password_env": ["PW", "NONE", SECRET],
    "password_command": [
        ["printf", SECRET],
        ["sh", "-c", f"echo {SECRET}; echo {SECRET} >&2; exit 3"],
        ["./none", SECRET],
        ["printf", rf"{SECRET}\377"],
        f"echo {SECRET}",
    ],
    "dsn_env": ["DSN", "PW", "NONE", SECRET],
    "dsn_command": [["printf", "%s", f"mysql://u:{SECRET}@h/"], ["echo", f"{SECRET}://h"]],
    "ssl_ca": ["ca.pem"],
    "password": [SECRET],
    "dsn": [f"mysql://u:{SECRET}@h/"],
    "hots": [SECRET],
}
DSNS = [
    f"mysql://u:{SECRET}@db/x",
    f"{SECRET}://u@h",
    f"mysql://u@h:{SECRET}/",
    f"mysql://u:1#{SECRET}@h/",
    "\udcff://",
    "//\u2100",
]


def entries(keys: Sequence[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of these keys, each with a fitting value, or rarely with an odd one."""
    fitting = {key: st.sampled_from(GOOD[key]) for key in keys}
    pairs = st.sampled_from(sorted(keys)).flatmap(
        lambda key: st.tuples(st.just(key), fitting[key] | fitting[key] | ODD)
    )
    return st.lists(pairs, max_size=5).map(dict)


SERVERS = entries([key for key in GOOD if key not in ("settings", "project", "python", "aliases")])
USABLE = st.sampled_from(
    [
        {"host": "db", "user": "u", "password_env": "PW"},
        {"host": "db", "user": "u", "password_env": SECRET},
        {"host": "db", "user": "u", "password_command": GOOD["password_command"][1]},
        {"dsn_env": "DSN"},
        {"dsn_command": GOOD["dsn_command"][1]},
        {"option_file": "early.cnf"},
    ]
)
PROJECTS = st.builds(
    lambda project, login: {"settings": "shop.settings", **project, "login": login},
    entries(["project", "python", "aliases"]),
    SERVERS | USABLE,
)
TARGETS = SERVERS | USABLE | PROJECTS | entries(sorted(GOOD))
NAMES = st.sampled_from(["a", "b", "c"])
FILES = st.fixed_dictionaries(
    {"targets": st.dictionaries(NAMES, TARGETS, min_size=1)},
    optional={
        "groups": st.dictionaries(NAMES, st.lists(NAMES, max_size=2) | ODD),
        "promotion": st.dictionaries(NAMES, NAMES | ODD),
        "password": st.just(SECRET),
    },
)


def as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {as_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value)


def equipped(folder: Path) -> None:
    (folder / "good.cnf").write_text(f"[client]\nuser=u\npassword={SECRET}\n")
    (folder / "early.cnf").write_text(f"password={SECRET}\n[client]\n")
    (folder / "open.cnf").write_text(f"[client\npassword={SECRET}\n")
    (folder / "bytes.cnf").write_bytes(b"[client]\npassword=hunter2\xff\n")


def all_that_is_said(file: Path) -> list[object]:
    """Everything that could be shown of a file, its logins and its mistakes."""
    said: list[object] = []
    try:
        content = read(file)
    except UsageProblem as error:
        return [error]
    said.append(content)
    for named in content.targets:
        for ask in (named.login, lambda named=named: named.project):
            try:
                said.append(ask())
            except UsageProblem as error:
                said.append(error)
    return said


@settings(max_examples=120, deadline=None)
@given(content=FILES, dsn=st.sampled_from(DSNS))
def test_a_mistake_is_a_usage_problem_and_never_tells_a_secret(
    content: dict[str, Any], dsn: str
) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]  # the shortest way to listen
    with (
        tempfile.TemporaryDirectory() as name,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PW", SECRET)
        patch.setenv("DSN", dsn)
        patch.setattr(logging.root, "handlers", [handler])
        patch.setattr(logging.root, "level", logging.DEBUG)
        equipped(Path(name))
        text = "\n".join(f"{key} = {as_toml(value)}" for key, value in content.items())
        said = all_that_is_said(written(Path(name), text))
    for one in said:
        assert SECRET not in f"{one} {one!r}"
        if isinstance(one, UsageProblem):
            assert_silent(one)
    assert not [record for record in records if SECRET in record.getMessage()]


@settings(max_examples=120, deadline=None)
@given(
    start=st.integers(0, len(EXAMPLE)),
    length=st.integers(0, 40),
    put=st.text(max_size=8) | st.sampled_from(["[", '"', "\n", "=", "{", "'''", "[[targets.x]]"]),
)
def test_whatever_is_done_to_a_file_only_a_usage_problem_comes_of_it(
    start: int, length: int, put: str
) -> None:
    damaged = EXAMPLE[:start] + put + EXAMPLE[start + length :]
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "unhang.toml"
        file.write_bytes(damaged.encode("utf-8", "replace"))
        all_that_is_said(file)
