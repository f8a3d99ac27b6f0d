"""The thread in which an engine's steps run, and the way into it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from agentrl.engine.batcher import Batcher
from agentrl.engine.requests import Request, deliver
from agentrl.errors import EngineError
from agentrl.torch_threads import torch_threads

T = TypeVar("T")


class _Message(NamedTuple):
    run: Callable[[], None]
    fail: Callable[[EngineError], None]
    """Called instead when the thread ends first."""


class Worker:
    """A daemon thread that owns a batcher: it reads messages, makes a step, delivers, and so on."""

    def __init__(self, batcher: Batcher, *, num_threads: int) -> None:
        self.busy_seconds = 0.0
        self.paused = False
        self._batcher, self._num_threads = batcher, num_threads
        self._inbox: deque[_Message] = deque()
        self._wake, self._lock = threading.Event(), threading.Lock()
        self._ended: str | None = None
        self._cause: Exception | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="agentrl-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Queue a request; its answers come to its own queue, an `EngineError` at the latest."""
        self._send(_Message(lambda: self._batcher.submit(request), lambda e: deliver([(request, e)])))

    def cancel(self, request: Request) -> None:
        """Free a request's place at the next step; never raises."""
        request.cancelled = True
        with self._lock:
            if self._ended is None:
                self._inbox.append(_Message(lambda: self._batcher.cancel(request), lambda _: None))
        self._wake.set()

    async def call(self, work: Callable[[], T]) -> T:
        """Run something between two steps; an exception in it is the end of the engine."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def post(setter: Callable[[], None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody is left who waits
                loop.call_soon_threadsafe(lambda: None if future.done() else setter())

        def run() -> None:
            try:
                result = work()
            except Exception as cause:
                error = _error(f"the engine died: {type(cause).__name__}: {cause}", cause)
                post(lambda: future.set_exception(error))
                raise
            post(lambda: future.set_result(result))

        self._send(_Message(run, lambda e: post(lambda: future.set_exception(e))))
        return await future

    async def close(self) -> None:
        """End the thread; what is open ends with `EngineError`."""
        self._closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)

    def _send(self, message: _Message) -> None:
        with self._lock:
            if self._ended is not None:
                raise _error(self._ended, self._cause)
            self._inbox.append(message)
        self._wake.set()

    def _run(self) -> None:
        with torch_threads(self._num_threads):
            self._work()

    def _work(self) -> None:
        ended = "the engine was closed"
        try:
            while not self._closing:
                self._turn()
        except Exception as cause:  # the thread's boundary: callers get it as EngineError
            ended, self._cause = f"the engine died: {type(cause).__name__}: {cause}", cause
        with self._lock:
            self._ended = ended
        for message in self._inbox:
            message.fail(_error(ended, self._cause))
        deliver([(request, _error(ended, self._cause)) for request in self._batcher.open_requests()])

    def _turn(self) -> None:
        self._wake.clear()
        while self._inbox:
            self._inbox.popleft().run()
        if not self._closing and (self.paused or not self._batcher.busy):
            self._wake.wait()
            return
        begin = time.perf_counter()
        deliver(self._batcher.step())
        self.busy_seconds += time.perf_counter() - begin


def _error(text: str, cause: Exception | None) -> EngineError:
    error = EngineError(text)
    error.__cause__ = cause
    return error
