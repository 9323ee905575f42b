"""The Django app: put "unhang" into INSTALLED_APPS."""

from __future__ import annotations

from django.apps import AppConfig


class UnhangConfig(AppConfig):
    name = "unhang"
    verbose_name = "unhang"

    def ready(self) -> None:
        from unhang import checks  # noqa: F401 - importing registers the checks
