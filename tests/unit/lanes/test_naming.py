"""Lanes that people name: where the name holds, and where it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from inspect import iscoroutinefunction

import pytest
from asgiref.sync import sync_to_async

from unhang.lanes import lane, naming


@pytest.fixture(autouse=True)
def process_without_a_lane() -> Iterator[None]:
    yield
    naming.enter_process(None)


def now(alias: str = "default") -> str | None:
    return naming.name_for(alias)


def test_there_is_no_name_unless_one_is_given() -> None:
    assert now() is None


def test_a_block_names_a_lane_for_every_alias_and_ends() -> None:
    with lane("reports"):
        assert (now(), now("other")) == ("reports", "reports")
    assert now() is None


def test_a_block_for_one_alias_leaves_the_others_alone() -> None:
    with lane("reports", "other"):
        assert (now(), now("other")) == (None, "reports")


def test_blocks_nest() -> None:
    with lane("a"):
        with lane("b"):
            assert now() == "b"
        assert now() == "a"
        with lane("b", "other"):
            assert (now(), now("other")) == ("a", "b")


@pytest.mark.parametrize("inner", ["b", None])
def test_the_innermost_block_counts_even_around_one_for_an_alias(inner: str | None) -> None:
    with lane("a", "default"), lane(inner):
        assert now() == (inner or naming.NO_LANE)
        assert now("other") == (inner or naming.NO_LANE)


def test_none_is_no_lane_at_all_which_is_not_the_same_as_no_name() -> None:
    with lane("a"):
        with lane(None):
            assert now() == naming.NO_LANE
        assert now() == "a"


def test_the_name_ends_with_an_exception_too() -> None:
    with pytest.raises(ZeroDivisionError), lane("a"):
        raise ZeroDivisionError
    assert now() is None


def test_one_object_can_be_used_again_and_inside_itself() -> None:
    reports = lane("a")
    with reports, lane("b"), reports:
        assert now() == "a"
    assert now() is None


def test_one_object_can_be_used_by_two_threads_at_a_time() -> None:
    reports, both_are_in, first_is_out = lane("a"), threading.Barrier(2), threading.Event()

    def first() -> str | None:
        with reports:
            both_are_in.wait(5)
        first_is_out.set()
        return now()

    def second() -> str | None:
        with reports:
            both_are_in.wait(5)
            first_is_out.wait(1)
        return now()

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(first), pool.submit(second)]
        assert [one.result() for one in asked] == [None, None]


@pytest.mark.parametrize("name", ["", 5, b"a"])
def test_a_name_is_a_string_that_is_not_empty(name: object) -> None:
    with pytest.raises(ValueError, match="lane's name"):
        lane(name)  # type: ignore[arg-type]  # that is the point


def test_a_decorator_names_the_lane_of_each_call() -> None:
    @lane("a")
    def report(first: int, *, second: int) -> tuple[str | None, int]:
        """Docstring."""
        return now(), first + second

    assert report(1, second=2) == ("a", 3)
    assert report.__name__ == "report"
    assert report.__doc__ == "Docstring."
    assert now() is None


def test_a_decorated_function_that_calls_itself_keeps_the_lane() -> None:
    @lane("a")
    def down(depth: int) -> list[str | None]:
        return [now(), *(down(depth - 1) if depth else [])]

    assert down(3) == ["a"] * 4
    assert now() is None


def test_a_decorated_function_that_raises_ends_the_lane() -> None:
    @lane("a")
    def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert now() is None


def test_a_decorated_coroutine_is_in_the_lane_while_it_runs() -> None:
    @lane("a")
    async def report() -> str | None:
        await asyncio.sleep(0)
        return now()

    async def main() -> tuple[str | None, ...]:
        both = await asyncio.gather(report(), report())
        return (*both, now())

    assert iscoroutinefunction(report)
    assert asyncio.run(main()) == ("a", "a", None)


def test_a_name_follows_a_request_into_its_thread_and_not_into_other_tasks() -> None:
    async def in_lane() -> str | None:
        with lane("a"):
            await asyncio.sleep(0)
            return await sync_to_async(now)()

    async def beside() -> str | None:
        await asyncio.sleep(0)
        return await sync_to_async(now)()

    async def main() -> list[str | None]:
        return list(await asyncio.gather(in_lane(), beside()))

    assert asyncio.run(main()) == ["a", None]


def test_a_thread_of_its_own_starts_without() -> None:
    seen: list[str | None] = []
    with lane("a"):
        thread = threading.Thread(target=lambda: seen.append(now()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_the_lane_of_a_process_holds_where_nothing_else_is_named() -> None:
    naming.enter_process("nightly")
    assert now() == "nightly"
    with lane("a"):
        assert now() == "a"
    with lane("a", "other"):
        assert now() == "nightly"
    with lane(None):
        assert now() == naming.NO_LANE
