"""The host's side of a zygote: start it, let it fork, hear how its children ended, stop it."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any

from agentrl.errors import SandboxError
from agentrl.tools.sandbox import image
from agentrl.tools.sandbox.cleanup import HostFolder
from agentrl.tools.sandbox.guest.zygote import EXITED, FORKED
from agentrl.tools.sandbox.levels import Launch, prepare
from agentrl.tools.sandbox.types import Plan

_START_SECONDS = 20.0
_ANSWER_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Forked:
    """A process that the zygote forked; `pid` is the host's number of it except with namespaces."""

    pid: int
    pidfd: int


@dataclass(frozen=True, slots=True)
class Exited:
    """How a sandbox's first process ended; `reason` is the limit for which the zygote killed it, or ''."""

    status: int
    reason: str


class Server:
    """One zygote. Everything that it forked dies with it, and it dies with this process."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self.level, self.limits = plan, plan.level, plan.limits
        self.alive = False
        self._held = contextlib.ExitStack()
        """What is closed with it."""
        self._process: subprocess.Popen[bytes] | None = None
        self._forks: dict[int, asyncio.Future[Forked]] = {}
        self._exits: dict[int, asyncio.Future[Exited]] = {}

    async def start(self) -> None:
        """Start the zygote and wait until it can fork.

        Raises:
            SandboxUnavailable: The level cannot work here.
            SandboxError: It should, but the zygote did not come up; the message has its last words.
        """
        self._folder = HostFolder() if self.level != "namespaces" else None
        try:
            launch = prepare(self._plan, self.folders)
            self._process = self._spawn(launch)
            await self._wait_until_up()
        except BaseException:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._held.close()
            if self._folder is not None:
                await self._folder.remove()
            raise

    @property
    def folders(self) -> str:
        """Where each sandbox has a folder of its own; '' where the level keeps nothing on disk."""
        return self._folder.path if self._folder is not None else ""

    def _spawn(self, launch: Launch) -> subprocess.Popen[bytes]:
        self._words = self._held.enter_context(tempfile.TemporaryFile())
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._held.enter_context(self._control)
        with contextlib.ExitStack() as given:
            given.enter_context(theirs)
            host = os.pidfd_open(os.getpid())
            given.callback(os.close, host)
            bundle = given.enter_context(image.write_bundle(launch.settings))
            inherited = (bundle.fileno(), theirs.fileno(), host)
            return subprocess.Popen(
                [*launch.wrapper, *image.command(launch.python, inherited, bare=self.level != "none")],
                stdin=subprocess.DEVNULL,
                stdout=self._words,
                stderr=self._words,
                env=launch.environment,
                pass_fds=inherited,
                start_new_session=True,
                cwd="/",
            )

    async def _wait_until_up(self) -> None:
        loop = asyncio.get_running_loop()
        self._control.setblocking(False)
        try:
            message = await asyncio.wait_for(loop.sock_recv(self._control, 64), _START_SECONDS)
        except (TimeoutError, OSError):
            message = b""
        if message != b"up":
            assert self._process is not None
            self._process.kill()  # so that all of its words are there
            self._process.wait()
            self._words.seek(0)
            words = self._words.read().decode(errors="replace").strip()
            raise SandboxError(f"the {self.level} zygote did not start: {words[-2000:] or 'no message'}")
        self.alive = True
        loop.add_reader(self._control, self._hear)

    async def fork(
        self, number: int, folder: str, channel: socket.socket, output: int
    ) -> tuple[Forked, "asyncio.Future[Exited]"]:
        """A new sandbox on these descriptors, and what will say how it ended; `folder` is a new name."""
        if not self.alive:
            raise SandboxError("the zygote is gone")
        loop = asyncio.get_running_loop()
        answer = self._forks[number] = loop.create_future()
        ending = self._exits[number] = loop.create_future()
        try:
            order = number.to_bytes(8, "little") + folder.encode()
            socket.send_fds(self._control, [order], [channel.fileno(), output])
            return await asyncio.wait_for(answer, _ANSWER_SECONDS), ending
        except (OSError, TimeoutError) as error:
            raise SandboxError(f"the zygote did not fork: {error!r}") from error

    def _hear(self) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, 64, 1)
        except BlockingIOError:
            return
        except OSError:
            message, descriptors = b"", []
        if len(message) == FORKED.size:
            number, pid = FORKED.unpack(message)
            answer = self._forks.pop(number)
            if pid < 0:
                del self._exits[number]
                _fail(answer, SandboxError(f"the zygote could not fork: {os.strerror(-pid)}"))
            elif answer.done():  # given up by its caller
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptors[0], signal.SIGKILL)
                os.close(descriptors[0])
            else:
                answer.set_result(Forked(pid, descriptors[0]))
        elif len(message) == EXITED.size:
            number, status, reason = EXITED.unpack(message)
            _resolve(self._exits.pop(number), Exited(status, reason.rstrip(b"\0").decode()))
        else:
            self._lose()

    def _lose(self) -> None:
        """The zygote has gone, and all of its children with it."""
        self.alive = False
        asyncio.get_running_loop().remove_reader(self._control)
        error = SandboxError(f"the {self.level} zygote died")
        for answer in self._forks.values():
            _fail(answer, error)
        for ending in self._exits.values():
            _fail(ending, error)
        self._forks.clear()
        self._exits.clear()

    async def close(self) -> None:
        """Stop the zygote and wait until it and its folders are gone."""
        if self.alive:
            self._lose()
        self._control.close()
        if self._process is not None:
            await _wait(self._process)
        self._held.close()
        if self._folder is not None:
            await self._folder.remove()


def _fail(future: "asyncio.Future[Any]", error: SandboxError) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # not every sandbox is waiting for this


def _resolve(future: asyncio.Future[Exited], value: Exited) -> None:
    if not future.done():
        future.set_result(value)


async def _wait(process: subprocess.Popen[bytes]) -> None:
    for _ in range(2000):
        if process.poll() is not None:
            return
        await asyncio.sleep(0.002)
    process.kill()
    process.wait()
