"""Attacks on a sandbox, each with evidence of success; run as a script, it reports them as JSON.

A script, so that the same attacks can be made as another user: `python attacks.py namespaces`.
Attack code calls `emit("escaped")` only with evidence in hand. `FACTS` are told to it as plain text.
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from agentrl import errors
from agentrl.tools.sandbox import Execution, Limits, SandboxPool, open_pool

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

ATTACKS = {
    "network: TCP to the host": """
import socket
with socket.create_connection(("127.0.0.1", {port}), timeout=2) as s:
    if s.recv(100) == b"secret": emit("escaped")
""",
    "network: the host's abstract Unix socket": r"""
import socket
s = socket.socket(socket.AF_UNIX); s.connect("\0{abstract}")
if s.recv(100) == b"secret": emit("escaped")
""",
    "network: a datagram pair turned to another address": r"""
import socket
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
a.sendto(b"hello", "\0{abstract}-datagram")
emit("escaped")
""",
    "host files: read": """
if "secret" in open({secret!r}).read(): emit("escaped")
""",
    "host files: read through the shell": """
import subprocess
if "secret" in subprocess.run(["cat", {secret!r}], capture_output=True, text=True).stdout: emit("escaped")
""",
    "host files: list": """
import os
if os.listdir({folder!r}): emit("escaped")
""",
    "host files: write": """
open({folder!r} + "/new", "w").write("x"); emit("escaped")
""",
    "host files: truncate while opening to read": """
import os
os.open({secret!r} + ".empty", os.O_RDONLY | os.O_TRUNC); emit("escaped")
""",
    "host files: mode": """
import os
os.chmod({secret!r}, 0o600)
if os.stat({secret!r}).st_mode & 0o777 == 0o600: emit("escaped")
""",
    "host files: through another process": """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    if os.path.exists(f"/proc/{{pid}}/root" + {secret!r}) and pid != str(os.getpid()):
        if "secret" in open(f"/proc/{{pid}}/root" + {secret!r}).read(): emit("escaped")
""",
    "the framework": """
import agentrl.errors
emit("escaped")
""",
    "the framework's files": """
if "class" in open({framework!r}).read(): emit("escaped")
""",
    "environment": """
import os
text = str(os.environ)
for path in ("/proc/self/environ", "/proc/1/environ", f"/proc/{{os.getppid()}}/environ"):
    try: text += open(path).read()
    except OSError: pass
if "AGENTRL_SECRET" in text: emit("escaped")
""",
    "other episodes: files": """
import os
places = [os.getcwd(), os.path.dirname(os.getcwd()), "/tmp", "/dev/shm", "/var/tmp"]
for place in places:
    try:
        for folder, _, files in os.walk(place):
            for name in files:
                if name == "from-another-episode": emit("escaped")
    except OSError: pass
""",
    "other episodes: processes": """
import os
others = [p for p in os.listdir("/proc") if p.isdigit() and p != str(os.getpid())]
if others: emit("escaped")
""",
    "signal: the host": """
import os
os.kill({pid}, 0); emit("escaped")
""",
    "signal: the host by SIGIO": """
import fcntl, os
r, w = os.pipe()
fcntl.fcntl(r, fcntl.F_SETOWN, {pid})
if fcntl.fcntl(r, fcntl.F_GETOWN) == {pid}: emit("escaped")
""",
    "fork bomb": """
import os, time
children = 0
for _ in range(40):
    if os.fork() == 0: time.sleep(60)
    children += 1
    if children > 20: emit("escaped"); break
""",
    "threads without end": """
import threading, time
threading.stack_size(32768)
for _ in range(300):
    threading.Thread(target=time.sleep, args=(3,), daemon=True).start(); time.sleep(0.002)
time.sleep(0.5)
emit("escaped")
""",
    "memory: one process": """
blocks = [bytearray(16 << 20) for _ in range(20)]
emit("escaped")
""",
    "memory: the tree": """
import os, time
done = os.pipe()
for _ in range(5):
    if os.fork() == 0:
        block = bytearray(80 << 20); os.write(done[1], b"x"); time.sleep(60)
