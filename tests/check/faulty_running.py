"""Faults of tools, of closing, of what is left behind, and of experts."""
# ruff: noqa: D101 - the name says what is wrong

import asyncio
import os
import random
import re
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from agentrl.message import Action, answer, call
from agentrl.task import Task
from agentrl.toolkit import tool
from tests.check.bases import Count, Options, Shop, Step

SEEN: dict[str, int] = {}


class IntCrash(Shop):
    def reward(self, answer: str) -> float:
        return float(int(answer) == self.prices[self.item])


class KeyCrash(Shop):
    def find(self, item: str) -> int:
        return self.prices[item]


class DivideCrash(Shop):
    @tool
    def divide(self, a: int, b: int) -> float:
        """Divide two numbers."""
        return a / b


class LongCrash(Shop):
    @tool
    def repeat(self, text: str, times: int) -> str:
        """Repeat a text."""
        return text * times


class JsonCrash(Count):
    def step(self, action: str) -> Step:
        return super().step(action if action.isascii() else str(1 // 0))


class Hangs(Shop):
    def find(self, item: str) -> int:
        threading.Event().wait()
        return 0


class HangsOnOdd(Shop):
    @tool
    def wait(self, days: int) -> str:
        """Wait some days."""
        while days > 1000:
            days += 1
        return "waited"


class Slow(Shop):
    async def act(self, action: Action) -> Any:
        time.sleep(1.1)
        return await super().act(action)


class BlocksLoop(Shop):
    @tool
    async def ask(self, question: str) -> str:
        """Ask a question."""
        time.sleep(0.3)
        return "no answer"


class CloseHangs(Shop):
    def close(self) -> None:
        threading.Event().wait()


class CloseRaises(Shop):
    def close(self) -> None:
        raise RuntimeError("no connection")


class CloseOnce(Shop):
    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()

    def close(self) -> None:
        self.file.close()
        del self.file

    def fork(self) -> "CloseOnce":
        return type(self)()


class CloseNeedsReset(Count):
    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        self.connection = [1]
        return super().reset(seed=seed)

    def close(self) -> None:
        self.connection.clear()


class CloseLocks(Count):
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def step(self, action: str) -> Step:
        with self.lock:
            value = super().step(action)
            return value

    def close(self) -> None:
        with self.lock:
            self.n = 0


class IgnoresCancel(Shop):
    @tool
    async def ask(self, question: str) -> str:
        """Ask a question."""
        for _ in range(60):
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                continue
        return "no answer"


class LeaksThread(Shop):
    def task(self, rng: np.random.Generator) -> str:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        return super().task(rng)


class LeaksProcess(Shop):
    def task(self, rng: np.random.Generator) -> str:
        self.child = subprocess.Popen(["sleep", "100"])
        return super().task(rng)


class LeaksOrphan(Shop):
    def find(self, item: str) -> int:
        subprocess.run(["setsid", "sh", "-c", "sleep 100 &"], check=True)
        return super().find(item)


class LeaksFile(Shop):
    kept: ClassVar[list[Any]] = []

    def find(self, item: str) -> int:
        self.kept.append(open(os.devnull.replace("null", "zero")))
        return super().find(item)


class LeaksTemporary(Shop):
    def task(self, rng: np.random.Generator) -> str:
        self.folder = tempfile.mkdtemp()
        return super().task(rng)


class LeaksTask(Shop):
    kept: ClassVar[list[Any]] = []

    @tool
    async def ask(self, question: str) -> str:
        """Ask a question."""
        self.kept.append(asyncio.ensure_future(asyncio.sleep(100)))
        return "no answer"


class Prints(Shop):
    def find(self, item: str) -> int:
        print("looking", item)
        return super().find(item)


class ChangesFolder(Shop):
    def task(self, rng: np.random.Generator) -> str:
        os.chdir("/")
        return super().task(rng)


class ChangesEnviron(Shop):
    def task(self, rng: np.random.Generator) -> str:
        os.environ["SHOP"] = "open"
        return super().task(rng)


class SilencesWarnings(Shop):
    def task(self, rng: np.random.Generator) -> str:
        warnings.simplefilter("ignore")
        return super().task(rng)


class ConsumesGlobal(Shop):
    def task(self, rng: np.random.Generator) -> str:
        random.random()
        return super().task(rng)


class AnswerShown(Shop):
    def task(self, rng: np.random.Generator) -> str:
        super().task(rng)
        return f"What is {self.item}, times {self.factor}? It is {self.prices[self.item] * self.factor}"

    def expert(self, observations: Sequence[str]) -> Action:
        return answer(observations[0].split()[-1])


class BadExpert(Shop):
    def expert(self, observations: Sequence[str]) -> Action:
        return answer(0)


class Peeks(Shop):
    def expert(self, observations: Sequence[str]) -> Action:
        return answer(self.prices[self.item] * self.factor)


class PeeksAtModule(Shop):
    def task(self, rng: np.random.Generator) -> str:
        text = super().task(rng)
        SEEN[text] = self.prices[self.item] * self.factor
        return text

    def expert(self, observations: Sequence[str]) -> Action:
        return answer(SEEN.get(observations[0], 0))


class ExpertPops(Shop):
    def expert(self, observations: Any) -> Action:
        last = observations.pop()
        if "times" in last:
            return call("price", item=str(re.findall(r"of (\w+)", last)[0]))
        return answer(int(last) * int(re.findall(r"times (\d+)", observations[0])[0]))


class BrokenImport(Shop):
    def __init__(self) -> None:
        raise FileNotFoundError("shop.db")


class PopsArguments(Shop):
    @tool
    def total(self, items: list) -> str:  # type: ignore[type-arg]
        """Add up the prices of several items."""
        total = 0
        while items:
            total += self.prices.get(str(items.pop()), 0)
        return str(total)


class LosesSlots(Shop):
    slots: ClassVar[asyncio.Semaphore] = asyncio.Semaphore(2)

    @tool
    async def ask(self, question: str) -> str:
        """Ask a question."""
        await self.slots.acquire()
        await asyncio.sleep(0.05)
        self.slots.release()
        return "no answer"


class LeavesFile(Shop):
    def find(self, item: str) -> int:
        with open(f"/tmp/shop-{os.getpid()}-{os.urandom(4).hex()}.log", "w") as file:
            file.write(item)
        return super().find(item)


class Grows(Shop):
    kept: ClassVar[list[bytes]] = []

    async def begin(self, task: Task) -> Any:
        self.kept.append(b"x" * 10_000_000)
        return await super().begin(task)


class Quits(Shop):
    def find(self, item: str) -> int:
        os._exit(3)


FAULTS: dict[type, tuple[str, str]] = {
    IntCrash: ("garbage-actions", "ValueError"),
    KeyCrash: ("valid-random-actions", "KeyError"),
    DivideCrash: ("valid-random-actions", "ZeroDivisionError"),
    LongCrash: ("valid-random-actions", "repeat("),
    JsonCrash: ("garbage-actions", "ZeroDivisionError"),
    Hangs: ("responds", "price("),
    HangsOnOdd: ("valid-random-actions", "wait(days="),
    Slow: ("responds", "1.1"),
    BlocksLoop: ("event-loop", "ask("),
    CloseHangs: ("closes", "did not return"),
    CloseRaises: ("closes", "no connection"),
    CloseOnce: ("closes", "second time"),
    CloseNeedsReset: ("closes", "connection"),
    CloseLocks: ("close-under-hang", "holds"),
    IgnoresCancel: ("cancellation", "cancel"),
    LeaksThread: ("leaks", "thread"),
    LeaksProcess: ("leaks", "sleep 100"),
    LeaksOrphan: ("leaks", "sleep 100"),
    LeaksFile: ("leaks", "/dev/zero"),
    LeaksTemporary: ("leaks", "temporary"),
    LeaksTask: ("leaks", "asyncio task"),
    Prints: ("side-effects", "stdout"),
    ChangesFolder: ("side-effects", "directory"),
    ChangesEnviron: ("side-effects", "SHOP"),
    SilencesWarnings: ("side-effects", "warnings"),
    ConsumesGlobal: ("side-effects", "random"),
    AnswerShown: ("answer-in-prompt", "last"),
    BadExpert: ("expert-solves", "0 of"),
    Peeks: ("expert-solves", "never started"),
    PeeksAtModule: ("expert-solves", "peeks"),
    ExpertPops: ("expert-solves", "copy it"),
    BrokenImport: ("loads", "shop.db"),
    PopsArguments: ("valid-random-actions", "copy lists"),
    LosesSlots: ("cancellation", "finally"),
    LeavesFile: ("leaks", "shop-"),
    Grows: ("leaks", "memory grew"),
    Quits: ("responds", "process died"),
}
