"""Starting, handing out, killing, closing: nothing is used twice and nothing is left."""

import asyncio
import glob
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from agentrl.errors import ConfigError, SandboxError, SandboxUnavailable
from agentrl.tools.sandbox import Execution, Sandbox, SandboxPool, open_pool, probe_levels
from agentrl.tools.sandbox.guarantees import guarantees
from agentrl.tools.sandbox.guest import kernel, wire
from tests.tools.attacks import LIMITS, Level, make_pool
from tests.tools.levels import Pools, every_level, isolating_level, open_pools
from tests.waiting import soon

HOST = """
import asyncio, os, sys
from tests.tools.attacks import make_pool
async def main():
    async with make_pool(sys.argv[1]) as pool:
        box = await pool.acquire()
        ignore = "import signal; signal.signal(15, signal.SIG_IGN)"
        task = asyncio.create_task(box.run(ignore + chr(10) + "while True: pass"))
        await asyncio.sleep(0.3)
        print("ready", flush=True)
        await task
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def pools() -> Iterator[Pools]:
    with open_pools() as opened:
        yield opened


def descendants(root: int) -> set[int]:
    """The numbers of all living processes that a process started, directly or not."""
    parents: dict[int, int] = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state != b"Z":
            parents[int(path.split("/")[2])] = int(parent)
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {root}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def folders() -> set[str]:
    return set(glob.glob(f"{tempfile.gettempdir()}/agentrl-sandbox-*"))


def wait_until_gone(pids: set[int]) -> None:
    assert soon(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids)), f"still there: {pids}"


@every_level
def test_nothing_is_left_after_closing(level: Level) -> None:
    before = descriptors(), folders(), descendants(os.getpid())

    async def main() -> set[int]:
        async with make_pool(level) as pool:
            boxes = [await pool.acquire() for _ in range(5)]
            await boxes[0].run("open('f', 'w').write('x')")
            await boxes[1].run("import time\nwhile True: pass", timeout=0.1)
            await boxes[0].close()
            await boxes[0].close()
            return descendants(os.getpid())

    started = asyncio.run(main()) - before[2]
    assert started
    wait_until_gone(started)
    assert descriptors() == before[0]
    assert not {path for path in folders() - before[1] if str(os.getpid()) in path}


@every_level
def test_a_killed_host_takes_everything_along(level: Level) -> None:
    host = subprocess.Popen([sys.executable, "-c", HOST, level], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None and host.stdout.readline() == "ready\n"
    started = descendants(host.pid)
    assert started
    host.kill()
    host.wait()
    host.stdout.close()
    wait_until_gone(started)


def test_no_sandbox_can_name_the_folder_of_another(pools: Pools) -> None:
    one, two = (pools.run("landlock", "import os; emit(os.getcwd())")[0].values[0] for _ in range(2))
    assert isinstance(one, str) and isinstance(two, str)
    assert os.path.dirname(one) == os.path.dirname(two) and one != two
    assert len(os.path.basename(one)) == len(os.path.basename(two)) == 32


@every_level
def test_a_dead_zygote_is_our_failure_and_is_replaced(level: Level) -> None:
    async def main() -> str:
        async with make_pool(level) as pool:
            box = await pool.acquire()
            running = asyncio.create_task(box.run("import time; time.sleep(30)"))
            await asyncio.sleep(0.2)
            os.kill(zygote_of(pool), signal.SIGKILL)
            with pytest.raises(SandboxError):
                await running
            await asyncio.sleep(0.2)
            return await answer_after_restart(pool)

    assert asyncio.run(main()) == "4\n"


def zygote_of(pool: SandboxPool) -> int:
    assert pool._server is not None and pool._server._process is not None
    started = pool._server._process.pid
    if pool.isolation != "namespaces":
        return started
    with open(f"/proc/{started}/task/{started}/children") as file:  # of bubblewrap
        return int(file.read())


async def answer_after_restart(pool: SandboxPool) -> str:
    for _ in range(20):
        try:
            box = await pool.acquire()
            return (await box.run("print(4)")).output
        except SandboxError:  # one that was ready when the zygote died
            continue
    raise AssertionError("no sandbox after 20 tries")


@every_level
def test_an_abandoned_call_kills_its_interpreter(pools: Pools, level: Level) -> None:
    async def work(box: Sandbox) -> bool:
        task = asyncio.create_task(box.run("while True: pass"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return (await box.run("print(1)")).alive

    assert pools.do(level, work) is False


@isolating_level
def test_sandboxes_share_nothing(pools: Pools, level: Level) -> None:
    first = pools.run(
        level, "import builtins, os\nbuiltins.x = 1\nopen('f', 'w').close()\nprint(os.listdir('.'))"
    )
    second = pools.run(level, "import os\nprint('x' in dir(__builtins__), os.listdir('.'))")
    assert (first[0].output, second[0].output) == ("['f']\n", "False []\n")


@every_level
def test_many_at_once(pools: Pools, level: Level) -> None:
    pool = pools.pool(level)

    async def one(number: int) -> str:
        box = await pool.acquire()
        try:
            return (await box.run(f"print({number})")).output
        finally:
            await box.close()

    async def main() -> list[str]:
        return await asyncio.gather(*(one(number) for number in range(64)))

    assert pools._runner.run(main()) == [f"{number}\n" for number in range(64)]


LIES = {
    "garbage": b"garbage",
    "a huge size": b"\xff" * 100,
    "an ending that is none": wire.frame(wire.DONE, 1, b"N"),
    "an unknown limit": wire.frame(wire.DONE, 1, wire.encode(("", "no such limit"))),
    "a pickle": wire.frame(wire.VALUE, 1, b"\x80\x04."),
    "a later call": wire.frame(wire.DONE, 2, wire.encode(("", ""))),
    "a second greeting": wire.frame(wire.READY, 1, b""),
    "a flood of old frames": wire.frame(wire.VALUE, 0, b""),
}


@isolating_level
@pytest.mark.parametrize("name", LIES)
def test_lies_on_the_channel_are_an_observation(pools: Pools, level: Level, name: str) -> None:
    repeat = 300_000 if "flood" in name else 1
    write = "import os\nwhile data: data = data[os.write(3, data):]"
    done, after = pools.run(level, f"data = memoryview({LIES[name]!r} * {repeat})\n{write}", "print(1)")
    assert "malformed" in done.error and not done.alive
    assert not after.ok


def test_an_early_ending_does_not_shift_later_answers(pools: Pools) -> None:
    lie = wire.frame(wire.DONE, 1, wire.encode(("", "")))
    first, second, third = pools.run("namespaces", f"import os\nos.write(3, {lie!r})", "print(2)", "print(3)")
    assert first.ok and (second.output, third.output) == ("2\n", "3\n")


def test_no_level_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(kernel, "landlock_version", lambda: 0)
    with pytest.raises(SandboxUnavailable) as caught:
        open_pool()
    for remedy in ("apt-get install bubblewrap", "5.13", "--unsafe-local"):
        assert remedy in str(caught.value)
    assert [report.works for report in probe_levels()] == [False, False]
    assert open_pool(unsafe_local=True).isolation == "none"


def test_without_namespaces_the_other_level_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert open_pool().isolation == "landlock"


def test_a_pool_opens_inside_a_running_loop() -> None:
    async def main() -> str:
        async with open_pool(limits=LIMITS, size=1, prelude="x = 5", preload=("json",)) as pool:
            box = await pool.acquire(prelude="y = x + 1")
            return (await box.run("print(x, y)")).output

    assert asyncio.run(main()) == "5 6\n"


@every_level
def test_what_a_prelude_shows_is_thrown_away(level: Level) -> None:
    shows = "print('x' * 100_000); emit('x' * 100_000); y = 1"

    async def main() -> Execution:
        async with make_pool(level, prelude=shows) as pool:
            box = await pool.acquire()
            return await box.run("print(y); emit(y)")

    done = asyncio.run(main())
    assert (done.output, done.values, done.error) == ("1\n", (1,), "")


@pytest.mark.parametrize("whose", ["pool", "acquire"])
def test_a_prelude_that_fails_says_so(whose: str) -> None:
    async def main() -> None:
        async with make_pool("landlock", prelude="1 / 0" if whose == "pool" else "") as pool:
            await pool.acquire(prelude="1 / 0")

    with pytest.raises(ValueError, match="prelude failed(?s:.*)ZeroDivisionError"):
        asyncio.run(main())


def test_a_prelude_that_is_no_python_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="prelude is no Python"):
        open_pool(unsafe_local=True, prelude="x =")


def test_reports_are_plain_data_and_say_whether_one_can_starve_another() -> None:
    for report in probe_levels():
        assert json.dumps(report.guarantees) and (report.works or report.detail)
        assert sum("one against another" in text for text in report.guarantees) == 2


def test_a_kernel_that_counts_all_processes_together_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentrl.tools.sandbox.guarantees.first_user_of", lambda level: 0)
    monkeypatch.setattr("platform.release", lambda: "5.10.0-30-amd64")
    assert any("NOT HELD" in text and "5.14" in text for text in guarantees("namespaces"))
