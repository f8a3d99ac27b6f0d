"""What fools a judge that shares its interpreter with the program does not fool one that shares only data."""

import asyncio
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentrl.envs.code.judge import Case, judge
from tests.tools.attacks import Level
from tests.tools.levels import Pools, isolating_level, open_pools

NAIVE = """
import json, pickle, sys
CASES = [(3, 6), (5, 10), (21, 42)]
names = {}
def check():
    exec(sys.stdin.read(), names)
    results = [names["double"](given) == wanted for given, wanted in CASES]
    return all(results)
try: passed = check()
except Exception: passed = False
if sys.argv[1] == "pickle": sys.stdout.buffer.write(pickle.dumps(passed)); sys.stdout.flush()
else: print(json.dumps({"passed": passed}))
sys.exit(not passed)
"""
"""A judge as many are written: it runs the program, compares, and says so by what is read below."""
READERS: dict[str, Callable[[subprocess.CompletedProcess[bytes]], bool]] = {
    "exit code": lambda done: done.returncode == 0,
    "last line": lambda done: bool(json.loads(done.stdout.splitlines()[-1])["passed"]),
    "pickle": lambda done: bool(pickle.loads(done.stdout)),
}
WRONG = "\ndef double(n): return 0\n"
YES = """print('{"passed": true}', flush=True)"""
FORGERIES = {
    "an __eq__ that agrees": (
        "exit code",
        "class N(int):\n    def __eq__(self, other): return True\ndef double(n): return N(0)\n",
    ),
    "an object that equals all": (
        "exit code",
        "class Any:\n    __eq__ = lambda self, other: True\ndouble = lambda n: Any()\n",
    ),
    "a text that equals all": (
        "exit code",
        "class S(str):\n    def __eq__(self, other): return True\n    __hash__ = str.__hash__\n"
        "def double(n): return S('0')\n",
    ),
    "all() patched": ("exit code", "import builtins\nbuiltins.all = lambda results: True" + WRONG),
    "json patched": ("last line", """import json\njson.dumps = lambda value: '{"passed": true}'""" + WRONG),
    "pickle patched": (
        "pickle",
        "import pickle\nreal = pickle.dumps\npickle.dumps = lambda v: real(True)" + WRONG,
    ),
    "print patched": (
        "last line",
        "import builtins\nreal = print\n"
        """builtins.print = lambda *a: real('{"passed": true}')""" + WRONG,
    ),
    "sys.exit patched": ("exit code", "import os, sys\nsys.exit = lambda code: os._exit(0)" + WRONG),
    "exit": ("exit code", "raise SystemExit(0)\n"),
    "exit in the call": ("exit code", "import sys\ndef double(n): sys.exit(0)\n"),
    "exit at once": ("exit code", "import os\ndef double(n): os._exit(0)\n"),
    "a line that looks like a verdict": (
        "last line",
        f"import os\ndef double(n):\n    {YES}\n    os._exit(1)\n",
    ),
    "a last line at the end": ("last line", f"import atexit\natexit.register(lambda: {YES})" + WRONG),
    "a last line when it is forgotten": (
        "last line",
        f"class End:\n    def __del__(self, print=print): {YES}\nend = End()" + WRONG,
    ),
    "a last line from a thread": (
        "last line",
        f"import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), {YES})).start()" + WRONG,
    ),
    "a pickle that decides itself": (
        "pickle",
        "import pickle\nclass Yes:\n    def __reduce__(self): return bool, (1,)\n"
        "real = pickle.dumps\npickle.dumps = lambda v: real(Yes())" + WRONG,
    ),
    "the judge's frame": (
        "exit code",
        "import sys\nglobals_ = sys._getframe(1).f_globals\n"
        "def double(n): return dict(globals_['CASES'])[n]\n"
        "globals_['CASES'][:] = [(n, 0) for n, _ in globals_['CASES']]" + WRONG,
    ),
    "the judge's module": (
        "exit code",
        "import sys\nmain = sys.modules['__main__']\nmain.CASES = []" + WRONG,
    ),
    "the judge's objects": (
        "exit code",
        "import gc\nfor found in gc.get_objects():\n"
        "    if type(found) is list and found[:1] == [(3, 6)]: found.clear()" + WRONG,
    ),
    "tracing": (
        "exit code",
        "import sys, os\ndef trace(frame, event, argument):\n"
        "    if frame.f_code.co_name == '<module>' and event == 'line': os._exit(0)\n    return trace\n"
        "sys._getframe(2).f_trace = trace\nsys.settrace(trace)" + WRONG,
    ),
    "profiling": (
        "exit code",
        "import sys, os\n"
        "sys.setprofile(lambda f, event, a: os._exit(0) if f.f_code.co_name == 'check' else None)" + WRONG,
    ),
    "an import hook": (
        "last line",
        "import sys\nclass Hook:\n    def find_spec(self, *a): return None\n"
        "sys.meta_path.insert(0, Hook())\nimport json\n"
        """json.JSONEncoder.encode = lambda self, value: '{"passed": true}'""" + WRONG,
    ),
    "a handler of uncaught errors": (
        "exit code",
        "import sys, os\nsys.excepthook = lambda *a: os._exit(0)\nclass E(BaseException): pass\n"
        "def double(n): raise E\n",
    ),
    "a forked twin": (
        "last line",
        f"import os, time\nif os.fork():\n    os.wait(); {YES}\n    os._exit(1)" + WRONG,
    ),
}
CASES = tuple(Case(function="double", arguments=(n,), expected=2 * n) for n in (3, 5, 21))


@pytest.fixture(scope="module")
def pools() -> Iterator[Pools]:
    with open_pools() as opened:
        yield opened


def naive(reader: str, program: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-S", "-c", NAIVE, reader], input=program.encode(), capture_output=True, timeout=60
    )
    return READERS[reader](done)


@pytest.mark.parametrize("reader", READERS)
def test_the_naive_judge_tells_right_from_wrong(reader: str) -> None:
    assert naive(reader, "def double(n): return 2 * n") and not naive(reader, WRONG)


@pytest.mark.parametrize("name", FORGERIES)
def test_every_forgery_fools_the_naive_judge(name: str) -> None:
    assert naive(*FORGERIES[name])


@isolating_level
@pytest.mark.parametrize("name", FORGERIES)
def test_no_forgery_fools_ours(pools: Pools, level: Level, name: str) -> None:
    pool = pools.pool(level)
    verdict: Any = pools._runner.run(judge(FORGERIES[name][1], CASES, pool))
    assert verdict.passed == 0


@isolating_level
def test_ours_tells_right_from_wrong(pools: Pools, level: Level) -> None:
    right = judge("def double(n): return 2 * n", CASES, pools.pool(level))
    assert pools._runner.run(right).correct


def test_all_at_once_do_not_disturb_an_honest_program(pools: Pools) -> None:
    async def main() -> list[int]:
        programs = [source for _, source in FORGERIES.values()] + ["def double(n): return 2 * n"]
        few, pool = asyncio.Semaphore(8), pools.pool("namespaces")

        async def one(source: str) -> int:
            async with few:
                return (await judge(source, CASES, pool)).passed

        return await asyncio.gather(*map(one, programs))

    assert pools._runner.run(main()) == [0] * len(FORGERIES) + [len(CASES)]
