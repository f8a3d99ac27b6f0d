"""Blocking functions in a thread of their own."""

import asyncio
import threading
import time

import pytest

from agentrl.threads import OwnThread


def current() -> threading.Thread:
    return threading.current_thread()


def test_all_run_in_one_thread_that_its_name_tells() -> None:
    async def two() -> tuple[threading.Thread, threading.Thread]:
        own = OwnThread("env-Mine")
        first, second = await own.run(current), await own.run(current)
        await own.end(RuntimeError())
        return first, second

    first, second = asyncio.run(two())
    assert first is second is not current() and first.name == "env-Mine" and first.daemon
    first.join(5)
    assert not first.is_alive() and first not in threading.enumerate()


def test_many_start_without_waiting_for_each_other() -> None:
    """All are asked before any has answered, and each has a thread of its own."""

    async def crowd() -> set[int]:
        own = [OwnThread(f"env-{i}") for i in range(64)]
        together = threading.Barrier(64)
        jobs = [one.run(lambda: (together.wait(30), threading.get_ident())[1]) for one in own]
        idents = set(await asyncio.gather(*jobs))
        await asyncio.gather(*[one.end(RuntimeError()) for one in own])
        return idents

    assert len(asyncio.run(crowd())) == 64


def test_where_no_thread_is_left_the_caller_is_told_and_may_ask_again() -> None:
    async def asked() -> list[str]:
        own, calls = OwnThread("env-Mine"), list[str]()
        threading.stack_size(1 << 50)  # more than the machine can address
        try:
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await own.run(calls.append, "first")
        finally:
            threading.stack_size(0)
        assert not own.busy
        await own.run(calls.append, "second")
        await own.end(RuntimeError())
        return calls

    assert asyncio.run(asked()) == ["second"]


def test_what_ends_before_it_began_is_waited_for() -> None:
    async def ended() -> bool:
        own = OwnThread("env-Mine")
        job = asyncio.ensure_future(own.run(time.sleep, 0.2))
        await asyncio.sleep(0)  # asked for, and perhaps not begun
        began = time.perf_counter()
        await own.end(RuntimeError("closed"), seconds=5)
        with pytest.raises(RuntimeError, match="closed"):
            await job
        return time.perf_counter() - began > 0.15

    assert asyncio.run(ended())
