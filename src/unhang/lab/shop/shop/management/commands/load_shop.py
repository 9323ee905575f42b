"""`manage.py load_shop`: make the tables and fill them, in one process."""

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand

from ...seed import fill


class Command(BaseCommand):
    help = "Make the shop's tables and fill them, unless they are there."

    def handle(self, *_args: Any, **_options: Any) -> None:
        call_command("migrate", verbosity=0, interactive=False, skip_checks=True)
        fill()
