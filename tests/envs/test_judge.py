"""The judge of programs: exact, and not to be deceived."""

import asyncio
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.envs.code.judge import Case, Verdict, judge, same
from tests.envs.test_code_env import SCAN
from tests.tools.attacks import Level
from tests.tools.levels import Pools

Judge = Callable[..., Verdict]

DOUBLE = tuple(Case(function="double", arguments=(n,), expected=2 * n) for n in (3, 5, 21))
HONEST = "def double(n):\n    return 2 * n\n"


LEVELS: tuple[Level, ...] = ("namespaces", "landlock")


@pytest.fixture(scope="module")
def pools() -> Iterator[Pools]:
    with asyncio.Runner() as runner:
        opened = Pools(runner)
        yield opened
        opened.close()


@pytest.fixture
def verdict(pools: Pools) -> Judge:
    def run(
        source: str,
        cases: tuple[Case, ...] = DOUBLE,
        *,
        level: Level = "namespaces",
        seconds: float = 5.0,
    ) -> Verdict:
        pool = pools.pool(level)
        return pools._runner.run(judge(source, cases, pool, seconds=seconds))

    return run


def test_an_honest_program_passes(verdict: Judge) -> None:
    assert verdict(HONEST).correct
    assert verdict(f"{HONEST}\nprint('noise')\n").correct
    assert not verdict("double = None", ()).correct


