"""Every end of the command: a sentence and an exit code, never a traceback."""

from __future__ import annotations

import errno
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pymysql
import pytest

from support.projects import run_unhang
from unhang.cli import main
from unhang.errors import UnhangError


def run_failing(error: Exception, monkeypatch: pytest.MonkeyPatch) -> int:
    def fail(**_given: object) -> None:
        raise error

    monkeypatch.setattr(main, "app", fail)
    monkeypatch.setattr(main, "_add_verbs", lambda _arguments: None)
    monkeypatch.setattr(main, "use_language", lambda _language: None)
    # A typer app is called with args=…, so is this.
    with pytest.raises(SystemExit) as ended:
        main.run(["diagnose"])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_an_error_of_the_server_that_no_verb_expected_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = pymysql.err.OperationalError(1226, "User 'q' has exceeded 'max_questions'")
    assert run_failing(error, monkeypatch) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "The server answers with error 1226: User 'q' has exceeded" in said


def test_an_error_of_the_system_names_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_failing(OSError(errno.ENOSPC, "No space left", "/p/x.json"), monkeypatch) == 2
    assert "/p/x.json: No space left." in capsys.readouterr().err


def test_an_error_of_ours_has_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(UnhangError):
        exit_code = 7

    assert run_failing(Odd("x"), monkeypatch) == 7


def test_a_defect_still_shows_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        run_failing(ZeroDivisionError(), monkeypatch)


@pytest.mark.parametrize(
    "text",
    [
        '{"surveys": ["x"]}',
        '{"surveys": [{"schema": 1, "server": "x"}]}',
        '{"surveys": 5}',
        "[]",
        "not JSON",
        '{"surveys": [{"schema": 9}]}',
    ],
)
def test_what_is_no_saved_diagnosis_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    ran = run_unhang("diagnose", "--from", "s.json", cwd=tmp_path)
    assert ran.code == 2
    assert "is not a saved diagnosis" in ran.text


_ASK = """
import os, signal
os.open(os.ttyname(0), os.O_RDWR)  # makes it the terminal of this session: Ctrl-C arrives
signal.signal(signal.SIGINT, signal.default_int_handler)
from unhang.cli import main, output
def ask() -> None:
    "Ask."
    print("answer", output.confirm("Go on?"), flush=True)
main._add_verbs = lambda _arguments: main.app.command("ask")(ask)
main.run(["ask"])
"""


def answer_on_a_terminal(answer: bytes) -> tuple[int, str]:
    """What a person's keys lead to: the exit code and the screen."""
    terminal, inside = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", _ASK],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    ) as process:
        os.close(inside)
        screen, quiet, deadline = b"", 0.5, time.monotonic() + 60
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], quiet)[0]:
                try:
                    screen += os.read(terminal, 4096)
                except OSError:  # Linux: the other side is closed
                    break
            elif b"Go on?" in screen:
                # Not before the prompt has stood for a moment: Python reads after it prints, and
                # a Ctrl-C in between waits for the next key.
                os.write(terminal, answer)
                quiet = 10
        process.kill()
    os.close(terminal)
    return process.returncode, screen.decode()


@pytest.mark.parametrize(
    ("keys", "code", "said"),
    [
        (b"yes\n", 0, "answer True"),
        (b"y\n", 0, "answer False"),
        (b"\x04", 0, "answer False"),  # Ctrl-D
        (b"\x03", 130, "Go on?"),  # Ctrl-C
    ],
)
def test_a_question_ends_as_the_keys_say(keys: bytes, code: int, said: str) -> None:
    ended, screen = answer_on_a_terminal(keys)
    assert ended == code
    assert said in screen
