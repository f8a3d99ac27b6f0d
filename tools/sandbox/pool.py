"""Sandboxes started ahead of need, each used once."""

import asyncio
import itertools
from collections import deque
from collections.abc import Coroutine
from types import TracebackType
from typing import Self

from agentrl.errors import SandboxError
from agentrl.tools.sandbox.box import Box
from agentrl.tools.sandbox.server import Server
from agentrl.tools.sandbox.types import Plan, Sandbox

MOST_READY = 128
"""A pool that was found empty keeps one more ready from then on, up to this many."""
MOST_STARTING = 64
"""Starts under way at once; more would overflow the zygote's socket."""


class SandboxPool:
    """An asynchronous context that hands out fresh sandboxes; opened once per worker.

    It keeps `size` of them ready, and more once so many were asked for that some had to wait.

    >>> async def example(pool: SandboxPool) -> str:
    ...     async with pool:
    ...         box = await pool.acquire()
    ...         return (await box.run("print(2 + 2)")).output
    """

    def __init__(self, plan: Plan, *, size: int) -> None:
        self.isolation, self._plan, self._size = plan.level, plan, size
        self._numbers = itertools.count(1)
        self._ready: deque[Box] = deque()
        self._waiting: deque[asyncio.Future[Box]] = deque()
        self._starting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._boxes: set[Box] = set()
        self._server: Server | None = None
        self._restart = asyncio.Lock()
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        await self._living_server()
        self._refill()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def acquire(self, *, prelude: str = "") -> Sandbox:
        """A sandbox that nobody used; close it when its episode ends.

        Raises:
            SandboxError: None can be started.
            ValueError: The prelude failed; the message has its error.
        """
        if not self._open:
            raise ValueError("acquire() outside `async with pool`")
        box = self._take_ready() or await self._wait()
        self._refill()
        if prelude:
            try:
                await _run_prelude(box, prelude)
            except BaseException:
                await box.close()
                raise
        return box

    async def close(self) -> None:
        """Kill and remove every sandbox that was ever handed out, and the zygote."""
        self._open = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while waiter := self._next_waiter():
            waiter.set_exception(SandboxError("the pool was closed"))
        await asyncio.gather(*(box.close() for box in list(self._boxes)))
        if self._server is not None:
            await self._server.close()
            self._server = None

    def _take_ready(self) -> Box | None:
        while self._ready:
            box = self._ready.popleft()
            if box.alive:
                return box
            self._background(box.close())  # it died with its zygote
        return None

    async def _wait(self) -> Box:
        self._size = min(max(self._size, MOST_READY), self._size + 1)
        future: asyncio.Future[Box] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._refill()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and not future.exception():
                self._ready.append(future.result())
            raise

    def _refill(self) -> None:
        wanted = self._size + len(self._waiting)
        while self._open and len(self._ready) + self._starting < wanted and self._starting < MOST_STARTING:
            self._starting += 1
            self._background(self._add())

    def _background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _add(self) -> None:
        try:
            box = await self._start()
        except Exception as error:  # carried to whoever waits; without one, the next to come tries again
            if waiter := self._next_waiter():
                waiter.set_exception(error)
            return
        finally:
            self._starting -= 1
        if waiter := self._next_waiter():
            waiter.set_result(box)
        else:
            self._ready.append(box)
        self._refill()

    def _next_waiter(self) -> asyncio.Future[Box] | None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                return future
        return None

    async def _start(self) -> Box:
        box = Box(await self._living_server(), next(self._numbers), on_close=self._boxes.discard)
        await box.start()
        self._boxes.add(box)
        return box

    async def _living_server(self) -> Server:
        """The zygote; another one where it has died."""
        async with self._restart:
            if self._server is None or not self._server.alive:
                dead, self._server = self._server, None
                if dead is not None:
                    await dead.close()
                server = Server(self._plan)
                try:
                    await server.start()
                except OSError as error:  # such as a full disk
                    raise SandboxError(f"the {self.isolation} zygote cannot be started: {error}") from error
                self._server = server
            return self._server


async def _run_prelude(box: Box, code: str) -> None:
    done = await box.run(code)
    if not done.ok:
        raise ValueError(f"the sandbox's prelude failed: {done.error}")
