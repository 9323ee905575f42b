"""The Django app: put "unhang" into INSTALLED_APPS."""

from __future__ import annotations

import contextlib
import importlib.util

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured


class UnhangConfig(AppConfig):
    name = "unhang"
    verbose_name = "unhang"

    def ready(self) -> None:
        from unhang import checks, metrics  # noqa: F401 - importing checks registers them

        self._name_lanes()
        if importlib.util.find_spec("prometheus_client") is not None:
            metrics.register()

    def _name_lanes(self) -> None:
        """Lanes of tasks and commands. A mistake in them is told by the check, unhang.E005."""
        from unhang.backends.mysql.laning import named_lanes
        from unhang.lanes import at_start

        with contextlib.suppress(ImproperlyConfigured):
            if lanes := named_lanes():
                at_start.begin(lanes)
