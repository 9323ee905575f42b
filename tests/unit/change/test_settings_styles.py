"""The ways in which projects write DATABASES: what the edit makes of each, and its effect."""

from __future__ import annotations

from textwrap import dedent

import pytest

from specimens_settings.stand_ins import check_edit, edited
from unhang.change.patch import Patch
from unhang.change.settings_edit import CannotEditError, Edit, Values, edits

VALUES: Values = {"CONN_MAX_AGE": 280, "CONN_HEALTH_CHECKS": True}
POOL: Values = {"ENGINE": "unhang.backends.mysql"}

# Each is a file with the lines that an edit adds marked `+`, and those that it takes away `-`.
STYLES = {
    "the dict of startproject": """
         from pathlib import Path
         BASE_DIR = Path("/srv/shop")

         # Database
         # https://docs.djangoproject.com/en/5.2/ref/settings/#databases

         DATABASES = {
             'default': {
                 'ENGINE': 'django.db.backends.mysql',
                 'NAME': BASE_DIR / 'shop',
        +        'CONN_MAX_AGE': 280,
        +        'CONN_HEALTH_CHECKS': True,
             }
         }
    """,
    "cookiecutter-django, base": """
         import environ
         env = environ.Env()
         # DATABASES
         # ----------------------------------------------------------------------
         DATABASES = {"default": env.db("DATABASE_URL", default="mysql:///shop")}  # a URL
         DATABASES["default"]["ATOMIC_REQUESTS"] = True
        +DATABASES["default"]["CONN_MAX_AGE"] = 280
        +DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
         DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
    """,
    "cookiecutter-django, production": """
         from .base import *  # noqa: F403
         from .base import DATABASES, env
         SECRET_KEY = "x"
        -DATABASES["default"]["CONN_MAX_AGE"] = 60  # noqa: F405
        +DATABASES["default"]["CONN_MAX_AGE"] = 280  # noqa: F405
        +DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
         CACHES = {"default": {"LOCATION": "redis://"}}
    """,
    "dj_database_url in the dict": """
         import dj_database_url

         DATABASES = {
             "default": dj_database_url.config(
                 default="mysql://u:hunter2@db/shop",
        -        conn_max_age=600,
        +        conn_max_age=280,
        +        conn_health_checks=True,
             )
         }
    """,
    "dj_database_url assigned": """
         from dj_database_url import parse as db_url
         DATABASES = {}
        -DATABASES["default"] = db_url("mysql://u:hunter2@db/shop")
        +DATABASES["default"] = db_url("mysql://u:hunter2@db/shop", conn_max_age=280, \
conn_health_checks=True)
    """,
    "dj_database_url without arguments": """
         import dj_database_url as dj
        -DATABASES = {'default': dj.config()}
        +DATABASES = {'default': dj.config(conn_max_age=280, conn_health_checks=True)}
    """,
    "dj_database_url by position": """
         import dj_database_url
         DATABASES = {"default": {}, "other": {"ENGINE": "x"}}
        -DATABASES["default"] = dj_database_url.parse("mysql://db/shop", None, 600, False)
        +DATABASES["default"] = dj_database_url.parse("mysql://db/shop", None, 280, True)
    """,
    "dj_database_url's config by position": """
         from dj_database_url import config
        -DATABASES = {"default": config("DATABASE_URL", None, None, 600, conn_health_checks=False)}
        +DATABASES = {"default": config("DATABASE_URL", None, None, 280, conn_health_checks=True)}
    """,
    "Heroku": """
         import dj_database_url
         DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db"}}
        -db_from_env = dj_database_url.config(conn_max_age=500)
        +db_from_env = dj_database_url.config(conn_max_age=280, conn_health_checks=True)
         DATABASES["default"].update(db_from_env)
    """,
    "dj_database_url and more": """
         import dj_database_url
         DATABASES = {
             "default": {
        -        **dj_database_url.config(conn_max_age=600),
        +        **dj_database_url.config(conn_max_age=280, conn_health_checks=True),
                 "OPTIONS": {"charset": "utf8mb4"},
             },
         }
    """,
    "decouple": """
         from decouple import config
         DATABASES = {
             'default': {
                 'ENGINE': config('DB_ENGINE', default='django.db.backends.mysql'),
                 'NAME': config('DB_NAME', default='shop'),
                 'PORT': config('DB_PORT', default=3306, cast=int),
        +        'CONN_MAX_AGE': 280,
        +        'CONN_HEALTH_CHECKS': True,
             }
         }
    """,
    "os.environ": """
         import os
         DATABASES = {
             "default": {
                 "ENGINE": "django.db.backends.mysql",
                 "NAME": os.environ.get("DB_NAME", "shop"),
                 "PASSWORD": os.getenv("DB_PASSWORD", ("hunter2")),  # from the vault
        -        "CONN_MAX_AGE": 60 * 10,  # ten minutes
        +        "CONN_MAX_AGE": 280,  # ten minutes
        -        "HOST": (os.environ.get("DB_HOST", "db"))  # by name
        +        "HOST": (os.environ.get("DB_HOST", "db")),  # by name
        +        "CONN_HEALTH_CHECKS": True
             }
         }
    """,
    "dict calls": """
         DATABASES = dict(
             default=dict(
                 ENGINE="django.db.backends.mysql",
                 NAME="shop",
        +        CONN_MAX_AGE=280,
        +        CONN_HEALTH_CHECKS=True,
             ),
         )
    """,
    "aliases with a shared base": """
         COMMON = {"ENGINE": "django.db.backends.mysql", "CONN_MAX_AGE": 60}
         DATABASES = {
        -    "default": {**COMMON, "NAME": "shop"},
        +    "default": {**COMMON, "NAME": "shop", "CONN_MAX_AGE": 280, "CONN_HEALTH_CHECKS": True},
             "replica": {**COMMON, "NAME": "shop", "HOST": "replica"},
         }
    """,
    "a base and a union": """
         BASE = dict(ENGINE="django.db.backends.mysql")
         DATABASES = {
        -    "default": BASE | {"NAME": "shop"},
        +    "default": BASE | {"NAME": "shop", "CONN_MAX_AGE": 280, "CONN_HEALTH_CHECKS": True},
             "replica": BASE.copy(),
         }
    """,
    "one of two copies": """
         BASE = dict(ENGINE="django.db.backends.mysql")
         DATABASES = {"default": BASE.copy(), "replica": BASE.copy()}
        +DATABASES["default"]["CONN_MAX_AGE"] = 280
        +DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    """,
    "built up by assignment": """
         DATABASES = {}
         DATABASES["default"] = {}
         DATABASES["default"]["ENGINE"] = "django.db.backends.mysql"
         DATABASES["default"]["NAME"] = "shop"
        +DATABASES["default"]["CONN_MAX_AGE"] = 280
        +DATABASES["default"]["CONN_HEALTH_CHECKS"] = True

         DATABASES["default"]["OPTIONS"] = {"charset": "utf8mb4"}
    """,
    "local settings at the end": """
         DATABASES = {
             "default": {
                 "NAME": "shop",
        +        "CONN_MAX_AGE": 280,
        +        "CONN_HEALTH_CHECKS": True,
             },
         }

         try:
             from .local_settings import *
         except ImportError:
             pass
    """,
    "options and later reads": """
         DATABASES = {
             "default": {
                 "ENGINE": "django.db.backends.mysql",
                 "OPTIONS": {"init_command": "SET sql_mode='STRICT_TRANS_TABLES'"},
        +        "CONN_MAX_AGE": 280,
        +        "CONN_HEALTH_CHECKS": True,
             },
         }
         if DATABASES["default"]["ENGINE"].endswith("mysql"):
             DATABASES["default"]["OPTIONS"]["charset"] = "utf8mb4"
         HAS_REPLICA = "replica" in DATABASES
         HOST = DATABASES["default"].get("HOST", "")
         NAMES = [DATABASES[name].get("NAME") for name in DATABASES]
    """,
    "a dict in a variable": """
         MYSQL = {
             "ENGINE": "django.db.backends.mysql",
        -    "CONN_HEALTH_CHECKS": False,
        +    "CONN_HEALTH_CHECKS": True,
        +    "CONN_MAX_AGE": 280,
         }
         DATABASES = {"default": MYSQL, "other": {"ENGINE": "x"}}
    """,
    "DATABASES in a variable": """
        -ALL = {"default": {"ENGINE": "x"}}
        +ALL = {"default": {"ENGINE": "x", "CONN_MAX_AGE": 280, "CONN_HEALTH_CHECKS": True}}
         DATABASES: dict = ALL
    """,
    "updated later": """
        -DATABASES = {"default": {"NAME": "shop", "CONN_MAX_AGE": 0}}
        +DATABASES = {"default": {"NAME": "shop", "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": True}}
        -DATABASES["default"].update({"CONN_MAX_AGE": 60, "HOST": "db"})
        +DATABASES["default"].update({"CONN_MAX_AGE": 280, "HOST": "db"})
         DATABASES["default"].setdefault("PORT", 3306)
    """,
    "joined later": """
         DATABASES = {"default": {"NAME": "shop"}}
        -DATABASES["default"] |= {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": False}
        +DATABASES["default"] |= {"CONN_MAX_AGE": 280, "CONN_HEALTH_CHECKS": True}
    """,
    "a default later": """
        -DATABASES = {"default": {"NAME": "shop"}}
        +DATABASES = {"default": {"NAME": "shop", "CONN_HEALTH_CHECKS": True}}
        -DATABASES["default"].setdefault("CONN_MAX_AGE", 60)
        +DATABASES["default"].setdefault("CONN_MAX_AGE", 280)
    """,
    "updated in another file": """
         from .base import *
        -DATABASES["default"].update(CONN_MAX_AGE=60, HOST="db")
        +DATABASES["default"].update(CONN_MAX_AGE=280, HOST="db", CONN_HEALTH_CHECKS=True)
    """,
    "extended in another file": """
         from .base import DATABASES
         DATABASES["default"] = {
             **DATABASES["default"],
             "HOST": "db",
        +    "CONN_MAX_AGE": 280,
        +    "CONN_HEALTH_CHECKS": True,
         }
    """,
    "a function gives all of them": """
         def databases():
             return {"default": {"NAME": "shop"}, "other": {"NAME": "x"}}
         DATABASES = databases()
        +DATABASES["default"]["CONN_MAX_AGE"] = 280
        +DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
         DEBUG = False
    """,
    "SQLite for the tests": """
         import sys
        -DATABASES = {"default": {"ENGINE": "django.db.backends.mysql"}}
        +DATABASES = {"default": {"ENGINE": "django.db.backends.mysql", "CONN_MAX_AGE": 280, \
"CONN_HEALTH_CHECKS": True}}
         if "test" in sys.argv:
             DATABASES["default"] = {"ENGINE": "django.db.backends.sqlite3"}
    """,
    "defined in a block, then set": """
         from .base import env
         if env("REPLICA", default=""):
             DATABASES = {"default": {"HOST": "replica"}}
         else:
             DATABASES = {"default": {"HOST": "db"}}
        -DATABASES["default"]["CONN_MAX_AGE"] = None
        +DATABASES["default"]["CONN_MAX_AGE"] = 280
        -DATABASES["default"]["CONN_HEALTH_CHECKS"] = False
        +DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    """,
}

