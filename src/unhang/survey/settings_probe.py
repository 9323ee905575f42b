"""Load a Django project's settings and print what is in effect, as JSON.

Run as a script in a fresh interpreter by `unhang.survey.project`, possibly the project's own
interpreter, so it imports only the standard library and Django. The answer goes to a file
descriptor of its own: settings modules like to print.

    python settings_probe.py ANSWER_FD MYSQL_ENGINES      with DJANGO_SETTINGS_MODULE set

MYSQL_ENGINES is the pattern of the ENGINEs that need a driver for MySQL.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import traceback
from typing import Any

_FIELDS = (
    "ENGINE",
    "NAME",
    "USER",
    "PASSWORD",
    "HOST",
    "PORT",
    "CONN_MAX_AGE",
    "CONN_HEALTH_CHECKS",
    "ATOMIC_REQUESTS",
    "AUTOCOMMIT",
)


def plain(value: Any) -> Any:
    """A value that JSON can carry; anything unusual becomes its text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value)


def effective_settings(mysql_engines: str) -> dict[str, Any]:
    """DATABASES with Django's defaults filled in, and what tells where the settings come from."""
    before = set(sys.modules)
    import django
    from django.conf import settings
    from django.db import connections

    databases = {
        alias: {
            **{field: plain(database[field]) for field in _FIELDS},
            "OPTIONS": plain(database["OPTIONS"]),
        }
        for alias, database in connections.settings.items()
    }
    module = os.environ["DJANGO_SETTINGS_MODULE"]
    needs_driver = any(re.search(mysql_engines, str(d["ENGINE"])) for d in databases.values())
    return {
        "databases": databases,
        "mysql_driver": _mysql_driver() if needs_driver else None,
        "django_version": django.get_version(),
        "settings_file": getattr(sys.modules.get(module), "__file__", None),
        "loaded_files": _project_files(before),
        "middleware": plain(settings.MIDDLEWARE),
        "unhang": plain(getattr(settings, "UNHANG", {})),
        "has_unhang": importlib.util.find_spec("unhang") is not None,
    }


def _mysql_driver() -> str | None:
    """What Django's `import MySQLdb` leads to here; settings may have put PyMySQL in its place."""
    try:
        import MySQLdb
    except Exception:  # noqa: BLE001 - not installed, or its library is missing or too old
        return None
    return "pymysql" if MySQLdb.__name__ == "pymysql" else "mysqlclient"


def _project_files(before: set[str]) -> list[str]:
    """Source files that loading the settings brought in, except installed packages."""
    files = {getattr(sys.modules[name], "__file__", None) for name in set(sys.modules) - before}
    return sorted(
        file
        for file in files
        if file and "site-packages" not in file and not file.startswith(sys.base_prefix)
    )


def main() -> int:
    """Answer on the descriptor; 1 with `{"error": …}` when the settings do not load."""
    # The script's own folder must not shadow modules of the project.
    sys.path[0] = os.getcwd()  # noqa: PTH109 - a str is what sys.path holds
    answer: dict[str, Any]
    try:
        answer = effective_settings(sys.argv[2])
        code = 0
    except BaseException as error:  # noqa: BLE001 - settings may raise anything, SystemExit too
        last = traceback.format_exception_only(error)[-1].strip()
        answer, code = {"error": last, "kind": type(error).__name__}, 1
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as stream:
        json.dump(answer, stream)
    return code


if __name__ == "__main__":
    sys.exit(main())
