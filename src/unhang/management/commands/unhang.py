"""`manage.py unhang …`: the command's verbs, for the project of this manage.py."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from unhang.cli.main import run


class Command(BaseCommand):
    help = "Show why MySQL sessions sleep, fix it safely, keep it fixed: manage.py unhang --help."
    # The command must work when a system check would fail, above all one about the database.
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        run(argv[2:])

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("arguments", nargs="*")

    def handle(self, *_args: Any, arguments: list[str], **_options: Any) -> None:
        run(arguments)
