"""Runs the measurements: `python benchmarks/run.py [NAME …]`; all of them without a name.

Each compares side by side in one run: ratios, counts and CPU time.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NAMES = (
    "middleware",
    "owners",
    "lending",
    "lanes",
    "backend",
    "hang",
    "fleet",
    "fleet_real",
    "reap",
    "sessions",
)


def main() -> int:
    wanted = sys.argv[1:] or list(NAMES)
    unknown = sorted(set(wanted) - set(NAMES))
    if unknown:
        print(f"there is no benchmark {', '.join(unknown)}; known are {', '.join(NAMES)}")
        return 2
    here = Path(__file__).parent
    # A process each: what one imports must not slow the next.
    return max(
        subprocess.run([sys.executable, str(here / f"{name}.py")], check=False).returncode
        for name in wanted
    )


if __name__ == "__main__":
    raise SystemExit(main())