ENGINES = {
    "a literal": """
         DATABASES = {
             'default': {
        -        'ENGINE': 'django.db.backends.mysql',
        +        'ENGINE': 'unhang.backends.mysql',
                 'NAME': "shop",
             }
         }
    """,
    "dj_database_url": """
         import dj_database_url
        -DATABASES = {"default": dj_database_url.config(default="mysql://db/shop")}
        +DATABASES = {"default": dj_database_url.config(default="mysql://db/shop", \
engine="unhang.backends.mysql")}
    """,
    "dj_database_url with an engine": """
         import dj_database_url
        -DATABASES = {"default": dj_database_url.config(engine='mysql.connector.django')}
        +DATABASES = {"default": dj_database_url.config(engine='unhang.backends.mysql')}
    """,
    "environ": """
         import environ
         env = environ.Env()
         DATABASES = {"default": env.db()}
        +DATABASES["default"]["ENGINE"] = "unhang.backends.mysql"
    """,
    "environ with an engine": """
         import environ
         env = environ.Env()
        -DATABASES = {"default": env.db("DATABASE_URL", engine="django.db.backends.mysql")}
        +DATABASES = {"default": env.db("DATABASE_URL", engine="unhang.backends.mysql")}
    """,
    "an assignment": """
         DATABASES = dict(default=dict(NAME="shop"))
        -DATABASES["default"]["ENGINE"] = 'django.db.backends.mysql'
        +DATABASES["default"]["ENGINE"] = 'unhang.backends.mysql'
    """,
}


