"""Where the counters of an application are kept: one rule for those who write and who read."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def project_dir(settings_module: str, settings_file: str | Path) -> Path:
    """The folder from which `settings_module` is imported, usually the one with `manage.py`.

    Args:
        settings_module: Dotted name, such as `config.settings.production`.
        settings_file: Where that module is, such as `/srv/shop/config/settings/production.py`.
    """
    path = Path(settings_file).resolve()
    steps = settings_module.count(".") + (path.name == "__init__.py")
    return path.parents[steps]


def default_run_dir(project_dir: str | Path, settings_module: str) -> Path:
    """Where the counters are kept when `UNHANG["RUN_DIR"]` is not set.

    Application and command compute the same path as long as they share the system's temporary
    folder; a service with its own one (systemd's `PrivateTmp`) needs the setting.
    """
    key = f"{settings_module}{Path(project_dir).resolve()}"
    return Path(tempfile.gettempdir()) / f"unhang-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def run_dir_from(
    options: Mapping[str, Any], *, project_dir: str | Path, settings_module: str
) -> Path:
    """The run directory under these `UNHANG` settings: `RUN_DIR`, else the default.

    Raises:
        TypeError: `RUN_DIR` is neither a string nor a path.
    """
    configured = options.get("RUN_DIR")
    return Path(configured) if configured else default_run_dir(project_dir, settings_module)
