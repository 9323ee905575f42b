"""Logins from whatever people have."""

from __future__ import annotations

from pathlib import Path

import pytest

from unhang.errors import UsageProblem
from unhang.survey import login as logins
from unhang.survey.login import Login


def test_a_dsn_is_percent_decoded() -> None:
    login = logins.from_dsn("mysql://me%40here:50%25%2Foff@db.example:3307/shop%20one")
    assert (login.user, login.password) == ("me@here", "50%/off")
    assert (login.host, login.port, login.database) == ("db.example", 3307, "shop one")


def test_a_dsn_may_name_a_socket() -> None:
    login = logins.from_dsn("mysql://root@localhost/?unix_socket=/run/mysqld/mysqld.sock")
    assert login.unix_socket == "/run/mysqld/mysqld.sock"
    assert login.address == "/run/mysqld/mysqld.sock"


@pytest.mark.parametrize("dsn", ["postgres://a@b/c", "mysql://h:notaport/", "nonsense", "://"])
def test_what_is_no_dsn_is_refused_with_the_right_form(dsn: str) -> None:
    with pytest.raises(UsageProblem, match="mysql://USER:PASSWORD@HOST"):
        logins.from_dsn(dsn)


def test_a_password_never_shows_in_what_is_printed() -> None:
    login = logins.from_dsn("mysql://me:hunter2@db/x")
    assert "hunter2" not in f"{login} {login!r} {login.address}"


def test_an_option_file_is_read_like_a_client_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "my.cnf"
    file.write_text(
        "!includedir /etc/mysql/conf.d\n[mysqld]\nport=1\n[client]\nuser = 'app'\n"
        'password="50%#x"\nport=3310\nssl-ca=/ca.pem\nquick\n[unhang]\nuser=inspector\n'
    )
    login = logins.from_option_file(file)
    assert (login.user, login.password, login.port) == ("inspector", "50%#x", 3310)
    assert login.ssl == {"ca": "/ca.pem"}


def test_an_option_file_without_a_client_group_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "my.cnf"
    file.write_text("[mysqld]\nport=1\n")
    with pytest.raises(UsageProblem, match=r"has no \[client\] group"):
        logins.from_option_file(file)


def test_a_missing_option_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="cannot be read: No such file or directory"):
        logins.from_option_file(tmp_path / "none.cnf")


def test_django_settings_are_read_as_djangos_backend_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "my.cnf"
    file.write_text("[client]\nuser=fromfile\npassword=secret\nhost=10.0.0.9\n")
    login = logins.from_django(
        {"NAME": "shop", "USER": "shop", "OPTIONS": {"read_default_file": str(file)}}
    )
    assert (login.user, login.password, login.host) == ("shop", "secret", "10.0.0.9")


def test_a_host_that_begins_with_a_slash_is_a_socket() -> None:
    assert logins.from_django({"HOST": "/run/db.sock"}).unix_socket == "/run/db.sock"


def test_another_account_keeps_the_applications_address_unless_it_names_one() -> None:
    own = Login(host="db", port=3310, user="shop", database="shop")
    assert own.acting_as(Login(user="dba")).address == "db:3310"
    assert own.acting_as(Login(user="dba", host="replica")).address == "replica:3306"
    through = Login(unix_socket="/s", user="shop").acting_as(Login(user="dba"))
    assert (through.address, through.user) == ("/s", "dba")


def test_a_quoted_password_in_an_option_file_keeps_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "my.cnf"
    file.write_text('[client]\npassword="ab # c"\nport=1 # one\n')
    login = logins.from_option_file(file)
    assert (login.password, login.port) == ("ab # c", 1)


@pytest.mark.parametrize("text", ["root:s3cret@localhost/db", "mysql:root:s3cret@h/db"])
def test_what_is_neither_dsn_nor_file_is_not_repeated(text: str) -> None:
    with pytest.raises(UsageProblem, match="neither a DSN nor") as raised:
        logins.parse(text)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("password", ["12#s3cret", "12/s3cret"])
def test_a_password_that_is_not_encoded_is_not_taken_for_the_address(password: str) -> None:
    with pytest.raises(UsageProblem, match="cannot be read") as raised:
        logins.from_dsn(f"mysql://root:{password}@db/shop")
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("port", ["abc", "0", "70000", 3306.5])
def test_a_port_that_is_none_is_one_sentence(port: object) -> None:
    with pytest.raises(UsageProblem, match="The port in DATABASES is no number from 1 to"):
        logins.from_django({"HOST": "db", "PORT": port})


@pytest.fixture
def socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The client's default socket, which exists."""
    path = tmp_path / "mysqld.sock"
    path.touch()
    monkeypatch.setattr(logins, "_DEFAULT_SOCKETS", (tmp_path / "none.sock", path))
    return str(path)


@pytest.mark.parametrize("host", ["", "localhost"])
def test_localhost_is_the_socket_of_mysqlclient_whatever_the_port(host: str, socket: str) -> None:
    settings = {"HOST": host, "PORT": 3310}
    assert logins.from_django(settings, driver="mysqlclient").address == socket
    assert logins.from_django(settings).address == socket
    assert logins.from_django(settings, driver="pymysql").address == "localhost:3310"
    named = settings | {"OPTIONS": {"unix_socket": "/s"}}
    assert logins.from_django(named, driver="mysqlclient").address == "/s"


def test_without_a_socket_file_localhost_stays_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "_DEFAULT_SOCKETS", (tmp_path / "none.sock",))
    assert logins.from_django({"HOST": "", "PORT": 3310}).address == "localhost:3310"


def test_the_socket_of_an_option_file_comes_before_the_default_one(
    tmp_path: Path, socket: str
) -> None:
    file = tmp_path / "my.cnf"
    file.write_text("[client]\nsocket=/from/file\n")
    settings = {"OPTIONS": {"read_default_file": str(file)}}
    assert logins.from_django(settings, driver="mysqlclient").address == "/from/file"


def test_a_socket_beside_a_remote_host_is_ignored_as_the_client_library_does(socket: str) -> None:
    settings = {"HOST": "127.0.0.1", "PORT": 3310, "OPTIONS": {"unix_socket": "/s"}}
    assert logins.from_django(settings, driver="mysqlclient").address == "127.0.0.1:3310"
    assert logins.from_django(settings, driver="pymysql").address == "/s"


def test_options_win_over_the_keys_beside_them() -> None:
    settings = {"HOST": "a", "USER": "u", "OPTIONS": {"host": "b", "port": "3311", "user": "v"}}
    login = logins.from_django(settings)
    assert str(login) == "v@b:3311"


def test_the_group_that_django_is_told_to_read_is_read(tmp_path: Path) -> None:
    file = tmp_path / "my.cnf"
    file.write_text("[client]\nuser=a\nhost=db\n[shop]\nuser=b\n[unhang]\nuser=c\n")
    options = {"read_default_file": str(file), "read_default_group": "shop"}
    assert str(logins.from_django({"OPTIONS": options})) == "b@db:3306"