def before_and_after(marked: str) -> tuple[str, str]:
    lines = dedent(marked).strip("\n").splitlines()
    # The first column is the mark, unless no line is marked.
    texts = [(line[:1], line[1:]) for line in lines]
    before = [text for mark, text in texts if mark != "+"]
    after = [text for mark, text in texts if mark != "-"]
    return "\n".join([*before, ""]), "\n".join([*after, ""])


def named(name: str) -> str:
    return name.replace(" ", "-")


@pytest.mark.parametrize("style", STYLES, ids=named)
def test_a_style_is_edited_as_its_owner_would_and_has_the_effect(style: str) -> None:
    before, after = before_and_after(STYLES[style])
    assert edited(before, "default", VALUES) == after
    check_edit(before, after, "default", VALUES, {"MYSQL", "ALL"})


@pytest.mark.parametrize("style", ENGINES, ids=named)
def test_the_engine_is_changed_where_it_stands(style: str) -> None:
    before, after = before_and_after(ENGINES[style])
    assert edited(before, "default", POOL) == after
    check_edit(before, after, "default", POOL)


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
@pytest.mark.parametrize("style", STYLES, ids=named)
def test_other_line_ends_byte_order_marks_and_a_missing_last_one_stay(
    style: str, newline: str
) -> None:
    before, after = ("\ufeff" + text.strip("\n") for text in before_and_after(STYLES[style]))
    made = edited(before.replace("\n", newline), "default", VALUES)
    assert made == after.replace("\n", newline)