for _ in range(5): os.read(done[0], 1)
time.sleep(1)
emit("escaped")
""",
    "memory: shared": """
import mmap
maps = [mmap.mmap(-1, 40 << 20) for _ in range(10)]
for m in maps: m.write(b"x" * (40 << 20))
emit("escaped")
""",
    "memory: shared and dropped": """
import mmap, os
def fill():
    block = mmap.mmap(-1, 60 << 20)
    for at in range(0, 60 << 20, 4096): block[at] = 1
    block.madvise(mmap.MADV_DONTNEED)
    return block
{hold}
""",
    "memory: shared through a device": """
import mmap, os
def fill():
    block = mmap.mmap(os.open("/dev/zero", os.O_RDWR), 60 << 20)
    for at in range(0, 60 << 20, 4096): block[at] = 1
    block.madvise(mmap.MADV_DONTNEED)
    return block
{hold}
""",
    "memory: behind a first thread that has ended": """
import ctypes, os, threading, time
blocks, ready = [], threading.Event()
exit_thread = {{"x86_64": 60, "aarch64": 93}}[os.uname().machine]
def keep():
    blocks.append(bytearray(b"x") * (60 << 20)); time.sleep(0.1); os.write(done[1], b"x"); time.sleep(60)
done = os.pipe()
for _ in range(3):
    if os.fork() == 0:
        threading.Thread(target=keep).start(); ctypes.CDLL(None).syscall(exit_thread, 0)
for _ in range(3): os.read(done[0], 1)
time.sleep(1)
emit("escaped")
""",
    "memory: files without a name": """
import os
for n in range(20):
    fd = os.memfd_create(str(n)); os.write(fd, b"x" * (8 << 20))
emit("escaped")
""",
    "disk: one file": """
with open("big", "wb") as file:
    for _ in range(12): file.write(b"x" * (1 << 20)); file.flush()
emit("escaped")
""",
    "disk: deleted files": """
import os, time
held = []
for n in range(30):
    held.append(open(f"f{{n}}", "wb")); held[-1].write(b"x" * (4 << 20))
    held[-1].flush(); os.unlink(f"f{{n}}")
    time.sleep(0.02)
emit("escaped")
""",
    "disk: deleted files that are only mapped": """
import ctypes, os, time
map_file = ctypes.CDLL(None).mmap
map_file.restype, map_file.argtypes = ctypes.c_void_p, (ctypes.c_void_p, *[ctypes.c_size_t] * 5)
for n in range(10):
    with open(f"f{{n}}", "w+b") as file:
        file.write(b"x" * (4 << 20)); file.flush()
        assert map_file(None, 4096, 1, 2, file.fileno(), 0) != ctypes.c_void_p(-1).value
        os.unlink(f"f{{n}}")
    time.sleep(0.03)
time.sleep(0.5)
emit("escaped")
""",
    "disk: many files": """
import time
for n in range(2000):
    open(f"f{{n}}", "w").close()
    if n % 100 == 0: time.sleep(0.03)
emit("escaped")
""",
    "disk: out of the watchdog's sight": """
import os, time
for _ in range(20): os.mkdir("d" * 250); os.chdir("d" * 250)
os.mkdir("hidden", 0o300); os.chdir("hidden")
for n in range(10):
    with open(f"f{{n}}", "wb") as file: file.write(b"x" * (4 << 20))
    time.sleep(0.1)
emit("escaped")
""",
    "CPU": """
import os
while sum(os.times()[:2]) < 2: sum(range(100000))
emit("escaped")
""",
    "CPU: children that nobody waits for": """
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
r, w = os.pipe()
for _ in range(8):
    if os.fork() == 0:
        while sum(os.times()[:2]) < 0.25: sum(range(10000))
        os.write(w, b"x"); os._exit(0)
    os.read(r, 1)
emit("escaped")
""",
    "new user namespace": """
import ctypes
if ctypes.CDLL(None).unshare(0x10000000) == 0: emit("escaped")
""",
    "kernel: tracing": """
import ctypes
if ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0: emit("escaped")
""",
    "kernel: personality": """
import ctypes
if ctypes.CDLL(None).personality(0xFFFFFFFF) != -1: emit("escaped")
""",
    "one user's share: inotify": """
