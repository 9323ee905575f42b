"""The address of a server as a URL."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from unhang.lab.client import Client

CLIENT = Client("mariadb", "127.0.0.1", 3307, "/tmp/x.sock", Path("/tmp/x"))  # noqa: S108  # a name


def test_root_without_a_password_is_the_default() -> None:
    assert CLIENT.dsn() == "mysql://root@127.0.0.1:3307/"


def test_every_part_survives_a_round_trip() -> None:
    parts = urlsplit(CLIENT.dsn("an:n@", "p/w%?#", "shop & co"))
    assert unquote(parts.username or "") == "an:n@"
    assert unquote(parts.password or "") == "p/w%?#"
    assert unquote(parts.path) == "/shop & co"
    assert parts.port == 3307