REFUSALS = {
    "settings object": (
        "DATABASES = {'default': config.database.as_dict}",
        "computed there, not a literal dict",
    ),
    "django-configurations": (
        "class Prod(Configuration):\n    DATABASES = {'default': {'NAME': 'x'}}",
        "belongs to a class",
    ),
    "one of two blocks": (
        "if DEBUG:\n    DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3'}}\n"
        "else:\n    DATABASES = {'default': {'NAME': 'x'}}",
        "a block that may or may not run",
    ),
    "a value in a block": (
        "DATABASES = {'default': {'NAME': 'x'}}\n"
        "if PROD:\n    DATABASES['default']['CONN_MAX_AGE'] = 60",
        "a block that may or may not run",
    ),
    "an update in a block": (
        "DATABASES = {'default': {'NAME': 'x'}}\n"
        "try:\n    DATABASES['default'].update(LOCAL)\nexcept NameError:\n    pass",
        "a block that may or may not run",
    ),
    "tenants in a loop": (
        "DATABASES = {}\nfor alias in ('default', 'b'):\n    DATABASES[alias] = {'NAME': alias}",
        "a block that may or may not run",
    ),
    "every alias in a loop": (
        "DATABASES = {'default': {'NAME': 'x'}}\n"
        "for db in DATABASES.values():\n    db['CONN_MAX_AGE'] = 60",
        "used for something else",
    ),
    "a comprehension": ("DATABASES = {a: {'NAME': a} for a in TENANTS}", "computed there"),
    "one dict for two": (
        "DB = {'NAME': 'x'}\nDATABASES = {'default': DB, 'replica': DB}",
        "a variable that other code uses",
    ),
    "a variable that is changed": (
        "DB = {'NAME': 'x'}\nDB['HOST'] = 'h'\nDATABASES = {'default': DB}",
        "a variable that other code uses",
    ),
    "a dict from elsewhere": (
        "from .db import DB\nDATABASES = {'default': DB}",
        "a variable that other code uses",
    ),
    "one call for two": (
        "DATABASES = {'default': get_db(), 'replica': get_db()}",
        "the same call gives another dict",
    ),
    "one dict under two names": (
        "DATABASES = {'default': {'NAME': 'x'}}\nDATABASES['replica'] = DATABASES['default']",
        "used for something else",
    ),
    "a copy for the replica": (
        "DATABASES = {'default': {'NAME': 'x'}}\n"
        "DATABASES['replica'] = {**DATABASES['default'], 'HOST': 'r'}",
        "used for something else",
    ),
    "handed to a function": (
        "DATABASES = {'default': {'NAME': 'x'}}\nconfigure(DATABASES)",
        "used for something else",
    ),
    "a function changes it": (
        "DATABASES = {'default': {'NAME': 'x'}}\ndef f():\n    DATABASES['default'] = {}\nf()",
        "a function of the file uses DATABASES",
    ),
    "a later ** in the dict": (
        "DATABASES = {'default': {'CONN_MAX_AGE': 60, **EXTRA}}",
        r"follows with \*\*",
    ),
    "a later ** in DATABASES": ("DATABASES = {'default': {'NAME': 1}, **EXTRA}", "computed there"),
    "** in dict()": ("DATABASES = {'default': dict(**BASE)}", r"passed on with \*\*"),
    "** in the URL's call": (
        "import dj_database_url\nDATABASES = {'default': dj_database_url.config(**OPTIONS)}",
        "passed on to dj_database_url",
    ),
    "a computed update": (
        "DATABASES = {'default': {'NAME': 'x'}}\nDATABASES['default'].update(LOCAL)",
        "updated with something computed",
    ),
    "all updated": (
        "DATABASES = {'default': {'NAME': 'x'}}\nDATABASES.update(LOCAL)",
        "DATABASES is updated with something computed",
    ),
    "a default that may not count": (
        "DATABASES = {'default': env.db()}\nDATABASES['default'].setdefault('CONN_MAX_AGE', 60)",
        "a default that may or may not count",
    ),
    "a default beside a union": (
        "DATABASES = {'default': BASE | {'NAME': 'x'}}\n"
        "DATABASES['default'].setdefault('CONN_MAX_AGE', 60)",
        "a default that may or may not count",
    ),
    "an update with a union": (
        "DATABASES = {'default': {'NAME': 'x'}}\nDATABASES['default'] |= LOCAL | {'HOST': 'h'}",
        "updated with something computed",
    ),
    "a union of all": ("DATABASES = BASE | {'other': {'NAME': 'x'}}", "computed there"),
    "deleted": (
        "DATABASES = {'default': {'CONN_MAX_AGE': 6}}\nDATABASES['default'].pop('CONN_MAX_AGE')",
        "not certain",
    ),
    "added to": (
        "DATABASES = {'default': {'CONN_MAX_AGE': 6}}\nDATABASES['default']['CONN_MAX_AGE'] += 1",
        "not certain",
    ),
    "read again": (
        "DATABASES = {'default': {'CONN_MAX_AGE': 6}}\nAGE = DATABASES['default']['CONN_MAX_AGE']",
        "not certain",
    ),
    "assigned to two": (
        "DATABASES = {}\nDATABASES['default'] = DATABASES['replica'] = {'NAME': 'x'}",
        "not certain",
    ),
    "a key in a variable": (
        "DATABASES = {'default': {'NAME': 'x'}}\nDATABASES[REPLICA] = {}",
        "a key that is not written out",
    ),
    "an argument of some call": (
        "DATABASES = {'default': get_db(conn_max_age=60)}",
        "an argument of the call may set it",
    ),
    "a variable's number": (
        "AGE = 60\nDATABASES = {'default': {'CONN_MAX_AGE': AGE}}",
        "CONN_MAX_AGE is computed",
    ),
    "a comment inside": (
        "DATABASES = {'default': {'CONN_MAX_AGE': (60 *  # minutes\n 10)}}",
        "a comment stands inside",
    ),
}


