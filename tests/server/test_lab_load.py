"""A load against a real site: every request is accounted for, whatever becomes of it."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep

from unhang.lab.arrivals import Arrival
from unhang.lab.load import Answer, run_load


class Moody(BaseHTTPRequestHandler):
    """Answers by its path: a status, or not within the visitor's patience."""

    def do_GET(self) -> None:
        if self.path == "/slow":
            sleep(3)
        self.send_response(int(self.path[1:]) if self.path[1:].isdigit() else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


def test_answers_failures_and_timeouts_are_told_apart() -> None:
    seen: list[Answer] = []
    arrivals = [
        Arrival(0.0, "good", "/200"),
        Arrival(0.1, "broken", "/500"),
        Arrival(0.2, "slow", "/slow"),
        Arrival(0.3, "good", "/204"),
    ]
    with ThreadingHTTPServer(("127.0.0.1", 0), Moody) as site:
        site.daemon_threads = True
        Thread(target=site.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{site.server_address[1]}"
        answers = run_load(url, arrivals, timeout=1.0, on_answer=seen.append)
        site.shutdown()
    assert seen == answers
    by_name = {a.name: a for a in answers}
    assert [a.status for a in answers if a.name == "good"] == [200, 204]
    assert (by_name["broken"].status, by_name["broken"].ok) == (500, False)
    assert (by_name["slow"].status, by_name["slow"].ok) == (0, False)
    assert by_name["slow"].error
    assert by_name["slow"].seconds >= 1.0


def test_a_site_that_is_not_there_fails_every_request_and_loses_none() -> None:
    arrivals = [Arrival(n / 20, "good", "/200") for n in range(20)]
    answers = run_load("http://127.0.0.1:1", arrivals, timeout=1.0)
    assert len(answers) == 20
    assert not any(answer.ok for answer in answers)
