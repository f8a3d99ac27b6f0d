"""A sandbox as its user sees it: one forked interpreter, its channel, its output and its end."""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from agentrl.errors import SandboxError
from agentrl.tools.sandbox.call import Call
from agentrl.tools.sandbox.cleanup import remove_tree
from agentrl.tools.sandbox.guest import wire
from agentrl.tools.sandbox.server import Exited, Forked, Server
from agentrl.tools.sandbox.types import Execution, LevelName, LimitName

_READY_SECONDS = 20.0
_DEATH_SECONDS = 10.0
_NEWS_SECONDS = 0.2
"""A channel closes a little before the zygote hears why."""


class Box:
    """A `Sandbox` that a zygote forked."""

    _forked: Forked
    _ending: "asyncio.Future[Exited]"

    def __init__(self, server: Server, number: int, on_close: Callable[["Box"], None]) -> None:
        self.isolation: LevelName = server.level
        self._server, self._number, self._calls = server, number, 0
        self._folder = secrets.token_hex(16)
        self._limits, self._on_close = server.limits, on_close
        self._gone, self._unread = "", bytearray()
        self._call: Call | None = None
        self._heard: set[int] = set()
        self._closed = False
        self._one_at_a_time = asyncio.Lock()

    async def start(self) -> None:
        """Fork, and wait until the walls stand.

        Raises:
            SandboxError: They do not.
            ValueError: The pool's prelude failed.
        """
        self._socket, theirs = socket.socketpair()
        self._output, their_output = os.pipe()
        try:
            self._socket.setblocking(False)
            os.set_blocking(self._output, False)
            self._forked, self._ending = await self._server.fork(
                self._number, self._folder, theirs, their_output
            )
        except BaseException:
            self._close_descriptors()
            raise
        finally:
            theirs.close()
            os.close(their_output)
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self._wait_until_ready()
        except (OSError, TimeoutError) as error:
            await self.close()
            raise SandboxError(f"a {self.isolation} sandbox did not start: {error!r}") from error
        except BaseException:
            await self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether its interpreter is."""
        return not self._ending.done()

    @property
    def _is_first(self) -> bool:
        """Whether it is the first process of its namespace: no signal from inside kills or stops that."""
        return self.isolation == "namespaces"

    async def _wait_until_ready(self) -> None:
        loop = asyncio.get_running_loop()
        message = await loop.sock_recv(self._socket, 4096)
        head, words = message[: wire.FRAME.size], message[wire.FRAME.size :].decode(errors="replace")
        if head != wire.FRAME.pack(len(message) - wire.FRAME.size, wire.READY, 0):
            raise SandboxError(f"the {self.isolation} sandbox did not start: {words or 'it died'}")
        if words:
            raise ValueError(f"the sandbox's prelude failed: {words}")

    async def run(self, code: str, *, timeout: float | None = None) -> Execution:
        async with self._one_at_a_time:
            if self._closed:
                raise ValueError("run() on a closed sandbox")
            if self._gone:
                error = f"the interpreter is gone: {self._gone}"
                return Execution(output="", error=error, seconds=0.0, alive=False)
            try:
                return await self._run(code, self._limits.wall_seconds if timeout is None else timeout)
            except BaseException:  # cancelled, or lost: what the interpreter does now is unknown
                self._kill()
                self._gone = self._gone or "an earlier call was abandoned"
                raise

    async def _run(self, code: str, seconds: float) -> Execution:
        started = time.perf_counter()
        self._calls += 1
        call = Call(self._calls, self._socket.fileno(), self._output, self._limits, self._unread)
        self._ending.add_done_callback(on_exit := lambda _: call.end("closed"))
        limit = ""
        timer = asyncio.get_running_loop().call_later(seconds, call.end, "wall")
        try:
            self._listen(call)
            await self._send(wire.frame(wire.RUN, self._calls, code.encode("utf-8", "surrogatepass")), call)
            why = await call.ended
        finally:
            timer.cancel()
            self._call = None
            self._ending.remove_done_callback(on_exit)
            call.hang_up()
        if why != "done":
            call.error, limit = await self._bury(why, call.error, seconds)
        limit = limit or call.limit or ("output" if call.was_cut else "")
        return Execution(
            output=call.text(),
            error=call.error,
            seconds=time.perf_counter() - started,
            values=tuple(call.values),
            limit=cast("LimitName | None", limit or None),
            alive=not self._gone,
        )

    def _listen(self, call: Call) -> None:
        """Hear the channel and the output; between two calls they stay heard as long as they are silent."""
        self._call = call
        loop = asyncio.get_running_loop()
        for descriptor in (self._socket.fileno(), self._output):
            if descriptor not in self._heard:
                loop.add_reader(descriptor, self._on_data, descriptor)
                self._heard.add(descriptor)

    def _on_data(self, descriptor: int) -> None:
        """Let the call read; without one, what comes waits where it is, and fills no memory of the host."""
        if self._call is None:
            self._ignore(descriptor)
        elif descriptor != self._output:
            self._call.read_channel()
        elif self._call.read_output() == 0:
            self._ignore(descriptor)

    def _ignore(self, descriptor: int) -> None:
        if descriptor in self._heard:
            self._heard.remove(descriptor)
            asyncio.get_running_loop().remove_reader(descriptor)

    async def _send(self, request: bytes, call: Call) -> None:
        try:
            sent = self._socket.send(request)
        except BlockingIOError:
            sent = 0
        except ConnectionError:
            return  # the interpreter ended between two calls; its exit tells why
        if sent < len(request):
            rest = asyncio.ensure_future(self._send_rest(request[sent:]))
            try:
                either: set[asyncio.Future[Any]] = {rest, call.ended}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                rest.cancel()
                await asyncio.wait({rest})

    async def _send_rest(self, request: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(self._socket, request)

    async def _bury(self, why: str, detail: str, seconds: float) -> tuple[str, str]:
        """Kill what is left; the reason as text and the limit that was hit.

        Raises:
            SandboxError: Something outside killed or stopped it.
        """
        if why == "closed":
            await asyncio.wait({self._ending}, timeout=_NEWS_SECONDS)
        was_running = not self._ending.done()
        if why == "wall" and self._is_first and _is_stopped(self._forked.pidfd):
            raise SandboxError(f"a {self.isolation} sandbox was stopped from outside")
        self._kill()
        exited = await self._exit()
        limit = {"wall": "wall", "flood": "output"}.get(why, exited.reason)
        if self._is_first and not was_running and not limit and exited.status == signal.SIGKILL:
            raise SandboxError(f"a {self.isolation} sandbox was killed from outside")
        if why == "malformed":
            text = f"the interpreter sent malformed data ({detail}) and was killed"
        elif limit:
            text = f"{self._limit_text(limit, seconds)}; the interpreter and all its processes were killed"
        elif was_running and os.WIFSIGNALED(exited.status) and os.WTERMSIG(exited.status) == signal.SIGKILL:
            text = "the interpreter closed its channel and was killed"
        else:
            text = f"the interpreter {_status_text(exited.status)}"
        self._gone = text
        return text, limit

    def _limit_text(self, limit: str, seconds: float) -> str:
        limits = self._limits
        return {
            "wall": f"time limit: no result after {seconds:g} s",
            "cpu": f"CPU limit: more than {limits.cpu_seconds:g} CPU seconds used",
            "memory": f"memory limit: more than {limits.memory_bytes >> 20} MiB used",
            "disk": f"disk limit: more than {limits.disk_bytes >> 20} MiB or {limits.files} files written",
            "processes": f"process limit: more than {limits.processes} processes and threads",
            "output": "output limit: the output did not stop",
        }[limit]

    def _kill(self) -> None:
        if self._ending.done():
            return
        if self.isolation == "none":
            with contextlib.suppress(ProcessLookupError):  # it has not got as far as its own group
                os.killpg(self._forked.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._forked.pidfd, signal.SIGKILL)

    async def _exit(self) -> Exited:
        try:
            return await asyncio.wait_for(asyncio.shield(self._ending), _DEATH_SECONDS)
        except TimeoutError:
            raise SandboxError(f"a {self.isolation} sandbox did not die of SIGKILL") from None

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._on_close(self)
        self._kill()
        try:
            await self._death()
            if self.isolation != "namespaces":
                await remove_tree(f"{self._server.folders}/{self._folder}")
        finally:
            self._close_descriptors()
            os.close(self._forked.pidfd)

    async def _death(self) -> None:
        """Wait until the first process is gone, also where no zygote is left to tell."""
        try:
            await self._exit()
        except SandboxError:
            loop, dead = asyncio.get_running_loop(), asyncio.Event()
            loop.add_reader(self._forked.pidfd, dead.set)
            try:
                await asyncio.wait_for(dead.wait(), _DEATH_SECONDS)
            finally:
                loop.remove_reader(self._forked.pidfd)

    def _close_descriptors(self) -> None:
        for descriptor in tuple(self._heard):
            self._ignore(descriptor)
        self._socket.close()
        os.close(self._output)


def _is_stopped(pidfd: int) -> bool:
    """Whether a process is stopped, by its number here and not where it was forked."""
    with contextlib.suppress(OSError, StopIteration):
        about = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
        number = next(line.split()[1] for line in about.splitlines() if line.startswith("Pid:"))
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    return False


def _status_text(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exited with status {os.WEXITSTATUS(status)}"
