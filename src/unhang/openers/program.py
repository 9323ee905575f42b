"""What runs in a process, told in a few words and without secrets; and in which container."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Final

_LONGEST: Final = 60
_PYTHON: Final = re.compile(r"(python|pypy)[\d.]*t?")
# Told by the module they run: `gunicorn shop.wsgi`, not with all their options.
_SERVERS: Final = ("gunicorn", "uvicorn", "hypercorn", "daphne", "granian", "waitress-serve")
_CELERY_WORDS: Final = ("worker", "beat", "flower", "events", "shell", "multi")
# What may follow a word of a command line without being a secret: names, dotted and with a colon.
_NAME: Final = re.compile(r"[A-Za-z_][\w.:-]*")
_MANAGE: Final = re.compile(r"manage\w*\.py|django-admin(\.py)?")

_CONTAINER: Final = re.compile(
    r"(?:docker|libpod|cri-containerd|crio|containerd)[-/](?:conmon-)?(?P<id>[0-9a-f]{12,64})"
    r"|kubepods[^\n]*/(?:[a-z-]+-)?(?P<pod>[0-9a-f]{32,64})"
    r"|/lxc(?:\.payload)?[./](?P<lxc>[\w-]+)"
)
_UNIT: Final = re.compile(r"/((?!user@)[\w.@:\\-]+\.service)")


def program_of(arguments: Sequence[str]) -> str:
    """A command line as people say it: `gunicorn shop.wsgi`, `python manage.py close_day`.

    Nothing with a value is told (`--password=…`, a DSN, the text after `python -c`): it may be a
    secret.
    """
    words = _without_interpreter([word for word in arguments if word])
    if not words:
        return ""
    name = _title(words[0])
    if name.startswith("python"):
        return " ".join([name, *words[1:]])[:_LONGEST]
    if name == "celery":
        told = ["celery", *_celery(words[1:])]
    elif name in _SERVERS:
        told = [name, *_application(words[1:])]
    elif _MANAGE.fullmatch(name):
        told = ["python", name] if name.endswith(".py") else [name]
        command = command_in(words)
        told += [command] if _NAME.fullmatch(command) else []
    elif name.endswith(".py"):
        told = ["python", name]
    else:
        told = [name]
    return " ".join(told)[:_LONGEST]


def command_in(arguments: Sequence[str]) -> str:
    """The management command: the first word that is neither an option nor an option's value."""
    words = iter(arguments[1:])
    for word in words:
        if word in ("--settings", "--pythonpath"):
            next(words, "")
        elif not word.startswith("-"):
            return word
    return ""


def management_command(arguments: Sequence[str]) -> str:
    """The same, but only where it is `manage.py` or `django-admin` that runs."""
    script = PurePath(arguments[0]) if arguments else PurePath()
    is_manage = _MANAGE.fullmatch(script.name) or script.parts[-2:] == ("django", "__main__.py")
    return command_in(arguments) if is_manage else ""


def container_in(cgroup: str) -> str:
    """What contains a process, by its `/proc/PID/cgroup`: twelve digits of a container's id, the
    name of an LXC container, or the systemd unit; empty if none."""
    if found := _CONTAINER.search(cgroup):
        return found["lxc"] or (found["id"] or found["pod"])[:12]
    units = _UNIT.findall(cgroup)
    return units[-1] if units else ""


def _without_interpreter(words: list[str]) -> list[str]:
    """From the script on; `python -c` and `python` alone stay as they are, without the text."""
    if not words or not _PYTHON.fullmatch(PurePath(words[0]).name):
        return words
    rest = iter(words[1:])
    for word in rest:
        if word == "-m":
            module = next(rest, "")
            # Django's own manage: `python -m django migrate`.
            return ["django-admin" if module == "django" else module, *rest]
        if word.startswith("-c"):
            return ["python", "-c …"]
        if word in ("-W", "-X"):
            next(rest, "")
        elif not word.startswith("-"):
            return [word, *rest]
    return ["python"]


def _title(word: str) -> str:
    """The program's name, also where it renamed itself: `gunicorn: worker [shop]`."""
    name = PurePath(word.split(": ", 1)[0].split(" ", 1)[0]).name.rstrip(":")
    # `python -m celery` runs celery/__main__.py; its command line says so once it has started.
    if name == "__main__.py":
        return PurePath(word).parent.name
    return name.lstrip("[").rstrip("]") if name.startswith("[") else name


def _application(words: Sequence[str]) -> Iterator[str]:
    """`shop.wsgi` of `shop.wsgi:application`."""
    for before, word in zip(("", *words), words, strict=False):
        if before.startswith("-") and "=" not in before:
            continue  # perhaps that option's value
        if _NAME.fullmatch(word) and ("." in word or ":" in word):
            yield word.partition(":")[0]
            return


def _celery(words: Sequence[str]) -> Iterator[str]:
    for before, word in zip(("", *words), words, strict=False):
        if before in ("-A", "--app") and _NAME.fullmatch(word):
            yield f"-A {word}"
        elif word.startswith("--app=") and _NAME.fullmatch(word[6:]):
            yield f"-A {word[6:]}"
        elif word in _CELERY_WORDS:
            yield word
            return