import ctypes
if ctypes.CDLL(None).inotify_init() >= 0: emit("escaped")
""",
    "one user's share: asynchronous input and output": """
import ctypes, os
context = ctypes.c_ulong()
number = {{"x86_64": 206, "aarch64": 0}}[os.uname().machine]
if ctypes.CDLL(None).syscall(number, 10, ctypes.byref(context)) == 0: emit("escaped")
""",
    "kernel memory: larger socket buffers": """
import socket
a, b = socket.socketpair()
a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
emit("escaped")
""",
    "kernel memory: many sockets": """
import socket
pairs = [socket.socketpair() for _ in range(40)]
emit("escaped")
""",
    "one user's share: descriptors in flight": """
import os, socket
a, b = socket.socketpair()
for _ in range(20): socket.send_fds(a, [b"x"], [0, 1, 2])
emit("escaped")
""",
    "forged verdict in a file": """
open({folder!r} + "/verdict", "w").write("passed"); emit("escaped")
""",
}
HOLD = """
import time
done = os.pipe()
for _ in range(5):
    if os.fork() == 0:
        os.close(done[0])
        block = fill(); os.write(done[1], b"x"); time.sleep(60)
os.close(done[1])
for _ in range(5): assert os.read(done[0], 1)
time.sleep(1)
emit("escaped")
"""
"""Five processes that keep what `fill` gives."""


@contextlib.contextmanager
def facts() -> Iterator[dict[str, object]]:
    """Things of the host that attack code knows of and tries to reach."""
    os.environ["AGENTRL_SECRET"] = "secret"
    abstract = f"agentrl-attack-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        secret = Path(folder, "secret")
        secret.write_text("secret")
        Path(f"{secret}.empty").write_text("x")
        secret.chmod(0o644)
        port = _listen(stack, socket.socket(), ("127.0.0.1", 0))[1]
        _listen(stack, socket.socket(socket.AF_UNIX), f"\0{abstract}")
        datagrams = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagrams.bind(f"\0{abstract}-datagram")
        yield {
            "port": port,
            "abstract": abstract,
            "secret": str(secret),
            "folder": folder,
            "pid": os.getpid(),
            "framework": errors.__file__,
            "hold": HOLD,
        }


def _listen(stack: contextlib.ExitStack, listener: socket.socket, address: object) -> tuple[str, int]:
    listener.bind(address)  # type: ignore[arg-type]
    listener.listen()
    stack.callback(listener.close)
    stack.callback(lambda: listener.shutdown(socket.SHUT_RDWR))

    def answer() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b"secret")

    threading.Thread(target=answer, daemon=True).start()
    return listener.getsockname()  # type: ignore[no-any-return]


async def strike(pool: SandboxPool, code: str, *, timeout: float | None = None) -> Execution:
    """What attack code came to, in a sandbox of its own beside one of another episode."""
    neighbour, box = await pool.acquire(), await pool.acquire()
    try:
        await neighbour.run("open('from-another-episode', 'w').close()")
        return await box.run(code, timeout=timeout)
    finally:
        await box.close()
        await neighbour.close()


def make_pool(level: Level, *, limits: Limits = LIMITS, prelude: str = "") -> SandboxPool:
    if level == "none":
        return open_pool(unsafe_local=True, limits=limits, size=2, prelude=prelude)
    return open_pool(level=level, limits=limits, size=2, prelude=prelude)


async def survey(level: Level) -> dict[str, str]:
    """By attack: 'escaped', or how it was stopped."""
    results: dict[str, str] = {}
    with facts() as known:
        async with make_pool(level) as pool:
            assert pool.isolation == ("landlock" if level == "auto" else level), "auto: where namespaces fail"
            few = asyncio.Semaphore(4)

            async def one(name: str, code: str) -> None:
                async with few:
                    done = await strike(pool, code.format(**known))
                results[name] = "escaped" if "escaped" in done.values else done.error or "nothing found"

            await asyncio.gather(*(one(name, code) for name, code in ATTACKS.items()))
    return {name: results[name] for name in ATTACKS}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(survey(sys.argv[1]))))  # type: ignore[arg-type]
