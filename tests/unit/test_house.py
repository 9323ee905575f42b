"""The runtime wing brings Django and a driver into the application's process, nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"typer", "rich", "psutil", "libcst", "prometheus_client", "locust", "pydantic"}


@pytest.mark.parametrize(
    "module",
    [
        "unhang.middleware",
        "unhang.checks",
        "unhang.apps",
        "unhang.metrics",
        "unhang.openers",
        "unhang.openers.signals",
        "unhang.pool",
        "unhang.backends.mysql.base",
    ],
)
def test_what_the_application_imports_is_light(module: str) -> None:
    program = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert module in loaded
    assert not loaded & HEAVY
    tool_wing = ("survey", "rules", "change", "monitor", "lab", "cli", "web")
    assert not [name for name in loaded if name.startswith(tuple(f"unhang.{r}" for r in tool_wing))]
