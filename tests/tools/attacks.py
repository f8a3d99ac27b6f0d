"""Attacks on a sandbox, each with evidence of success; run as a script, it reports them as JSON.

A script, so that the same attacks can be made as another user: `python attacks.py namespaces`.
The attacks stand in `attack/`, by what they are after; what they know of the host is in `facts`.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import secrets
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from agentrl import errors
from agentrl.tools.sandbox import Execution, Limits, SandboxPool, open_pool
from tests.tools.attack import files, kernel, network, processes, resources
from tests.tools.attack.kinds import HOLD, PREAMBLE

Level = Literal["namespaces", "landlock", "none", "auto"]
LIMITS = Limits(
    wall_seconds=20,
    cpu_seconds=1,
    memory_bytes=160 << 20,
    output_bytes=16 << 10,
    disk_bytes=8 << 20,
    files=100,
    processes=8,
)
TOPICS = (network, files, processes, kernel, resources)
ATTACKS = {
    f"{topic.__name__.rpartition('.')[2]}: {name}": attack
    for topic in TOPICS
    for name, attack in topic.ATTACKS.items()
}
_PATIENCE_SECONDS = 120.0
"""Attacks that compute need time on a busy machine to show that they would get through."""
NEIGHBOUR = r"""
import contextlib, socket
open("from-another-episode", "w").close()
with contextlib.suppress(OSError): open("/dev/shm/" + EPISODE, "w").close()
with contextlib.suppress(OSError):
    held = socket.socket(socket.AF_UNIX); held.bind("\0" + EPISODE)
"""
"""What the episode beside the attacked one does: all that it leaves is for itself."""


@contextlib.contextmanager
def facts() -> Iterator[str]:
    """Things of the host that attack code knows of and tries to reach, as assignments."""
    os.environ["AGENTRL_SECRET"] = "secret"
    abstract = f"agentrl-attack-{secrets.token_hex(8)}"
    memory = ctypes.create_string_buffer(b"secret", 8192)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        secret = Path(folder, "secret")
        secret.write_text("secret")
        secret.chmod(0o644)
        for name in ("secret.empty", "to-delete", "to-rename", "to-move"):
            Path(folder, name).write_text("x")
        known = {
            "PORT": _serve_everywhere(stack, folder, abstract),
            "ABSTRACT": abstract,
            "SECRET": str(secret),
            "FOLDER": folder,
            "FRAMEWORK": errors.__file__,
            "HOST_PID": os.getpid(),
            "HOST_GROUP": os.getpgid(0),
            "ADDRESS": ctypes.addressof(memory),
            "HOLD": HOLD,
        }
        yield "".join(f"{name} = {value!r}\n" for name, value in known.items())


def _serve_everywhere(stack: contextlib.ExitStack, folder: str, abstract: str) -> int:
    """Serve the secret at every kind of address; the port of those that have one."""
    four = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    port: int = four.getsockname()[1]
    streams = [four, socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
    datagrams = [
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
    ]
    streams[1].bind(f"\0{abstract}")
    streams[2].bind(f"{folder}/socket")
    datagrams[0].bind(("127.0.0.1", port))
    datagrams[1].bind(f"\0{abstract}-datagram")
    with contextlib.suppress(OSError):  # a machine without IPv6
        streams.append(socket.create_server(("::1", port), family=socket.AF_INET6))
        datagrams.append(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        datagrams[-1].bind(("::1", port))
    for stream in streams:
        stream.listen()
        _answer(stack, stream, _accept)
    for datagram in datagrams:
        _answer(stack, datagram, _reply)
    return port


def _answer(stack: contextlib.ExitStack, ours: socket.socket, one: Callable[[socket.socket], None]) -> None:
    """Answer in a thread until the stack unwinds."""
    ours.settimeout(0.2)
    ended = threading.Event()

    def loop() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                one(ours)
        ours.close()

    thread = threading.Thread(target=loop)
    thread.start()
    stack.callback(thread.join)
    stack.callback(ended.set)


def _accept(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(b"secret")


def _reply(ours: socket.socket) -> None:
    _, sender = ours.recvfrom(100)
    if sender:
        ours.sendto(b"secret", sender)


async def strike(pool: SandboxPool, code: str, *, known: str = "", timeout: float | None = None) -> Execution:
    """What attack code came to, in a sandbox of its own beside one of another episode."""
    neighbour, box = await pool.acquire(), await pool.acquire()
    name = f"agentrl-episode-{secrets.token_hex(8)}"
    known += f"EPISODE = {name!r}\n"
    try:
        for one, before in ((neighbour, NEIGHBOUR), (box, PREAMBLE)):
            ready = await one.run(known + before)
            assert ready.ok, f"an attack would fail for this alone: {ready.error}"
        return await box.run(code, timeout=timeout)
    finally:
        await box.close()
        await neighbour.close()
        Path("/dev/shm", name).unlink(missing_ok=True)


def make_pool(level: Level, *, limits: Limits = LIMITS, prelude: str = "") -> SandboxPool:
    if level == "none":
        return open_pool(unsafe_local=True, limits=limits, size=2, prelude=prelude)
    return open_pool(level=level, limits=limits, size=2, prelude=prelude)


async def survey(level: Level) -> dict[str, str]:
    """By attack: 'escaped', 'absent' where the kernel lacks the means, or how it was stopped."""
    results: dict[str, str] = {}
    with facts() as known:
        async with make_pool(level) as pool:
            assert pool.isolation == ("landlock" if level == "auto" else level), "auto: where namespaces fail"
            few = asyncio.Semaphore(6)

            async def one(name: str, code: str) -> None:
                async with few:
                    done = await strike(pool, code, known=known, timeout=_PATIENCE_SECONDS)
                said = [word for word in ("escaped", "absent") if word in done.values]
                results[name] = said[0] if said else done.error or "nothing found"

            await asyncio.gather(*(one(name, attack.code) for name, attack in ATTACKS.items()))
    return {name: results[name] for name in ATTACKS}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(survey(sys.argv[1]))))  # type: ignore[arg-type]
