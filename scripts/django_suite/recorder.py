"""The test runner that Django's suite uses here: it writes down each test's outcome as it comes.

It runs inside the suite. With --parallel the outcomes of all workers pass through this result, in
the first process.
"""

# ruff: noqa: N802 - these are unittest's names

from __future__ import annotations

import json
import os
import unittest
from pathlib import Path
from typing import Any, TextIO

from django.test.runner import DiscoverRunner

from django_suite.outcomes import FILE_VARIABLE

# Taken away, so that the programs which tests start do not write into the same file.
_path = os.environ.pop(FILE_VARIABLE, None)


class RecordingResult(unittest.TextTestResult):
    """Writes a line of JSON for each event of a test."""

    _file: TextIO | None = None

    def startTestRun(self) -> None:
        global _path
        super().startTestRun()
        if _path is not None:
            # Tests of the test runner run tests of their own: only the first result records.
            file = Path(_path).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115 - see stopTestRun
            self._file = file
            _path = None

    def stopTestRun(self) -> None:
        super().stopTestRun()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _record(self, test: Any, outcome: str, error: Any = None) -> None:
        if self._file is not None:
            line = {"test": test.id(), "outcome": outcome, "error": self._text_of(error, test)}
            self._file.write(json.dumps(line) + "\n")

    def _text_of(self, error: Any, test: Any) -> str:
        if error is None:
            return ""
        return str(self._exc_info_to_string(error, test))  # type: ignore[attr-defined]  # not in the stubs

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self._record(test, "started")

    def addSuccess(self, test: Any) -> None:
        super().addSuccess(test)
        self._record(test, "ok")

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self._record(test, "failed", err)

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self._record(test, "error", err)

    def addSkip(self, test: Any, reason: str) -> None:
        super().addSkip(test, reason)
        self._record(getattr(test, "test_case", test), "skipped")

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self._record(test, "expected failure")

    def addUnexpectedSuccess(self, test: Any) -> None:
        super().addUnexpectedSuccess(test)
        self._record(test, "unexpected success")

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            is_failure = issubclass(err[0], test.failureException)
            self._record(test, "failed" if is_failure else "error", err)


class Runner(DiscoverRunner):
    """Django's runner with a result that records."""

    def get_resultclass(self) -> type[unittest.TextTestResult]:
        return RecordingResult
