"""See that `import MySQLdb` works, which Django's own backend does: with mysqlclient, else PyMySQL.

Imported before anything of Django's MySQL backend.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
from types import ModuleType

from django.core.exceptions import ImproperlyConfigured

_VARIABLE = "UNHANG_DRIVER"


def choose() -> str:
    """The driver for this process: `mysqlclient` or `pymysql`.

    What is loaded already stays. Else the environment variable UNHANG_DRIVER decides; else PyMySQL
    under gevent, since mysqlclient would stop all greenlets while it waits; else mysqlclient if it
    is installed.

    Raises:
        ImproperlyConfigured: UNHANG_DRIVER is neither of the two, or not installed.
    """
    loaded = sys.modules.get("MySQLdb")
    if loaded is not None:
        return "pymysql" if loaded.__name__ == "pymysql" else "mysqlclient"
    wanted = os.environ.get(_VARIABLE, "").lower()
    if wanted not in ("", "mysqlclient", "pymysql"):
        raise ImproperlyConfigured(f"{_VARIABLE} must be mysqlclient or pymysql, not {wanted!r}.")
    if not wanted:
        has_mysqlclient = importlib.util.find_spec("MySQLdb") is not None
        wanted = "mysqlclient" if has_mysqlclient and not _is_gevent_patched() else "pymysql"
    return wanted


def install() -> None:
    """Make `MySQLdb` importable.

    Raises:
        ImproperlyConfigured: Neither driver is installed.
    """
    if choose() == "mysqlclient":
        return
    try:
        import pymysql
    except ImportError as error:
        raise ImproperlyConfigured(
            "Neither mysqlclient nor PyMySQL is installed. Try: pip install 'unhang[mysqlclient]', "
            "or pip install PyMySQL, which needs no compiler."
        ) from error
    pymysql.install_as_MySQLdb()
    _share_submodules(pymysql)


def _share_submodules(package: ModuleType) -> None:
    """Let `MySQLdb.err` be `pymysql.err`.

    Python would load the file a second time under the other name, and put it in the place of the
    first: code that catches `pymysql.err.OperationalError` would then miss what PyMySQL raises.
    """
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if ".tests" in found.name:
            continue
        alias = "MySQLdb" + found.name.removeprefix(package.__name__)
        sys.modules.setdefault(alias, importlib.import_module(found.name))


def _is_gevent_patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


install()