@pytest.mark.parametrize("case", REFUSALS, ids=named)
def test_what_the_text_does_not_tell_is_refused_with_its_reason(case: str) -> None:
    source, reason = REFUSALS[case]
    with pytest.raises(CannotEditError, match=reason) as refused:
        edits(source, "default", VALUES)
    assert not refused.value.absent
    assert not refused.value.environment


@pytest.mark.parametrize(
    "engine",
    ["f'django.db.backends.{KIND}'", "env('DB')", "'a' if X else 'b'", "ENGINE", "'a' + 'b'"],
)
def test_a_computed_engine_is_refused(engine: str) -> None:
    with pytest.raises(CannotEditError, match="ENGINE"):
        edits(f"DATABASES = {{'default': {{'ENGINE': {engine}}}}}", "default", POOL)


@pytest.mark.parametrize(
    ("value", "environment"),
    [
        ("env.int('CONN_MAX_AGE', default=60)", {"CONN_MAX_AGE": "280"}),
        ("env('DB_AGE', cast=int)", {"DB_AGE": "280"}),
        ("int(os.environ.get('DB_CONN_MAX_AGE', 0))", {"DB_CONN_MAX_AGE": "280"}),
        ("int(os.environ['AGE'])", {"AGE": "280"}),
        ("int(os.getenv('AGE') or 60)", {"AGE": "280"}),
        ("config('CONN_MAX_AGE', default=0, cast=int)", {"CONN_MAX_AGE": "280"}),
        ("os.environ.get('AGE', 60)", {}),  # would be text
        ("config('AGE')", {}),
        ("env.int(name)", {}),
        ("env.int('a b')", {}),
        ("60 if DEBUG else 600", {}),
    ],
)
def test_a_value_from_the_environment_is_named_with_its_variable(
    value: str, environment: dict[str, str]
) -> None:
    for source in (
        f"DATABASES = {{'default': {{'CONN_MAX_AGE': {value}, 'PASSWORD': 'hunter2'}}}}",
        f"DATABASES = get()\nDATABASES['default']['CONN_MAX_AGE'] = {value}",
        f"import dj_database_url as d\nDATABASES = {{'default': d.config(conn_max_age={value})}}",
        f"AGE = {value}\nDATABASES = {{'default': {{'CONN_MAX_AGE': AGE}}}}",
    ):
        with pytest.raises(CannotEditError) as refused:
            edits(source, "default", VALUES)
        assert refused.value.environment == environment
        for name, text in environment.items():
            assert f"CONN_MAX_AGE comes from the environment: set {name}={text}" in str(
                refused.value
            )


