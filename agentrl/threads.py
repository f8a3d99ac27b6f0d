"""One thread for one blocking environment: a slow tool never holds up another episode."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from agentrl.errors import WorkCancelled
from agentrl.left_behind import LEFT_BEHIND

Result = TypeVar("Result")
Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class OwnThread:
    """Runs blocking functions one after another in a thread of its own, started at first use.

    A function that hangs cannot be killed in Python: `end` leaves it behind, and `LEFT_BEHIND` counts it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._waiting: asyncio.Future[Any] | None = None
        self._num_given = self._num_done = 0
        self._began = self._used = 0.0

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """Run `function(*args)` there and give its result or exception."""
        loop = asyncio.get_running_loop()
        self._waiting = waiting = loop.create_future()
        self._jobs.put((loop, waiting, lambda: function(*args)))
        if self._thread is None:  # behind the first job, so that it need not wait for it
            self._start()
        self._num_given += 1
        result: Result = await waiting
        return result

    def _start(self) -> None:
        try:
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            thread.start()
        except RuntimeError:  # the system has no more threads; the job is the caller's again
            self._jobs.get_nowait()
            self._waiting = None
            raise
        self._thread = thread

    @property
    def busy(self) -> bool:
        """Whether a function runs there now, also one that nobody waits for any more."""
        return self._num_done < self._num_given

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the function that runs there now, or of the last one."""
        thread = self._thread
        if not self.busy or thread is None or thread.ident is None or not thread.is_alive():
            return self._used
        return time.clock_gettime(time.pthread_getcpuclockid(thread.ident)) - self._began

    async def end(self, error: BaseException, *, seconds: float = 0.5) -> None:
        """Fail what waits with `error` and let the thread end; one that hangs is left behind as a daemon."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
        self._jobs.put(None)
        if self._thread is not None and self.busy and not await self._join(self._thread, seconds):
            LEFT_BEHIND.add(self._name, self._thread.is_alive)

    async def _join(self, thread: threading.Thread, seconds: float) -> bool:
        deadline, pause = time.monotonic() + seconds, 1e-4
        while thread.is_alive():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.002)
        return True

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            loop, future, function = job
            self._began = time.thread_time()
            try:
                value, error = function(), None
            except BaseException as caught:  # noqa: BLE001 - handed to the caller, whatever it is
                value, error = None, caught
            self._used = time.thread_time() - self._began
            self._num_done += 1
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody is left who waits
                loop.call_soon_threadsafe(_settle, future, value, error)


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if isinstance(error, StopIteration):  # a future refuses it
        error = RuntimeError(f"StopIteration: {error}")
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(as_exception(error))


def as_exception(error: BaseException) -> Exception:
    """Give an exception as it is; what would end a thread or a process, as a cause.

    >>> as_exception(SystemExit(3))
    RuntimeError('raised SystemExit: 3')
    """
    if isinstance(error, Exception):
        return error
    kind = WorkCancelled if isinstance(error, asyncio.CancelledError) else RuntimeError
    wrapped = kind(f"raised {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
