"""What honest code can do, and how what goes wrong in it becomes an observation."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from agentrl.tools.sandbox import Execution, Sandbox
from tests.tools.attacks import LIMITS, Level
from tests.tools.levels import Pools, every_level, isolating_level, open_pools


@pytest.fixture(scope="module")
def pools() -> Iterator[Pools]:
    with open_pools() as opened:
        yield opened


WORKS = {
    "print": ("print(2 + 2)", "4\n"),
    "unicode": ("print('Größe \\N{SNOWMAN}')", "Größe ☃\n"),
    "numpy": (
        "import numpy as np\nprint(np.linalg.solve(np.array([[2., 0], [0, 4]]), [2, 4]).tolist())",
        "[1.0, 1.0]\n",
    ),
    "files": (
        "open('a.txt', 'w').write('hello')\nimport shutil\nshutil.copy('a.txt', 'b.txt')\n"
        "import os\nos.mkdir('d'); os.rename('b.txt', 'd/c.txt')\nprint(open('d/c.txt').read())",
        "hello\n",
    ),
    "temporary files": (
        "import tempfile\nwith tempfile.TemporaryFile('w+') as f:\n"
        "    f.write('x'); f.seek(0); print(f.read())",
        "x\n",
    ),
    "recursion": ("f = lambda n: n and 1 + f(n - 1)\nprint(f(900))", "900\n"),
    "threads": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as e: print(sum(e.map(abs, range(-9, 9))))",
        "81\n",
    ),
    "asyncio": ("import asyncio\nprint(asyncio.run(asyncio.sleep(0.001, 'slept')))", "slept\n"),
    "dataclasses": (
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nprint(P(1))",
        "P(x=1)\n",
    ),
    "order of streams": (
        "import sys, os\nprint('a'); print('b', file=sys.stderr); os.write(1, b'c\\n'); print('d')",
        "a\nb\nc\nd\n",
    ),
    "a pair of sockets": (
        "import socket\na, b = socket.socketpair()\na.sendall(b'hi'); print(b.recv(9))",
        "b'hi'\n",
    ),
    "numpy's files and random numbers": (
        "import numpy as np\nnp.save('a.npy', np.random.default_rng(0).integers(9, size=4))\n"
        "print(np.load('a.npy').tolist())",
        "[7, 5, 4, 2]\n",
    ),
    "a database": (
        "import sqlite3\nd = sqlite3.connect('d.db'); d.execute('create table t (x)')\n"
        "d.execute('insert into t values (?)', (4,)); d.commit()\n"
        "print(d.execute('select x from t').fetchall())",
        "[(4,)]\n",
    ),
    "deep recursion": (
        "import sys\nsys.setrecursionlimit(20000)\nf = lambda n: n and 1 + f(n - 1)\nprint(f(15000))",
        "15000\n",
    ),
    "a signal to itself": (
        "import signal\nsignal.signal(signal.SIGALRM, lambda *a: print('rang'))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.01); signal.pause()",
        "rang\n",
    ),
    "names that are no text": (
        "import os\nopen(b'\\xff\\n', 'w').close(); os.mkfifo('pipe'); os.symlink('/', 'link')\n"
        "print(sorted(os.listdir(b'.')))",
        "[b'link', b'pipe', b'\\xff\\n']\n",
    ),
    "an error that is caught": (
        "import traceback\ntry: {}['x']\nexcept KeyError: print(traceback.format_exc().splitlines()[-1])",
        "KeyError: 'x'\n",
    ),
    "a module of one's own": (
        "import sys\nopen('mine.py', 'w').write('x = 5'); sys.path.insert(0, '.')\n"
        "import mine; print(mine.x)",
        "5\n",
    ),
    "clean environment and input": ("try: input()\nexcept EOFError: print('no input')", "no input\n"),
}
NEEDS_PROCESSES = {
    "shell": ("import subprocess\nsubprocess.run('echo hello | tr a-z A-Z', shell=True)", "HELLO\n"),
    "multiprocessing": (
        "import multiprocessing as m\ndef f(x): return x * x\n"
        "with m.get_context('fork').Pool(2) as p: print(p.map(f, range(4)))",
        "[0, 1, 4, 9]\n",
    ),
    "multiprocessing with shared values": (
        "import multiprocessing as m\nc = m.get_context('fork'); v = c.Value('i', 0)\n"
        "def f(): \n    with v.get_lock(): v.value += 1\n"
        "ps = [c.Process(target=f) for _ in range(3)]\n"
        "for p in ps: p.start()\nfor p in ps: p.join()\nprint(v.value)",
        "3\n",
    ),
    "a pool of processes": (
        "from concurrent.futures import ProcessPoolExecutor as P\nimport multiprocessing as m\n"
        "with P(2, mp_context=m.get_context('fork')) as p: print(list(p.map(abs, (-1, -2))))",
        "[1, 2]\n",
    ),
    "Python in Python": (
        "import subprocess, sys\n"
        "print(subprocess.check_output([sys.executable, '-c', 'print(6)'], text=True))",
        "6\n\n",
    ),
    "zeros": ("import subprocess\nsubprocess.run('head -c 3 /dev/zero | wc -c', shell=True)", "3\n"),
    "fork": (
        "import os\nif os.fork() == 0: os._exit(3)\nprint(os.waitstatus_to_exitcode(os.wait()[1]))",
        "3\n",
    ),
    "a child that comes back": ("import os\npid = os.fork()\nif pid: os.wait(); print('once')", "once\n"),
}


@every_level
@pytest.mark.parametrize("name", WORKS)
def test_honest_code_works(pools: Pools, level: Level, name: str) -> None:
    code, output = WORKS[name]
    (done,) = pools.run(level, code)
    assert (done.error, done.output, done.ok, done.alive) == ("", output, True, True)


@pytest.mark.parametrize("name", NEEDS_PROCESSES)
def test_processes_work_with_namespaces(pools: Pools, name: str) -> None:
    code, output = NEEDS_PROCESSES[name]
    (done,) = pools.run("namespaces", code)
    assert (done.error, done.output) == ("", output)


@every_level
def test_names_are_kept_and_nothing_is_echoed(pools: Pools, level: Level) -> None:
    first, second, third = pools.run(level, "x = 20", "x + 1", "print(x + 1)")
    assert (first.output, second.output, third.output) == ("", "", "21\n")


@every_level
def test_a_thread_that_outlives_its_call_does_no_harm(pools: Pools, level: Level) -> None:
    late = (
        "import threading, time\n"
        "def late():\n    time.sleep(0.05)\n    for _ in range(3): emit('x' * 50_000)\n"
    )

    async def work(box: Sandbox) -> list[Execution]:
        start = asyncio.create_task(box.run(late + "threading.Thread(target=late, daemon=True).start()"))
        for _ in range(3):
            await asyncio.sleep(0)
        time.sleep(0.3)  # a busy host: it then reads the end of the call and half a frame at once
        return [await start, await box.run("print(2); emit(2)"), await box.run("print(3)")]

    first, *later = pools.do(level, work)
    assert first.ok and not first.values
    assert [(done.error, done.output, done.values) for done in later] == [("", "2\n", (2,)), ("", "3\n", ())]


@every_level
def test_values_come_back_as_exact_types(pools: Pools, level: Level) -> None:
    (done,) = pools.run(level, "emit({'a': (1, 2.5, None), 3: b'x'}); emit({True, frozenset({2})})")
    assert done.values == ({"a": (1, 2.5, None), 3: b"x"}, {True, frozenset({2})})
    assert type(done.values[0]) is dict


@pytest.mark.parametrize(
    "value", ["object()", "print", "10 ** 9000", "'\\ud800'", "type('T', (int,), {})(3)"]
)
def test_what_cannot_be_sent_is_an_error_of_the_code(pools: Pools, value: str) -> None:
    (done,) = pools.run("namespaces", f"emit({value})")
    assert "cannot be sent" in done.error and done.alive and not done.values


def test_too_many_values_are_an_error_of_the_code(pools: Pools) -> None:
    (done,) = pools.run("namespaces", "for n in range(100000): emit(n)")
    assert "are left" in done.error and done.alive
    assert done.values[:3] == (0, 1, 2)


@every_level
def test_a_traceback_shows_the_code_and_not_the_machinery(pools: Pools, level: Level) -> None:
    (done,) = pools.run(level, "def f(x):\n    return 1 / x\nprint('before')\nf(0)")
    first, second, *_ = done.error.splitlines()
    assert (first, second) == ("Traceback (most recent call last):", '  File "<call 1>", line 4, in <module>')
    assert done.error.endswith("ZeroDivisionError: division by zero") and "return 1 / x" in done.error
    assert (done.output, done.ok, done.alive, done.limit) == ("before\n", False, True, None)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("x =", "SyntaxError"),
        ("def f(): f()\nf()", "RecursionError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("exit(3)", "SystemExit: 3"),
        ("'\\0' + 1; \0", "SyntaxError"),
        ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E", "E"),
        ("import nothing_like_this", "ModuleNotFoundError"),
    ],
)
def test_errors_are_observations(pools: Pools, code: str, error: str) -> None:
    done, after = pools.run("namespaces", code, "print('alive')")
    assert error in done.error and done.alive
    assert after.output == "alive\n"


@every_level
def test_leaving_quietly_is_no_error(pools: Pools, level: Level) -> None:
    assert all(done.ok for done in pools.run(level, "exit()", "raise SystemExit(0)"))


@every_level
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import os; os._exit(3)", "exited with status 3"),
        ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV"),
        ("import os, signal; os.close(3); signal.pause()", "closed its channel"),
    ],
)
def test_an_interpreter_that_ends_is_an_observation(
    pools: Pools, level: Level, code: str, error: str
) -> None:
    done, after = pools.run(level, "print('said'); " + code, "print(1)")
    assert error in done.error and not done.alive
    assert done.output == "said\n"
    assert "the interpreter is gone" in after.error and not after.alive


@every_level
def test_output_is_cut_at_the_limit_and_says_so(pools: Pools, level: Level) -> None:
    done, after = pools.run(level, "print('x' * (10 << 20))", "print('fine')")
    assert done.ok and done.alive and done.limit == "output"
    assert done.output.startswith("xxx") and len(done.output) < LIMITS.output_bytes + 200
    assert f"{(10 << 20) + 1} bytes written" in done.output
    assert after.output == "fine\n" and after.limit is None


@every_level
def test_output_without_end_is_stopped(pools: Pools, level: Level) -> None:
    (done,) = pools.run(level, "import os\nwhile True: os.write(1, b'x' * 65536)")
    assert done.limit == "output" and not done.alive and len(done.output) < LIMITS.output_bytes + 200


@every_level
def test_a_time_limit_kills_what_ignores_signals(pools: Pools, level: Level) -> None:
    ignore = "import signal\nfor s in (2, 14, 15): signal.signal(s, signal.SIG_IGN)\n"
    code = ignore + "emit(1)\nprint('x')\nwhile True: pass"
    done, after = pools.run(level, code, "print(1)", timeout=0.3)
    assert (done.limit, done.alive, done.values, done.output) == ("wall", False, (1,), "x\n")
    assert 0.3 <= done.seconds < 3
    assert "time limit" in after.error


@isolating_level
@pytest.mark.parametrize(
    ("code", "limit"),
    [
        ("x = bytearray(1 << 30)", "memory"),
        ("open('f', 'wb').write(b'x' * (20 << 20))", "disk"),
        ("while True: pass", "cpu"),
    ],
)
def test_a_limit_has_a_name(pools: Pools, level: Level, code: str, limit: str) -> None:
    (done,) = pools.run(level, code)
    assert done.limit == limit and not done.ok


def test_the_limit_of_processes_has_a_name(pools: Pools) -> None:
    code = "import os, time\nfor _ in range(50):\n    if os.fork() == 0: time.sleep(9)"
    (done,) = pools.run("namespaces", code)
    assert done.limit == "processes" and done.alive
