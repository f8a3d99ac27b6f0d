"""One episode against another: what it starves, leaves or shouts reaches nobody else."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import pytest

from agentrl.tools.sandbox import Execution, Sandbox
from agentrl.tools.sandbox.guarantees import guarantees, shares_by_session
from tests.tools.attacks import Level
from tests.tools.levels import Pools, isolating_level, open_pools

THREADS = """
import threading, time
started = []
def sleep(): started.append(1); time.sleep(8)
try:
    for _ in range(100): threading.Thread(target=sleep, daemon=True).start()
except RuntimeError: pass
time.sleep(1.5)  # where only the watchdog counts threads, it needs a look
emit(len(started))
"""
FORKS = """
import os, time
children = []
try:
    while len(children) < 100:
        pid = os.fork()
        if pid == 0: time.sleep(8); os._exit(0)
        children.append(pid)
except OSError: pass
emit(len(children))
"""
SOME_THREADS = """
import threading
threads = [threading.Thread(target=print, args=(n,)) for n in range(5)]
for t in threads: t.start()
for t in threads: t.join()
emit("well")
"""
SOME_PROCESSES = """
import os
for n in range(5):
    if os.fork() == 0: os._exit(0)
for n in range(5): os.wait()
emit("well")
"""
GREEDY = {
    "memory": "x = []\nwhile True: x.append(bytearray(8 << 20))",
    "disk": "for n in range(9999): open(str(n % 300), 'wb').write(b'x' * (1 << 20))",
    "files": "for n in range(9999): open(str(n), 'w').close()",
    "output": "import os\nfor _ in range(300): os.write(1, b'x' * 65536)",
    "descriptors": "import os\nwhile True: os.pipe()",
    "values": "while True: emit('x' * 1000)",
    "signals": "import os, signal\nfor s in (2, 15, 9): os.kill(-1, s)",
}
WELL = """
import os
data = bytearray(20 << 20)
with open("own", "wb") as file: file.write(b"x" * (2 << 20))
r, w = os.pipe(); os.write(w, b"x")
print("shown"); emit(os.read(r, 1)); os.close(r); os.close(w)
"""
SPIN = "import time\nend = time.monotonic() + 0.7\nwhile time.monotonic() < end: pass\n"
SPIN_ALONE = f"{SPIN}emit(time.process_time())"
SIX = "import os\nfor _ in range(5):\n    if os.fork() == 0: break\n"
SIX_SESSIONS = """
import os
for _ in range(5):
    if os.fork() == 0:
        try: os.setsid()
        except PermissionError: pass
        break
"""
DAEMON = """
import os, signal, time
if os.fork() == 0:
    try: os.setsid()
    except PermissionError: pass
    if os.fork(): os._exit(0)
    for s in range(1, 65):
        try: signal.signal(s, signal.SIG_IGN)
        except (OSError, ValueError): pass
    os.closerange(0, 64)
    time.sleep(TIME); os._exit(0)
"""


@pytest.fixture(scope="module")
def pools() -> Iterator[Pools]:
    with open_pools() as opened:
        yield opened


def beside(pools: Pools, level: Level, attack: str, honest: str) -> tuple[Execution, list[Execution]]:
    """How an attack went, and how honest code went again and again, from its beginning to after its end."""
    pool = pools.pool(level)

    async def main() -> tuple[Execution, list[Execution]]:
        attacker, other = await pool.acquire(), await pool.acquire()
        try:
            attacked = asyncio.ensure_future(attacker.run(attack))
            found = [await other.run(honest)]
            while not attacked.done():
                found.append(await other.run(honest))
            return await attacked, [*found, await other.run(honest)]
        finally:
            await attacker.close()
            await other.close()

    return pools._runner.run(main())


@isolating_level
def test_threads_of_one_leave_threads_for_another(pools: Pools, level: Level) -> None:
    attacked, others = beside(pools, level, THREADS, SOME_THREADS)
    started = attacked.values[0] if attacked.values else 0
    assert attacked.limit == "processes" or (isinstance(started, int) and started < 8)
    assert [o.values for o in others if o.values != ("well",)] == [], others


def test_processes_of_one_leave_processes_for_another(pools: Pools) -> None:
    attacked, others = beside(pools, "namespaces", FORKS, SOME_PROCESSES)
    started = attacked.values[0] if attacked.values else 0
    assert attacked.limit == "processes" or (isinstance(started, int) and started < 8)
    assert [o.values for o in others if o.values != ("well",)] == [], others


@isolating_level
@pytest.mark.parametrize("what", GREEDY)
def test_what_one_uses_up_is_its_own(pools: Pools, level: Level, what: str) -> None:
    attacked, others = beside(pools, level, GREEDY[what], WELL)
    assert not attacked.ok or attacked.limit
    assert {(o.values, o.output, o.error) for o in others} == {((b"x",), "shown\n", "")}


@pytest.mark.parametrize("six", [SIX, SIX_SESSIONS], ids=["fork", "setsid"])
def test_the_processors_are_shared_out_by_sandbox(pools: Pools, six: str) -> None:
    """Six processes of one get together about what one process of another gets, or the report says no."""
    pool = pools.pool("namespaces")

    async def main() -> tuple[Execution, Execution]:
        crowd, alone = await pool.acquire(), await pool.acquire()
        try:
            async with asyncio.TaskGroup() as group:
                many = group.create_task(crowd.run(f"{six}{SPIN_ALONE}"))
                one = group.create_task(alone.run(SPIN_ALONE))
            return many.result(), one.result()
        finally:
            await crowd.close()
            await alone.close()

    many, one = pools._runner.run(main())
    assert isinstance(one.values[0], float) and isinstance(many.values[0], float)
    said = [text for text in guarantees("namespaces") if "processors" in text]
    assert [text.startswith("NOT HELD") for text in said] == [not shares_by_session()]
    assert one.values[0] > 2 * many.values[0] or not shares_by_session()


def sleepers(marker: str) -> list[int]:
    """Processes of the whole machine that carry a marker in what they were started with or sleep for."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm") as file:
                if file.read().strip() == marker:
                    found.append(int(pid))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("level", ["namespaces", "none"])
def test_a_daemon_ends_with_its_sandbox(pools: Pools, level: Level) -> None:
    """Twice forked, in a session of its own if it gets one, deaf to signals; without walls it lives on."""
    marker = f"daemon-{os.getpid()}"
    rename = f"import ctypes\nctypes.CDLL(None).prctl(15, {marker.encode()!r}, 0, 0, 0)\n"

    async def work(box: Sandbox) -> Execution:
        done = await box.run(rename + DAEMON.replace("TIME", "30"))
        assert len(sleepers(marker)) >= 2, "the daemon and the interpreter that it came from"
        return done

    assert pools.do(level, work).ok
    deadline = time.monotonic() + 5
    while level == "namespaces" and sleepers(marker) and time.monotonic() < deadline:
        time.sleep(0.02)
    left = sleepers(marker)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert bool(left) == (level == "none")
