"""A fleet of processes with a pool each, on one server with a hard limit: a SimPy model.

The policy is the real `Headroom`; the pool around it is as small as it can be: a queue of
borrowers, up to four connects at a time, a keeper. `simulate` runs one scenario.
"""

from __future__ import annotations

import math
import random
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

import simpy

from unhang.lanes.headroom import Headroom

Policy = Literal["none", "headroom"]
Scenario = Literal["steady", "crowded", "burst", "deploy", "restart", "greedy", "blind"]
SCENARIOS: Final[tuple[Scenario, ...]] = (
    "steady",
    "crowded",
    "burst",
    "deploy",
    "restart",
    "greedy",
    "blind",
)

DEADLINE_SECONDS: Final = 20.0
MAX_IDLE_SECONDS: Final = 5.0
WARM_SECONDS: Final = 280.0
"""How long the last connection of a pool may idle, as the real pool has it with `min_size` 1."""

CONNECT_SECONDS: Final = (0.005, 0.030)
OPENERS: Final = 4
KEEPER_SECONDS: Final = 1.0
SHORTEST_NAP_SECONDS: Final = 0.05
EVENT_AT: Final = 10.0
BURST_SECONDS: Final = 10.0
DOWN_SECONDS: Final = 5.0
END_AT: Final = 35.0
SAMPLE_SECONDS: Final = 0.1
FINAL_SECONDS: Final = 10.0


