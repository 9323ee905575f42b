"""Calls that give an alias's dict and can be told its values."""

from __future__ import annotations

from typing import Final

import libcst as cst

from unhang.change.settings_mentions import Names
from unhang.change.settings_values import dotted

# https://github.com/jazzband/dj-database-url: `config` and `parse`, with the positions that their
# parameters have since 1.2.
_PARAMETERS: Final = ("ENGINE", "CONN_MAX_AGE", "CONN_HEALTH_CHECKS")
_URL_CALLS: Final = {
    "dj_database_url.config": ("", "", *_PARAMETERS),
    "dj_database_url.parse": ("", *_PARAMETERS),
}

# https://django-environ.readthedocs.io: `Env.db` and its old name. The URL's query holds the other
# values.
_ENVIRON: Final = ("db", "db_url")
_COPIES: Final = ("copy", "deepcopy")


def has_stars(call: cst.Call) -> bool:
    """Whether arguments are passed on that cannot be seen."""
    return any(argument.star for argument in call.args)


def is_url_call(value: cst.BaseExpression, names: Names) -> bool:
    """Whether it is `config` or `parse` of dj_database_url, however they were imported."""
    return isinstance(value, cst.Call) and _origin(value, names) in _URL_CALLS


def url_arguments(call: cst.Call, names: Names) -> dict[str, cst.BaseExpression]:
    """The values that a call of dj_database_url is given, by the setting's name."""
    parameters = (*_URL_CALLS[_origin(call, names)], *[""] * len(call.args))
    return {
        argument.keyword.value.upper() if argument.keyword else parameter: argument.value
        for parameter, argument in zip(parameters, call.args, strict=False)
    }


def takes_engine(call: cst.Call) -> bool:
    """Whether it is django-environ's, which has an `engine` argument."""
    return dotted(call.func).rpartition(".")[2] in _ENVIRON


def gives_a_new_dict(call: cst.Call, names: Names) -> bool:
    """Whether no other name of the file can mean the dict that the call gives."""
    name = call.func.attr.value if isinstance(call.func, cst.Attribute) else dotted(call.func)
    return name in (*_ENVIRON, *_COPIES) or names.calls[names.written(call)] == 1


def _origin(call: cst.Call, names: Names) -> str:
    head, _dot, rest = dotted(call.func).partition(".")
    origin = names.origins.get(head, head)
    return f"{origin}.{rest}" if rest else origin
