"""For all tests."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest

pytest_plugins = ["support.engines"]

_OURS = "UNHANG_LANES_DIR" not in os.environ
if _OURS:  # workers of pytest-xdist inherit it
    os.environ["UNHANG_LANES_DIR"] = tempfile.mkdtemp(prefix="unhang-lanes-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Tables of the lanes outlive processes on purpose; these must not."""
    if _OURS:
        shutil.rmtree(os.environ["UNHANG_LANES_DIR"], ignore_errors=True)