def limit_for(processes: int) -> int:
    """A `max_connections` below what all pools may open together; few per process at 10,000."""
    return {10: 40, 100: 300, 1_000: 2_000, 10_000: 3_000}.get(processes, 3 * processes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a fleet wants, where it is not what its scenario says.

    Attributes:
        load: Connections in use on average if nobody had to wait, as a part of the ceiling.
        hold: Seconds that a borrower keeps his connection, from and to.
        threads: Borrowers of a process at a time; those that come when all are busy go away.
        burst: How many times as many come to a fifth of the processes in a burst.
        down_seconds: How long a restart of the server takes.
        connect_seconds: How long a connect takes, from and to.
    """

    load: float
    hold: tuple[float, float]
    threads: int
    burst: float
    down_seconds: float
    connect_seconds: tuple[float, float]

    def rate(self, limit: int, processes: int) -> float:
        """Borrowers per second and process."""
        return self.load * ceiling_of(limit) / processes / (sum(self.hold) / 2)


def ceiling_of(limit: int) -> int:
    """What the policy leaves to people and other programs is above it."""
    policy = Headroom(1)
    policy.saw(0, limit, 0.0)
    return policy.ceiling


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one run showed.

    Attributes:
        peak: Sessions at most, as a part of the limit.
        above_seconds: Seconds with more sessions than the ceiling.
        refused: Connects refused with 1040, per process.
        refused_peak: The most of them in one second, all processes together.
        in_time: The part of the borrowers that got a connection within their deadline.
        wait_p50, wait_p99: Seconds that they waited.
        jain: Fairness of connections × time among processes of equal demand, after the event; 1 is
            best (Jain, Chiu, Hawe 1984).
        settled_seconds: From the event until sessions stay near their final mean, and no connect
            is refused any more; infinite if never.
        swing: Half the way from low to high (5 % to 95 %) of the sessions' one-second means in the
            end, as a part of their mean.
        noise: The swing that independent arrivals alone would show.
        connects: Connects per second, all processes together, in the end.
        utilisation: Mean sessions in the end, as a part of the ceiling.
    """

    scenario: Scenario
    policy: Policy
    processes: int
    limit: int
    peak: float
    above_seconds: float
    refused: float
    refused_peak: int
    in_time: float
    wait_p50: float
    wait_p99: float
    jain: float
    settled_seconds: float
    swing: float
    noise: float
    connects: float
    utilisation: float
    samples: Sequence[int] = field(repr=False)


class Server:
    """Sessions, a hard limit, and who was refused."""

    def __init__(self, env: simpy.Environment, limit: int) -> None:
        self.env = env
        self.limit = limit
        self.ceiling = ceiling_of(limit)
        self.sessions = 0
        self.peak = 0
        self.is_up = True
        self.above_seconds = 0.0
        self.refused = 0
        self.connects = 0
        self._changed_at = 0.0

    def open(self) -> bool:
        """One session more, if there is room."""
        if self.sessions >= self.limit:
            self.refused += 1
            return False
        self._change(1)
        self.connects += 1
        self.peak = max(self.peak, self.sessions)
        return True

    def close(self, number: int = 1) -> None:
        self._change(-number)

    def _change(self, number: int) -> None:
        if self.sessions > self.ceiling:
            self.above_seconds += self.env.now - self._changed_at
        self._changed_at = self.env.now
        self.sessions += number


class Connection:
    __slots__ = ("born", "idle_since", "is_open")

    def __init__(self, now: float) -> None:
        self.born = now
        self.idle_since = now
        self.is_open = True


@dataclass(slots=True)
class Borrower:
    asked: float
    hold: float


class Fleet:
    """What all processes of a run have in common, and what is measured."""

    def __init__(
        self,
        scenario: Scenario,
        processes: int,
        policy: Policy,
        limit: int,
        seed: int,
        demand: Demand | None = None,
    ) -> None:
        self.env = simpy.Environment()
        self.rng = random.Random(seed)  # noqa: S311 - a model, no secret
        self.scenario = scenario
        self.policy = policy
        self.server = Server(self.env, limit)
        self.max_size = 10
        self.waits: list[float] = []
        self.late = 0
        self.samples: list[int] = []
        self.refusals: list[int] = []
        self.connects: list[int] = []
        ceiling = self.server.ceiling
        self.hold = 0.1 if processes < 1_000 else 0.2
        load = {"burst": 0.2, "greedy": 0.3}.get(scenario, 0.6)
        self.rate = load * ceiling / processes / self.hold
        self.demand = demand
        self.connect_seconds = CONNECT_SECONDS
        self.thirst = 0
        if demand is not None:
            self.rate = demand.rate(limit, processes)
            self.connect_seconds = demand.connect_seconds
        elif scenario in ("crowded", "blind"):
            self.thirst = self.max_size if processes < 10_000 else 1
        self.processes = [Process(self, number) for number in range(processes)]

    def hold_seconds(self) -> float:
        """How long one borrower keeps his connection."""
        if self.demand is not None:
            return self.rng.uniform(*self.demand.hold)
        return self.rng.expovariate(1 / self.hold)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self.env.timeout(seconds).callbacks.append(lambda _event: call())

    def run(self) -> None:
        env = self.env
        for process in self.processes:
            process.begin()
        self._sample()
        if self.scenario != "steady":
            self.later(EVENT_AT, getattr(self, f"_{self.scenario}"))
        env.run(until=END_AT)
        self.server.close(0)
        for process in self.processes:
            process.account()
            self.late += sum(env.now - b.asked > DEADLINE_SECONDS for b in process.waiters)

    def _sample(self) -> None:
        server = self.server
        self.samples.append(server.sessions)
        self.refusals.append(server.refused)
        self.connects.append(server.connects)
        self.later(SAMPLE_SECONDS, self._sample)

    def _crowded(self) -> None:
        """Nothing changes: everybody wants more all the time. Blind, none can see the sessions."""

    _blind = _crowded

    def _burst(self) -> None:
        chosen = self.processes[::5]
        for process in chosen:
            process.hurry(self.demand.burst if self.demand else 20)
        self.later(BURST_SECONDS, lambda: [process.hurry(1) for process in chosen] and None)

    def _greedy(self) -> None:
        for process in self.processes[: max(1, len(self.processes) // 10)]:
            process.is_equal = False
            process.crave(4 * self.max_size)

    def _deploy(self) -> None:
        for process in self.processes:
            process.end()
        fresh = [Process(self, number) for number in range(len(self.processes))]
        self.processes[:] = fresh
        for process in fresh:
            process.begin()
            for _ in range(3):  # what queued up at the load balancer
                process.arrive()

    def _restart(self) -> None:
        self.server.is_up = False
        for process in self.processes:
            process.lose()
        assert self.server.sessions == 0
        self.later(self.demand.down_seconds if self.demand else DOWN_SECONDS, self._up)

    def _up(self) -> None:
        self.server.is_up = True


class Process:
    """One process: its borrowers, its pool, its keeper."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self.fleet = fleet
        self.env = fleet.env
        self.server = fleet.server
        self.rng = fleet.rng
        self.number = number
        self.is_equal = True
        self.headroom = (
            Headroom(fleet.max_size, rng=fleet.rng) if fleet.policy == "headroom" else None
        )
        self.rate = fleet.rate
        self.is_over = False
        self.epoch = 0
        self.size = 0
        self.leased: dict[Connection, Borrower] = {}
        self.idle: deque[Connection] = deque()
        self.waiters: deque[Borrower] = deque()
        self.openers = 0
        self.failing = False
        self.backoff = 0.05
        self.not_before = 0.0
        self.wakes_at = math.inf
        self.keeper_at = math.inf
        self.arrival = 0
        self.connection_seconds = 0.0
        self._changed_at = 0.0

    # ---- demand ----

    def begin(self) -> None:
        if self.fleet.thirst:
            self.rate = 0.0
            self.crave(self.fleet.thirst)
        else:
            self._next_arrival()

    def end(self) -> None:
        self.lose()
        self.is_over = True
        self.waiters.clear()

    def hurry(self, times: float) -> None:
        self.rate = self.fleet.rate * times
        self._next_arrival()

    def crave(self, borrowers: int) -> None:
        """So many borrowers that come again as soon as they are served."""
        self.thirst = borrowers
        self.rate = 0.0
        self.arrival += 1
        for _ in range(borrowers):
            self.arrive()

    def _next_arrival(self) -> None:
        self.arrival += 1
        arrival = self.arrival

        def come() -> None:
            if arrival == self.arrival and not self.is_over:
                self._next_arrival()
                self.arrive()

        self.fleet.later(self.rng.expovariate(self.rate), come)

    def arrive(self) -> None:
        demand = self.fleet.demand
        if demand is not None and len(self.waiters) + len(self.leased) >= demand.threads:
            return
        borrower = Borrower(self.env.now, self.fleet.hold_seconds())
        if self.idle and not self.waiters:
            self._lend(self.idle.pop(), borrower)
        else:
            self.waiters.append(borrower)
            self.grow()

    # ---- lend and give back ----

    def _lend(self, connection: Connection, borrower: Borrower) -> None:
        self.fleet.waits.append(self.env.now - borrower.asked)
        self.leased[connection] = borrower
        self.fleet.later(borrower.hold, lambda: self._give_back(connection))

    def _give_back(self, connection: Connection) -> None:
        if not connection.is_open:
            return
        del self.leased[connection]
        connection.idle_since = now = self.env.now
        if self.rate == 0.0 and not self.is_over:
            self.waiters.append(Borrower(now, self.fleet.hold_seconds()))
        policy = self.headroom
        if policy is not None:
            self._look()
            is_old = now - connection.born > policy.life_seconds(now)
            if is_old or self.size > policy.allowance(now, self._waited()):
                self._close(connection)
                self.grow()
                return
        self._serve(connection)

    def _serve(self, connection: Connection) -> None:
        now = self.env.now
        while self.waiters:
            borrower = self.waiters.popleft()
            if now - borrower.asked <= DEADLINE_SECONDS:
                self._lend(connection, borrower)
                return
            self.fleet.late += 1
        self.idle.append(connection)
        self._keep_in(min(KEEPER_SECONDS, self._may_idle()))

    def _look(self, *, force: bool = False) -> None:
        policy, now = self.headroom, self.env.now
        if policy is None or self.fleet.scenario == "blind":
            return
        if force or (self.size and policy.next_look(now) <= 0):
            policy.saw(self.server.sessions, self.server.limit, now)

    def _may_idle(self) -> float:
        longest = WARM_SECONDS if self.size <= 1 else MAX_IDLE_SECONDS
        if self.headroom is None:
            return longest
        return self.headroom.idle_seconds(longest, self.env.now)

    def _close(self, connection: Connection) -> None:
        connection.is_open = False
        self._resize(-1)
        self.server.close()
        if self.headroom is not None:
            self.headroom.closed(self.size, self.env.now - connection.born, self.env.now)

    def _resize(self, number: int) -> None:
        self.account()
        self.size += number

    def account(self) -> None:
        now = self.env.now
        if now > EVENT_AT:
            self.connection_seconds += self.size * (now - max(self._changed_at, EVENT_AT))
        self._changed_at = now

    # ---- the keeper ----

    def _keep_in(self, seconds: float) -> None:
        at = self.env.now + max(seconds, SHORTEST_NAP_SECONDS)
        if at < self.keeper_at - 0.01:
            self.keeper_at = at
            self.fleet.later(at - self.env.now, lambda: self._keep(at))

    def _keep(self, at: float) -> None:
        if at != self.keeper_at:
            return
        self.keeper_at = math.inf
        now, policy = self.env.now, self.headroom
        self._look()
        while self.idle and (
            now - self.idle[0].idle_since >= self._may_idle() - 1e-9
            or (policy is not None and self.size > policy.allowance(now, self._waited()))
        ):
            self._close(self.idle.popleft())
        self.grow()
        if self.size:
            due = self.idle[0].idle_since + self._may_idle() - now if self.idle else math.inf
            self._keep_in(min(KEEPER_SECONDS, due))

    def _waited(self) -> float:
        return self.env.now - self.waiters[0].asked if self.waiters else 0.0

    # ---- growing ----

    def grow(self) -> None:
        now = self.env.now
        if self.is_over:
            return
        while self.waiters and now - self.waiters[0].asked > DEADLINE_SECONDS:
            self.waiters.popleft()
            self.fleet.late += 1
        policy = self.headroom
        most = self.fleet.max_size
        while (
            self.openers < (1 if self.failing else OPENERS)
            and len(self.waiters) > self.openers
            and self.size + self.openers < most
        ):
            seconds = max(0.0, self.not_before - now)
            if policy is not None and seconds == 0:
                seconds = policy.pause(self.size + self.openers, now, self._waited())
            if seconds > 0:
                self._wake_in(min(seconds, KEEPER_SECONDS) if self.size else seconds)
                return
            self.openers += 1
            self._open()

    def _wake_in(self, seconds: float) -> None:
        at = self.env.now + seconds
        if at < self.wakes_at - 1e-9:
            self.wakes_at = at

            def wake() -> None:
                if self.wakes_at == at:
                    self.wakes_at = math.inf
                    self.grow()

            self.fleet.later(seconds, wake)

    def _open(self) -> None:
        seconds, epoch = self.rng.uniform(*self.fleet.connect_seconds), self.epoch

        def admit() -> None:
            if epoch != self.epoch:  # `lose` counts nobody as opening any more
                return
            if not self.server.is_up:
                self._failed(is_full=False)
            elif self.server.open():
                self._resize(1)
                self.fleet.later(seconds * 0.7, done)
            else:
                self._failed(is_full=True)

        def done() -> None:
            if epoch != self.epoch:
                return
            self.openers -= 1
            self._opened()

        self.fleet.later(seconds * 0.3, admit)

    def _opened(self) -> None:
        now, policy = self.env.now, self.headroom
        self.failing = False
        self.backoff = 0.05
        connection = Connection(now)
        if policy is not None:
            self._look(force=True)
            if not policy.keeps(self.size - 1, now, self._waited()):
                self._close(connection)
                self.grow()
                return
        self._serve(connection)
        self.grow()

    def _failed(self, *, is_full: bool) -> None:
        self.openers -= 1
        now = self.env.now
        if is_full and self.headroom is not None:
            self.headroom.refused(self.size, now)
        else:
            if self.headroom is not None:
                self.headroom.failed(now)
            self.failing = True
            self.not_before = now + self.backoff * self.rng.uniform(0.7, 1.3)
            self.backoff = min(2 * self.backoff, 1.0)
        self.grow()

    def lose(self) -> None:
        """Every connection is gone; who had one asks again."""
        self.epoch += 1
        self.server.close(self.size)
        self._resize(-self.size)
        self.idle.clear()
        for connection, borrower in self.leased.items():
            connection.is_open = False
            self.waiters.append(Borrower(self.env.now, borrower.hold))
        self.leased.clear()
        self.openers = 0
        self.grow()


def simulate(
    scenario: Scenario,
    processes: int,
    *,
    policy: Policy = "headroom",
    limit: int | None = None,
    seed: int = 1,
    demand: Demand | None = None,
) -> Result:
    """Run one scenario to its end.

    Args:
        scenario: One of `SCENARIOS`.
        processes: How many, all on one server.
        policy: `none` is a pool that knows nothing of the server's room.
        limit: The server's `max_connections`; `limit_for(processes)` by default.
        seed: The same seed gives the same run.
        demand: Instead of what the scenario wants.
    """
    limit = limit or limit_for(processes)
    fleet = Fleet(scenario, processes, policy, limit, seed, demand)
    fleet.run()
    return _result(fleet, processes)


def _result(fleet: Fleet, processes: int) -> Result:
    server, samples = fleet.server, fleet.samples
    per_second = round(1 / SAMPLE_SECONDS)
    means = _means(samples)
    final = round(FINAL_SECONDS / SAMPLE_SECONDS)
    middle = statistics.fmean(samples[-final:])
    low, high = _quantile(means[-final:], 0.05), _quantile(means[-final:], 0.95)
    waits = sorted(fleet.waits) or [0.0]
    seconds = [process.connection_seconds for process in fleet.processes if process.is_equal]
    in_seconds = fleet.refusals[::per_second]
    return Result(
        scenario=fleet.scenario,
        policy=fleet.policy,
        processes=processes,
        limit=server.limit,
        peak=server.peak / server.limit,
        above_seconds=server.above_seconds,
        refused=server.refused / processes,
        refused_peak=max(b - a for a, b in pairwise(in_seconds)),
        in_time=len(waits) / (len(waits) + fleet.late),
        wait_p50=_quantile(waits, 0.5),
        wait_p99=_quantile(waits, 0.99),
        jain=sum(seconds) ** 2 / (len(seconds) * sum(s * s for s in seconds) or 1.0),
        settled_seconds=settled_seconds(
            fleet.scenario,
            samples,
            fleet.refusals,
            fleet.demand.down_seconds if fleet.demand else DOWN_SECONDS,
        ),
        swing=(high - low) / 2 / max(middle, 1.0),
        noise=1.645 / math.sqrt(max(middle, 1.0)),
        connects=(fleet.connects[-1] - fleet.connects[-final]) / FINAL_SECONDS,
        utilisation=middle / server.ceiling,
        samples=samples,
    )


def settled_seconds(
    scenario: Scenario,
    samples: Sequence[int],
    refusals: Sequence[int],
    down_seconds: float = DOWN_SECONDS,
) -> float:
    """From the event until sessions stay near their final mean, and no connect is refused any more.

    Args:
        samples: The sessions, every `SAMPLE_SECONDS` until the end.
        refusals: Connects refused so far, at the same times.
    """
    means = _means(samples)
    middle = statistics.fmean(samples[-round(FINAL_SECONDS / SAMPLE_SECONDS) :])
    began = EVENT_AT + (BURST_SECONDS if scenario == "burst" else 0.0)
    if scenario == "restart":
        began += down_seconds
    if scenario in ("steady", "crowded", "blind"):
        began = 0.0
    near = max(0.05 * middle, 2 * math.sqrt(middle))
    last = began
    for number, mean in enumerate(means):
        if abs(mean - middle) > near:
            last = max(last, (number + 1) * SAMPLE_SECONDS)
    for number in range(1, len(refusals)):
        if refusals[number] > refusals[number - 1]:
            last = max(last, number * SAMPLE_SECONDS)
    return last - began if last < END_AT - 2.0 else math.inf


def _means(samples: Sequence[int]) -> list[float]:
    """Of each second."""
    width = round(1 / SAMPLE_SECONDS)
    return [statistics.fmean(samples[n : n + width]) for n in range(len(samples) - width + 1)]


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
