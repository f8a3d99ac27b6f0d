"""Work is stopped in good order, also where it is called from inside an event loop, as in a notebook."""

import asyncio
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agentrl.measuring import evaluate
from agentrl.registry import EnvSpec
from agentrl.stopping import run_stoppable
from tests.core.test_task import Few

INSIDE = "asyncio.run(cell())"
OUTSIDE = "run_stoppable(work())"
PROGRAM = """
import asyncio
from agentrl.stopping import run_stoppable

async def work():
    try:
        print("begun", flush=True)
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.1)
        print("closed", flush=True)

async def cell():
    run_stoppable(work())
    print("went on", flush=True)

"""


async def in_a_cell(call: Any) -> Any:
    return call()


def test_an_evaluation_runs_inside_a_loop() -> None:
    spec = EnvSpec(name="few", kind=Few)

    def call() -> Any:
        return evaluate(spec, policies=["random"], tasks=3)

    assert asyncio.run(in_a_cell(call)) == call()


def test_what_is_raised_inside_a_loop_comes_out() -> None:
    async def work() -> None:
        raise KeyError("lost")

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError, match="lost"):
        asyncio.run(in_a_cell(lambda: run_stoppable(work())))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert not [t for t in threading.enumerate() if t is not threading.current_thread() and not t.daemon]


@pytest.mark.parametrize("start", [INSIDE, OUTSIDE])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_everything_close(number: signal.Signals, start: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + start], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert out == "closed\n" and process.returncode == -number, (process.returncode, out, err)
    assert "never awaited" not in err and "was destroyed" not in err
