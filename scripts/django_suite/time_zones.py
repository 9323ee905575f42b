"""Fills a server's time zone tables from this machine's zone files.

Without them CONVERT_TZ gives NULL and a hundred tests are skipped. The server's own tool for this
is in another package than the server, and often absent.
"""

from __future__ import annotations

import contextlib
import struct
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from unhang.lab.server import Server

_HEADER: Final = struct.Struct(">4sc15x6L")
_TYPE: Final = struct.Struct(">lbB")
_OLDEST, _NEWEST = -(2**31), 2**31
"""Seconds since 1970; the servers' own tools stop there as well."""


@dataclass(frozen=True, slots=True)
class Zone:
    """One zone file: when it changes to which type, and the offset, DST flag and name of each."""

    changes: list[tuple[int, int]]
    types: list[tuple[int, int, str]]


def parse(data: bytes) -> Zone:
    """Read a zone file (TZif, RFC 8536) of version 2 or later.

    Raises:
        ValueError: It is none.
    """
    magic, version, *counts = _HEADER.unpack_from(data)
    if magic != b"TZif" or version < b"2":
        raise ValueError("not a zone file of version 2")
    utc, standard, leaps, times, types, chars = counts
    # The first block, of 32-bit times, is skipped.
    start = _HEADER.size + times * 5 + types * 6 + chars + leaps * 8 + standard + utc
    _magic, _version, _utc, _standard, _leaps, times, types, chars = _HEADER.unpack_from(
        data, start
    )
    start += _HEADER.size
    moments = struct.unpack_from(f">{times}q", data, start)
    kinds = data[start + times * 8 : start + times * 9]
    table = start + times * 9
    names = data[table + types * 6 : table + types * 6 + chars]
    rows = [_TYPE.unpack_from(data, table + index * 6) for index in range(types)]
    return Zone(
        [(moment, kind) for moment, kind in zip(moments, kinds, strict=True) if _fits(moment)],
        [(offset, dst, names[at:].partition(b"\0")[0].decode()) for offset, dst, at in rows],
    )


def _fits(moment: int) -> bool:
    return _OLDEST <= moment < _NEWEST


def load(server: Server) -> int:
    """Load all zones; returns their number, 0 if this machine has no zone files."""
    zones = list(_zones())
    numbered = [(number, zone) for number, (_name, zone) in enumerate(zones, 1)]
    rows: dict[str, list[tuple[object, ...]]] = {
        "time_zone": [(number, "N") for number, _zone in numbered],
        "time_zone_name": [(name, number) for number, (name, _zone) in enumerate(zones, 1)],
        "time_zone_transition": [
            (number, *change) for number, zone in numbered for change in zone.changes
        ],
        "time_zone_transition_type": [
            (number, index, *kind)
            for number, zone in numbered
            for index, kind in enumerate(zone.types)
        ],
    }
    with contextlib.closing(server.connect(database="mysql")) as connection:
        for table, values in rows.items():
            cursor = connection.cursor()
            cursor.execute(f"TRUNCATE {table}")
            if values:
                places = ", ".join(["%s"] * len(values[0]))
                insert = f"INSERT INTO {table} VALUES ({places})"  # noqa: S608 - the names above
                cursor.executemany(insert, values)
    return len(zones)


def _zones() -> Iterator[tuple[str, Zone]]:
    for name in sorted(zoneinfo.available_timezones()):
        for folder in zoneinfo.TZPATH:
            file = Path(folder, name)
            if file.is_file():
                yield name, parse(file.read_bytes())
                break