@pytest.mark.parametrize(
    ("value", "wanted", "environment"),
    [
        ("env.bool('CHECKS', default=False)", True, {"CHECKS": "True"}),
        ("env.bool('CHECKS')", False, {"CHECKS": "False"}),
        ("os.environ.get('CHECKS') == '1'", True, {"CHECKS": "1"}),
        ("os.environ.get('CHECKS') == '1'", False, {"CHECKS": "False"}),
        ("os.environ.get('CHECKS') == 'False'", False, {}),
        ("bool(os.environ.get('CHECKS'))", False, {}),
        ("env.int('CHECKS')", True, {}),
    ],
)
def test_a_flag_from_the_environment_is_named_as_its_reader_takes_it(
    value: str, wanted: bool, environment: dict[str, str]
) -> None:
    with pytest.raises(CannotEditError) as refused:
        source = f"DATABASES = {{'default': {{'CONN_HEALTH_CHECKS': {value}}}}}"
        edits(source, "default", {"CONN_HEALTH_CHECKS": wanted})
    assert refused.value.environment == environment


@pytest.mark.parametrize(
    "source",
    [
        "from .base import *",
        "from .base import *\nDATABASES['default']['HOST'] = 'db'",
        "from .base import DATABASES as BASE",
        "DATABASES = {'other': {'NAME': 'x'}}",
        "X = settings.DATABASES\nf(DATABASES=1)",
    ],
)
def test_a_file_that_does_not_define_the_alias_says_that_another_may(source: str) -> None:
    with pytest.raises(CannotEditError) as refused:
        edits(source, "default", VALUES)
    assert refused.value.absent


@pytest.mark.parametrize(
    "source",
    [
        "DATABASES = {'default': env.db(), 'replica': env.db('REPLICA_URL')}\nX = 1\n",
        "DATABASES = get()",
        "DATABASES = {'default': {'NAME': 'x'}, 'replica': {'CONN_MAX_AGE': 5}}\n",
        "DATABASES = {\n 'default': {\n  'NAME': 'x'},\n 'replica': {\n  'NAME': 'y'}}\n",
        "import dj_database_url as d\nDATABASES = {'default': d.config(), 'replica': d.config()}",
    ],
)
def test_edits_of_two_aliases_fit_together(source: str) -> None:
    source = "from .base import env, get\n" + source
    apart = edits(source, "default", VALUES), edits(source, "replica", VALUES)
    both = _patched(source, [*apart[0], *apart[1]])
    check_edit(edited(source, "replica", VALUES), both, "default", VALUES)
    check_edit(edited(source, "default", VALUES), both, "replica", VALUES)
    again = edited(edited(source, "default", VALUES), "replica", VALUES)
    assert sorted(again.splitlines()) == sorted(both.splitlines())


@pytest.mark.parametrize("style", {**STYLES, **ENGINES}, ids=named)
def test_no_secret_of_the_file_gets_into_an_edit(style: str) -> None:
    values = VALUES if style in STYLES else POOL
    before, _after = before_and_after({**STYLES, **ENGINES}[style])
    made = edits(before, "default", values)
    assert "hunter2" not in repr(made)
    for line in (line for edit in made for line in (*edit.shown_before, *edit.shown_after)):
        assert "\n" not in line
        assert any(name in line.upper() for name in values)


def test_the_way_back_gives_the_old_bytes() -> None:
    for marked in STYLES.values():
        before, _after = before_and_after(marked)
        patch = Patch.of(before, [edit.hunk for edit in edits(before, "default", VALUES)])
        assert patch.inverse().applied_to(patch.applied_to(before)) == before


def _patched(source: str, made: list[Edit]) -> str:
    return Patch.of(source, [edit.hunk for edit in made]).applied_to(source)
