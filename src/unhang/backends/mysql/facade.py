"""What third-party code expects of a driver's connection, on a virtual one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from MySQLdb.connections import Connection

_HARMLESS: Final = frozenset(
    {"errno", "error", "field_count", "get_character_set_info", "get_host_info", "get_proto_info"}
    | {"info", "sqlstate", "stat", "warning_count"}
)
"""Methods that only look."""

_ATTRIBUTES: Final = frozenset(
    {"charset", "converter", "db", "decoders", "encoding", "host", "port", "server_status"}
    | {"server_version", "user"}
)
"""What the drivers' connections set when they are made."""


class DriverFacade:
    """The drivers' methods and attributes, by name. What only looks takes a lease for itself; what
    may leave something in the connection pins it."""

    __slots__ = ()

    def briefly(self, use: Callable[[Any], Any]) -> Any:
        """Something that leaves nothing in the session, on a connection."""
        raise NotImplementedError

    def raw(self, name: str) -> Any:
        """The driver's connection, pinned because of this name."""
        raise NotImplementedError

    def escape(self, *args: Any) -> Any:
        """Escape a value for SQL."""
        return self.briefly(lambda connection: connection.escape(*args))

    def escape_string(self, text: Any) -> Any:
        """Escape a string for SQL."""
        return self.briefly(lambda connection: connection.escape_string(text))

    def literal(self, value: Any) -> Any:
        """A value as SQL."""
        return self.briefly(lambda connection: connection.literal(value))

    def get_server_info(self) -> str:
        """The server's version."""
        return str(self.briefly(lambda connection: connection.get_server_info()))

    def character_set_name(self) -> str:
        """The character set of the client."""
        return str(self.briefly(lambda connection: connection.character_set_name()))

    @property
    def encoders(self) -> Any:
        """The driver's mapping of types to functions that make SQL of them."""
        return self.briefly(lambda connection: connection.encoders)

    def __getattr__(self, name: str) -> Any:
        if name in _HARMLESS:
            return lambda *args: self.briefly(lambda connection: getattr(connection, name)(*args))
        # Code that only asks whether there is such an attribute must not get a lease for it.
        if name.startswith("_") or not (hasattr(Connection, name) or name in _ATTRIBUTES):
            raise AttributeError(f"{Connection.__qualname__!r} has no attribute {name!r}")
        return getattr(self.raw(name), name)
