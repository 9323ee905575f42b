"""Run Django's own test suite against unhang's backend and the stock one, and compare.

    .venv/bin/python scripts/django_suite.py basic transactions --backend stock transaction

The exit code is 1 if a test ends otherwise than with the stock backend and is not listed in
django_suite_exceptions.txt, or if one that is listed passes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import django
from django_suite import outcomes, report, source, time_zones
from django_suite.run import BACKENDS, Suite

from unhang import lab
from unhang.errors import UsageProblem

_ROOT: Final = Path(__file__).resolve().parents[1]
_EXCEPTIONS: Final = Path(__file__).resolve().with_name("django_suite_exceptions.txt")
_LABELS: Final = """
    backends transactions transaction_hooks basic queries db_utils select_for_update servers
    requests_tests handlers async test_runner migrations bulk_create delete delete_regress
    multiple_database asgi wsgi test_client raw_query get_or_create schema introspection inspectdb
    fixtures fixtures_regress test_utils aggregation expressions model_fields dbshell signals
"""
_MINUTES: Final = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(arguments)
    listed = outcomes.parse_exceptions(_EXCEPTIONS.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="django-suite-") as temporary:
        runs = _runs(options, options.keep_logs or Path(temporary))
    found = list(outcomes.differences(runs))
    passing = outcomes.now_passing(listed, runs)
    _say(f"\n{report.table(runs)}\n")
    for line in report.verdict(runs, found, listed, passing):
        _say(line)
    unlisted = any(not (one.is_better or one.test in listed) for one in found)
    return int(bool(unlisted or passing or any(run.trouble for run in runs)))


def _runs(options: argparse.Namespace, logs: Path) -> list[outcomes.Run]:
    version = django.get_version()
    suite = Suite(
        tests=source.tests_of(version, _ROOT / ".cache"),
        version=version,
        labels=options.labels or _LABELS.split(),
        driver=options.driver,
        parallel=options.parallel,
        logs=logs.resolve(),
        limit=options.minutes * 60,
    )
    runs = []
    with lab.server(options.engine, character_set_server="utf8mb4") as server:
        zones = time_zones.load(server)
        _say(f"Django {version}, {options.engine}, {options.driver}, {zones} time zones")
        for name in options.backend:
            _say(f"{name}: running")
            runs.append(suite.run(BACKENDS[name], server))
            _say(f"{name}: {runs[-1].ran} tests in {runs[-1].seconds:.0f} s")
    return runs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Run Django's own test suite against unhang's backend and the stock one.",
        epilog=f"Without labels: {' '.join(_LABELS.split())}.",
    )
    parser.add_argument("labels", nargs="*", help="parts of Django's suite, such as transactions")
    parser.add_argument(
        "--backend",
        nargs="+",
        choices=BACKENDS,
        default=list(BACKENDS),
        help="stock is Django's own; transaction and request are unhang's, by lease; all three",
    )
    parser.add_argument(
        "--engine", default="mariadb", help="mariadb, mariadb118, mysql97 (mariadb)"
    )
    parser.add_argument("--driver", choices=["mysqlclient", "pymysql"], default="mysqlclient")
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="processes (1)")
    parser.add_argument(
        "--minutes",
        type=float,
        default=_MINUTES,
        help=f"at most, for each backend ({_MINUTES:.0f})",
    )
    parser.add_argument(
        "--keep-logs", type=Path, metavar="DIR", help="keep output, settings and outcomes there"
    )
    return parser


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UsageProblem as problem:
        sys.exit(str(problem))