AGREEABLE = """
class Agreeable(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = int.__hash__
def double(n): return Agreeable(0)
"""
SPY = (
    SCAN.replace("self", "{pid}").replace('open("', 'open(f"')
    + """
def f(start):
    global pid
    pid = __import__("os").getppid()
    while pid > 1:
        if found := scan(start + "[0-9a-f]{8}"):
            return found[0]
        pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
"""
)
FORGED = {
    "an __eq__ that agrees": AGREEABLE,
    "a subclass of int": "class N(int): pass\ndef double(n): return N(2 * n)\n",
    "True for 1": "def double(n): return True\n",
    "a float": "def double(n): return 2.0 * n\n",
    "patched builtins": "import builtins\nbuiltins.emit = lambda value: None\ndef double(n): return 0\n",
    "patched comparison": "import operator, builtins\noperator.eq = lambda a, b: True\n"
    "builtins.all = builtins.any = lambda x: True\nbuiltins.type = lambda x: int\ndef double(n): return 0\n",
    "printing": "def double(n): print('passed 3 of 3', 2 * n)\n",
    "emitting more": "def double(n):\n    emit(0)\n    emit(2 * n)\n    return 2 * n\n",
    "emitting instead": "emit(6)\nemit(10)\nemit(42)\ndef double(n): return None\n",
    "exit": "import sys\ndef double(n): sys.exit(0)\n",
    "exit at once": "raise SystemExit\n",
    "os._exit": "import os\ndef double(n): os._exit(0)\n",
    "atexit": "import atexit, os\natexit.register(lambda: print('passed'))\ndef double(n): return 0\n",
    "every descriptor": "import os\ndef double(n):\n    for fd in range(3, 64):\n"
    "        try: os.write(fd, b'\\1' * 64)\n        except OSError: pass\n    return 0\n",
    "a signal": "import os, signal\ndef double(n): os.kill(os.getpid(), signal.SIGKILL)\n",
    "no end": "def double(n):\n    while True: pass\n",
    "a forked child": "import os\ndef double(n):\n    if os.fork() == 0: return 2 * n\n    return 0\n",
    "depth": "def double(n):\n    x = []\n    for _ in range(100000): x = [x]\n    return x\n",
    "nothing": "",
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("source", FORGED.values(), ids=FORGED.keys())
def test_a_verdict_cannot_be_forged(verdict: Judge, source: str, level: Level) -> None:
    assert not verdict(source, level=level, seconds=0.5).correct


@pytest.mark.parametrize("level", LEVELS)
def test_an_honest_program_passes_at_every_level(verdict: Judge, level: Level) -> None:
    assert verdict(HONEST, level=level).correct


def test_calls_get_fresh_inputs(verdict: Judge) -> None:
    greedy = "def f(x):\n    x.append(1)\n    return len(x)\n"
    shared = [1, 2]
    cases = tuple(Case(function="f", arguments=(shared,), expected=3) for _ in range(3))
    assert verdict(greedy, cases).correct and shared == [1, 2]


def test_one_failing_case_does_not_take_the_others_along(verdict: Judge) -> None:
    source = "def double(n):\n    if n == 5: raise SystemExit\n    return 2 * n\n"
    assert verdict(source).passed == 2


def test_a_program_that_cannot_run_says_why(verdict: Judge) -> None:
    assert "SyntaxError" in verdict("def double(n) return").error
    assert "exited" in verdict("import os\nos._exit(1)").error


@pytest.mark.parametrize("level", LEVELS)
def test_expected_values_are_nowhere_in_the_sandbox(verdict: Judge, level: Level) -> None:
    """A program that returns what it finds in its memory passes only where it was put there."""
    seeker = SCAN + "def f(start):\n    return (scan(start + '[0-9a-f]{8}') or [''])[0]\n"
    cases = (Case(function="f", arguments=("zq7-",), expected="zq7-0123abcd"),)
    assert not verdict(seeker, cases, level=level).correct
    assert verdict(f"{seeker}\nkept = 'zq7-' + '0123abcd'\n", cases, level=level).correct


FILE_READER = "def f(path):\n    return open(path).read()\n"


def test_a_file_of_the_host_with_the_answers_is_out_of_reach(verdict: Judge, tmp_path: Path) -> None:
    file = tmp_path / "answers"
    file.write_text("42")
    cases = (Case(function="f", arguments=(str(file),), expected="42"),)
    assert [verdict(FILE_READER, cases, level=level).correct for level in LEVELS] == [False, False]
    assert verdict(FILE_READER, cases, level="none").correct


def test_the_memory_of_the_judge_is_out_of_reach(verdict: Judge) -> None:
    """Walks up to the process that holds the expected values; without walls root finds them there."""
    start = f"{secrets.token_hex(8)}-"
    cases = (Case(function="f", arguments=(start,), expected=f"{start}0123abcd"),)
    assert [verdict(SPY, cases, level=level, seconds=20).correct for level in LEVELS] == [False, False]
    if os.geteuid() == 0:
        assert verdict(SPY, cases, level="none", seconds=20).correct


def test_later_inputs_are_not_there_before_their_turn(verdict: Judge) -> None:
    seeker = SCAN + "def f(start):\n    return len(scan('needle' + '-[0-9a-f]{8}'))\n"
    cases = (
        Case(function="f", arguments=("hay",), expected=0),
        Case(function="f", arguments=("needle-0123abcd",), expected=1),
    )
    assert verdict(seeker, cases).passed == 2


@pytest.mark.parametrize(
    ("value", "expected", "equal"),
    [
        (1, True, False),
        (1, 1.0, False),
        (0.0, -0.0, True),
        ([1, (2, "a")], [1, (2, "a")], True),
        ([1, (2, "a")], [1, [2, "a"]], False),
        ({1: "a"}, {True: "a"}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({1, 2}, {2, 1}, True),
        ({1}, {1.0}, False),
        ({1}, frozenset({1}), False),
        ({(1, 2)}, {(True, 2)}, False),
        ([float("nan")], [float("nan")], True),
        ("1", 1, False),
        (b"a", "a", False),
        (None, False, False),
    ],
)
def test_equality_is_exact(value: Any, expected: Any, equal: bool) -> None:
    assert same(value, expected) is equal
    assert same(expected, value) is equal


def test_tolerance_is_for_numbers() -> None:
    assert same(1, 1.0, 0.1) and same([0.95], [1], 0.1) and not same(0.85, 1.0, 0.1)
    assert not same(True, 1, 0.1) and not same(10**400, 1.0, 0.1)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
keys = st.recursive(
    scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4
)
data = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(data, data)
def test_equality_is_reflexive_and_never_wider_than_pythons(one: Any, other: Any) -> None:
    assert same(one, one)
    if same(one, other) and "nan" not in repr(one):
        assert one == other
