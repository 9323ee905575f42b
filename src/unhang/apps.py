"""The Django app: put "unhang" into INSTALLED_APPS."""

from __future__ import annotations

import importlib.util

from django.apps import AppConfig


class UnhangConfig(AppConfig):
    name = "unhang"
    verbose_name = "unhang"

    def ready(self) -> None:
        from unhang import checks, metrics  # noqa: F401 - importing checks registers them

        if importlib.util.find_spec("prometheus_client") is not None:
            metrics.register()
