"""`manage.py unhang …`: the command's verbs, for the project of this manage.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandParser

from unhang.cli.main import run

# Started by these, sys.argv[0] says nothing of the project.
_NOT_MANAGE: Final = frozenset({"django-admin", "__main__.py"})


class Command(BaseCommand):
    help = "Show why MySQL sessions sleep, fix it safely, keep it fixed: manage.py unhang --help."
    # The command must work when a system check would fail, above all one about the database.
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        program = Path(argv[0])
        known = program.is_file() and program.name not in _NOT_MANAGE
        # Python puts the folder that a linked manage.py leads to on sys.path.
        run(argv[2:], directory=program.resolve().parent if known else None)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("arguments", nargs="*")

    def handle(self, *_args: Any, arguments: list[str], **_options: Any) -> None:
        run(arguments)
