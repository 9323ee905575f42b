"""The Django app: put "unhang" into INSTALLED_APPS."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Mapping

from django.apps import AppConfig
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


class UnhangConfig(AppConfig):
    name = "unhang"
    verbose_name = "unhang"

    def ready(self) -> None:
        from unhang import checks, metrics  # noqa: F401 - importing checks registers them

        self._name_lanes()
        self._write_down_owners()
        if importlib.util.find_spec("prometheus_client") is not None:
            metrics.register()

    def _name_lanes(self) -> None:
        """Lanes of tasks and commands. A mistake in them is told by the check, unhang.E005."""
        from unhang.backends.mysql.laning import named_lanes
        from unhang.lanes import at_start

        with contextlib.suppress(ImproperlyConfigured):
            if lanes := named_lanes():
                at_start.begin(lanes)

    def _write_down_owners(self) -> None:
        """Who opens which connection. A mistake in the settings is told by unhang.E006."""
        from unhang.middleware.times import project_folder, run_dir
        from unhang.openers import signals

        options = getattr(settings, "UNHANG", {})
        if isinstance(options, Mapping) and options.get("OWNERS", True) is not True:
            return
        with contextlib.suppress(ImproperlyConfigured):
            signals.connect(run_dir(), project_folder())
