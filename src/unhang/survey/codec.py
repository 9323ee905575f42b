"""Frozen dataclasses to plain JSON data and back, led by their type hints."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, cast

T = TypeVar("T")


@functools.cache
def _names(kind: type) -> tuple[str, ...]:
    # Kept, since a survey may hold thousands of sessions.
    return tuple(field.name for field in dataclasses.fields(kind))


def encode(value: Any) -> Any:
    """Dataclasses, mappings and sequences as dicts, lists and scalars."""
    if value is None or isinstance(value, str | int | float):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: encode(getattr(value, name)) for name in _names(type(value))}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list | frozenset):
        return [encode(item) for item in value]
    return value


def decode(kind: type[T], data: Mapping[str, Any]) -> T:
    """An instance of the dataclass `kind` from what `encode` made of it.

    Unknown keys are ignored, so that an older version can read a newer file of the same schema.

    Raises:
        ValueError: A field without a default is missing, or one holds something else.
    """
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(cast(Any, kind))
    if not isinstance(data, Mapping):
        raise ValueError(f"{kind.__name__}: {_short(data)} is no object")
    values = {}
    for name in (field.name for field in fields if field.name in data):
        try:
            values[name] = _decode_as(hints[name], data[name])
        except TypeError:
            message = f"{kind.__name__}: {name} cannot be {_short(data[name])}"
            raise ValueError(message) from None
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from None


def _decode_as(hint: Any, data: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if data is None and type(None) in arguments:
            return None
        return _decode_as(next(a for a in arguments if a is not type(None)), data)
    if origin is tuple:
        _expect(list, data)
        return tuple(_decode_as(arguments[0], item) for item in data)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        _expect(Mapping, data)
        return {key: _decode_as(arguments[1], item) for key, item in data.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return decode(hint, data)
    if origin is typing.Literal:
        _expect(type(arguments[0]), data)
    elif hint is float:
        _expect((int, float), data)
    elif isinstance(hint, type):
        _expect(hint, data)
    return data


def _expect(kind: type | tuple[type, ...], data: Any) -> None:
    """A newer version may know more words, but it has no other kinds of things."""
    if not isinstance(data, kind):
        raise TypeError


def _short(data: Any) -> str:
    return repr(data)[:40]
