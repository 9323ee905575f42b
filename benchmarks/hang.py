"""Do a few slow queries stop the fast ones?

A site under gunicorn or uvicorn, a server with 40 connections, 60 fast requests a second that come
when they are due, a page that leaks threads, and clients that keep up to 60 slow queries in flight.
Compared: Django's own backend, django-db-connection-pool, unhang, and as the limit the same machine
with 400 connections. Contenders take turns in each round, so that a machine that gets slower does
so for all.

    make bench ARGS=hang
    .venv/bin/python benchmarks/hang.py --scenario A,D --contender unhang,limit --quick

A trial takes about 45 s (`--quick`: 30 s), with sync workers up to 90 s; all of them take more than
half an hour. Ends with 1 when unhang misses a target.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from hang import page
from hang.load import Phases
from hang.measure import IN_TIME_SECONDS, LATE_CLIENT_SECONDS, Summary, against
from hang.scenarios import LIMIT, OWN, SCENARIOS, Contender, Scenario, contenders
from hang.trial import Trial, run
from hang.verdict import verdicts
from tables import console, show

QUICK = Phases(slow=10.0)

T = TypeVar("T")


def main() -> int:
    """Run all trials, print the tables, write the page."""
    options = _options()
    phases = QUICK if options.quick else Phases()
    results = []
    for scenario in options.scenario:
        console.rule(scenario.title)
        trials = list(_trials(scenario, options.contender, options.rounds, phases))
        results.append([Summary.of(list(own)) for own in _by_contender(trials)])
        _show(results[-1])
        # After each scenario: what was measured is not lost when the next one is cut short.
        options.html.write_text(page.render(results), encoding="utf-8")
    console.print(f"the charts: {options.html}")
    return 1 if _missed(results) else 0


def _options() -> argparse.Namespace:
    known = contenders()
    parser = argparse.ArgumentParser(description="Do a few slow queries stop the fast ones?")
    parser.add_argument("--scenario", type=_picker(SCENARIOS), default=list(SCENARIOS.values()))
    parser.add_argument("--contender", type=_picker(known), default=list(known.values()))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK.slow:.0f} s of slow queries")
    parser.add_argument("--html", type=Path, default=Path("hang.html"))
    return parser.parse_args()


def _picker(known: Mapping[str, T]) -> Callable[[str], list[T]]:
    """Names with commas between them; a name may hold one itself, as `unhang, no lane` does."""

    def pick(text: str) -> list[T]:
        found = []
        while text:
            fitting = [n for n in known if text == n or text.startswith(f"{n},")]
            if not fitting:
                names = "; ".join(known)
                raise argparse.ArgumentTypeError(f"{text!r} is not among: {names}")
            name = max(fitting, key=len)
            found.append(known[name])
            text = text[len(name) + 1 :].strip()
        return found

    return pick


def _trials(
    scenario: Scenario, among: Sequence[Contender], rounds: int, phases: Phases
) -> Iterable[Trial]:
    for number in range(rounds):
        # Another one first in each round.
        first = number % len(among)
        for contender in [*among[first:], *among[:first]]:
            began = time.monotonic()
            yield run(scenario, contender, number, phases)
            console.print(f"  {contender.name}: {time.monotonic() - began:.0f} s", style="dim")


def _by_contender(trials: Sequence[Trial]) -> Iterable[Iterable[Trial]]:
    for contender in dict.fromkeys(trial.contender.name for trial in trials):
        yield (trial for trial in trials if trial.contender.name == contender)


def _named(summaries: Sequence[Summary], name: str) -> Summary | None:
    return next((s for s in summaries if s.contender.name == name), None)


def _show(summaries: Sequence[Summary]) -> None:
    limit = _named(summaries, LIMIT)
    milliseconds = f"{1000 * IN_TIME_SECONDS:.0f} ms"
    rows = {
        s.contender.name: {
            f"within {milliseconds}": f"{s.in_time:.2%}",
            "p50": f"{1000 * s.p50:.0f} ms",
            "p99": f"{1000 * s.p99:.0f} ms",
            "of limit": f"{against(s, limit):.2f} ×" if limit else "–",
            "recovery": s.recovery_text,
        }
        for s in summaries
    }
    title = f"{summaries[0].scenario.title}: {summaries[0].fast} fast requests each"
    show(title, rows, {s.contender.name: s.in_time for s in summaries})
    rows = {
        s.contender.name: {
            "served": str(s.slow.served),
            "per s": f"{s.slow.per_second:.1f}",
            "503": str(s.slow.refused),
            "in ≤": f"{s.slow.longest_refusal:.1f} s" if s.slow.longest_refusal else "–",
            "lost": str(s.slow.bad),
            "peak": str(s.peak_sessions),
            "crowd": str(s.crowd),
            "errors": str(s.errors_outside),
        }
        for s in summaries
    }
    # peak: sessions; crowd: slow queries in one process; errors: requests that are not slow.
    title = "slow queries; sessions at their peak; slow ones in one process; other requests' errors"
    show(title, rows, {s.contender.name: s.slow.served for s in summaries})
    for s in summaries:
        _tell_of(s)
    own = _named(summaries, OWN)
    for verdict in verdicts(own, limit) if own else []:
        sign = "[green]met[/]   " if verdict.met else "[red]MISSED[/]"
        console.print(f"  {sign} {verdict.text}", highlight=False)


def _tell_of(summary: Summary) -> None:
    """What does not fit into a table."""
    if summary.errors:
        texts = [
            f"{count} × {kind} {status or 'no answer'}"
            for (kind, status), count in sorted(summary.errors.items())
        ]
        console.print(f"  {summary.contender.name}: {', '.join(texts)}", highlight=False)
    if summary.refused_logins:
        console.print(
            f"  {summary.contender.name}: the server was full and refused {summary.refused_logins} "
            "logins",
            highlight=False,
        )
    if summary.late_client > LATE_CLIENT_SECONDS:
        late = 1000 * summary.late_client
        console.print(
            f"  [yellow]{summary.contender.name}: the load itself was sent up to {late:.0f} ms "
            "late (p99); times are too long by that[/]"
        )


def _missed(results: Sequence[Sequence[Summary]]) -> bool:
    found = ((_named(s, OWN), _named(s, LIMIT)) for s in results)
    return any(not v.met for own, limit in found if own for v in verdicts(own, limit))


if __name__ == "__main__":
    raise SystemExit(main())
