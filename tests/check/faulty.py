"""Environments with one fault each; `FAULTS` says which check must find it and what its message must name."""
# ruff: noqa: D101 - the name says what is wrong

import asyncio
import datetime
import os
import random
import re
import subprocess
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np

from agentrl.errors import ToolError
from agentrl.message import Action, answer, call
from agentrl.task import ListedTasks, SeededTasks, Split, Task, TaskSource, derive_seed
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool

Options = dict[str, Any] | None
Step = tuple[Any, Any, Any, Any, dict[str, Any]]
SEEN: dict[str, int] = {}


class Shop(ToolEnv):
    """Sound; what follows breaks one thing of it."""

    names: ClassVar[Sequence[str]] = ("pear", "plum", "fig", "kiwi", "lime", "date")

    def task(self, rng: np.random.Generator) -> str:
        self.prices = {n: int(rng.integers(2, 99)) for n in self.names}
        self.item, self.factor = str(rng.choice(list(self.names))), int(rng.integers(2, 30))
        return f"What is the price of {self.item}, times {self.factor}?"

    @tool
    def price(self, item: str) -> str:
        """Look up the price of an item."""
        return self.shown(self.find(item))

    def find(self, item: str) -> int:
        if item not in self.prices:
            raise ToolError(f"there are {', '.join(self.prices)}")
        return self.prices[item]

    def shown(self, value: int) -> str:
        return str(value)

    def right(self, answer: str) -> bool:
        return answer.strip() == str(self.prices[self.item] * self.factor)

    def reward(self, answer: str) -> Any:
        return float(self.right(answer))


class Count(gymnasium.Env[str, str]):
    """Sound and plain; what follows breaks one thing of it."""

    max_turns: ClassVar[int | None] = 5

    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        super().reset(seed=seed)
        self.n, self.turn = int(self.np_random.integers(10**6)), 0
        return f"Count on from {self.n}.", {}

    def step(self, action: str) -> Step:
        self.turn += 1
        right = action.strip() == str(self.n + 1)
        return (
            ("Yes." if right else "No."),
            float(right),
            right,
            not right and self.turn == 5,
            {"correct": right},
        )


class NoSuchTool(Shop):
    @tool
    def bare(self, x: int) -> int:  # type: ignore[empty-body]
        pass


class NoHint(Shop):
    @tool
    def look(self, where) -> str:  # type: ignore[no-untyped-def]
        """Look somewhere."""
        return "nothing"


class Terse(Shop):
    @tool
    def look(self) -> str:
        """Look."""
        return "nothing"


class EmptyTask(Shop):
    def task(self, rng: np.random.Generator) -> str:
        super().task(rng)
        return ""


class TimeInText(Shop):
    def shown(self, value: int) -> str:
        return f"{value} at {time.time_ns()}"


class Today(Shop):
    def shown(self, value: int) -> str:
        return f"{value} on {datetime.date.today()}"


class Weekday(Shop):
    def task(self, rng: np.random.Generator) -> str:
        return super().task(rng) + f" It is {datetime.datetime.now():%j}."


class GlobalRandom(Shop):
    def shown(self, value: int) -> str:
        return f"{value} {random.choice(range(1000))}"


class GlobalNumpy(Shop):
    def task(self, rng: np.random.Generator) -> str:
        super().task(rng)
        self.prices[self.item] = int(np.random.randint(2, 10**6))
        return f"What is the price of {self.item}?"


class HiddenRandom(Count):
    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        shown = super().reset(seed=seed)
        self.secret = random.randrange(10**6)
        return f"Guess a number below {10**6}, as I did with {self.n}.", shown[1]

    def step(self, action: str) -> Step:
        right = action == str(self.secret)
        return "Yes." if right else "No.", float(right), True, False, {"correct": right}


class Uuid(Shop):
    def shown(self, value: int) -> str:
        return f"{value} (request {uuid.uuid4()})"


class SetOrder(Shop):
    def task(self, rng: np.random.Generator) -> str:
        super().task(rng)
        return f"Goods: {', '.join(set(self.names))}. Price of {self.item}?"


class HashChoice(Shop):
    def find(self, item: str) -> int:
        return hash(item) % 100


class Address(Shop):
    def shown(self, value: int) -> str:
        return repr(object())


class ClassCounter(Shop):
    episodes = 0

    def task(self, rng: np.random.Generator) -> str:
        type(self).episodes += 1
        return super().task(rng) + f" (episode {type(self).episodes})"


class KeepsState(Shop):
    def __init__(self) -> None:
        self.asked: list[str] = []

    def find(self, item: str) -> int:
        self.asked.append(item)
        return super().find(item) + len(self.asked)


class ClassList(Shop):
    asked: ClassVar[list[str]] = []

    def task(self, rng: np.random.Generator) -> str:
        self.asked.clear()
        return super().task(rng)

    def shown(self, value: int) -> str:
        self.asked.append("x")
        return f"{value}, asked {len(self.asked)} times"


class SeedsGlobal(Shop):
    def task(self, rng: np.random.Generator) -> str:
        random.seed(int(rng.integers(2**31)))
        return super().task(rng)

    def shown(self, value: int) -> str:
        return f"{value} {random.random()}"


class OneTask(Shop):
    def task(self, rng: np.random.Generator) -> str:
        return super().task(np.random.default_rng(0))


class FewSeeds(Count):
    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        return super().reset(seed=None if seed is None else seed // 10)


class ByteSeeds(Count):
    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        return super().reset(seed=None if seed is None else seed % 256)


class IgnoresSplit(Count):
    splits = ("train", "test")

    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        return super().reset(seed=None if seed is None else seed % 500)


class IgnoresOod(Shop):
    splits = ("train", "test", "ood")


class IgnoresLevel(Shop):
    levels = (0, 1)


class ForkShares(Shop):
    def task(self, rng: np.random.Generator) -> str:
        self.asked: list[str] = []
        return super().task(rng)

    def find(self, item: str) -> int:
        self.asked.append(item)
        return super().find(item) + len(self.asked)

    def fork(self) -> "ForkShares":
        twin = type(self)()
        vars(twin).update(vars(self))
        twin._play = (
            None if self._play is None else type(self._play)(turn=self._play.turn, over=self._play.over)
        )
        return twin


class ForkSharesRng(Count):
    def step(self, action: str) -> Step:
        given = super().step(action)
        return f"{given[0]} {self.np_random.integers(1000)}", *given[1:]

    def fork(self) -> "ForkSharesRng":
        twin = type(self)()
        vars(twin).update(vars(self))
        return twin


class ForkForgets(Count):
    def step(self, action: str) -> Step:
        given = super().step(action)
        return f"{given[0]} {self.turn}", *given[1:]

    def fork(self) -> "ForkForgets":
        twin = type(self)()
        twin.n, twin.turn = self.n, 0
        return twin


class ForkAdvances(Count):
    def step(self, action: str) -> Step:
        given = super().step(action)
        return f"{given[0]} {self.turn}", *given[1:]

    def fork(self) -> "ForkAdvances":
        twin = type(self)()
        twin.n, twin.turn = self.n, self.turn + 1
        self.turn += 1
        return twin


class NanReward(Shop):
    def reward(self, answer: str) -> Any:
        return float("nan")


class TextReward(Shop):
    def reward(self, answer: str) -> Any:
        return "1.0" if self.right(answer) else "0.0"


class BigReward(Shop):
    def reward(self, answer: str) -> Any:
        return 100.0 * self.right(answer) - 5.0


class PlainBigReward(Count):
    def step(self, action: str) -> Step:
        given = super().step(action)
        return given[0], 10.0 if given[2] else 0.0, *given[2:]


class PartsDiffer(Count):
    def step(self, action: str) -> Step:
        given = super().step(action)
        return *given[:4], given[4] | {"reward_parts": {"length": 0.5}}


class CorrectUnpaid(Count):
    def step(self, action: str) -> Step:
        given = super().step(action)
        return given[0], 0.0, *given[2:]


class WrongPaid(Count):
    def step(self, action: str) -> Step:
        given = super().step(action)
        return given[0], 1.0 if given[2] or given[3] else 0.0, *given[2:]


class NeverCorrect(Count):
    def step(self, action: str) -> Step:
        return *super().step(action)[:4], {}


class Endless(Shop):
    max_turns = 4

    async def act(self, action: Action) -> Any:
        self._play.turn = 0  # type: ignore[union-attr]
        return await super().act(action)


class PlainEndless(Count):
    max_turns = None

    def step(self, action: str) -> Step:
        given = super().step(action)
        return *given[:3], False, given[4]


class PaysAfterEnd(Count):
    def step(self, action: str) -> Step:
        given = super().step(action)
        return given[0], 0.5 if self.turn > 5 else given[1], *given[2:]


class Mixed(Count):
    def step(self, action: str) -> Step:
        given = super().step(action)
        return *given[:2], self.turn == 2, self.turn == 2, given[4]


class BytesObservation(Count):
    def step(self, action: str) -> Step:
        given = super().step(action)
        return given[0].encode(), *given[1:]


class NoneObservation(Shop):
    def task(self, rng: np.random.Generator) -> Any:
        super().task(rng)


class BareReset(Count):
    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        return super().reset(seed=seed)[0]


class TextEnd(Count):
    def step(self, action: str) -> Step:
        given = super().step(action)
        return *given[:2], "yes" if given[2] else "", *given[3:]


class OwnSpaces(Count):
    observation_space = gymnasium.spaces.Text(max_length=3, charset="ab")
    action_space = gymnasium.spaces.Text(max_length=8, charset="0123456789")


class ControlToken(Shop):
    def shown(self, value: int) -> str:
        return f"{value}<|im_end|>"


class ControlInTask(Shop):
    def task(self, rng: np.random.Generator) -> str:
        return f"<|start_header_id|>user<|end_header_id|>{super().task(rng)}<|eot_id|>"


class AnswerTag(Shop):
    def shown(self, value: int) -> str:
        return f"{value}</answer>"


class ControlInSystem(Shop):
    system = "Call tools like <tool_call>{...}</tool_call>."


class Surrogate(Shop):
    def shown(self, value: int) -> str:
        return f"{value} \udc80"


class Nul(Shop):
    def shown(self, value: int) -> str:
        return f"{value}\x00"


class Huge(Shop):
    def shown(self, value: int) -> str:
        return f"{value} " * 700_000


class HostPath(Shop):
    def find(self, item: str) -> int:
        if item not in self.prices:
            raise ToolError(f"error in {__file__}, line 12")
        return self.prices[item]


class Transcript(Count):
    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        self.log, info = super().reset(seed=seed)
        return self.log, info

    def step(self, action: str) -> Step:
        given = super().step(action)
        self.log += f"\nYou: {action}\n{given[0]}"
        return self.log, *given[1:]


class Rewrites(Count):
    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        self.log: list[str] = [super().reset(seed=seed)[0]]
        return self.log, {}

    def step(self, action: str) -> Step:
        given = super().step(action)
        self.log[0] = "(cut)"
        return given


class ChangesTools(Shop):
    async def act(self, action: Action) -> Any:
        self.system = f"You have {len(action.calls)} calls left."  # type: ignore[misc]
        return await super().act(action)


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


class InAnswer(Shop):
    def right(self, answer: str) -> bool:
        return str(self.prices[self.item] * self.factor) in answer


class AnyAnswer(Shop):
    def right(self, answer: str) -> bool:
        return str(self.prices[self.item] * self.factor).startswith(answer.strip())


class SameIds(Shop):
    @classmethod
    def tasks(cls, split: Split, *, level: int, seed: int) -> TaskSource:
        tasks = [
            Task(id="shop", split=split, level=level, seed=derive_seed(split, i) % 2**31) for i in range(50)
        ]
        return ListedTasks(tasks=tuple(tasks))


class Forgetful(SeededTasks):
    def take(self, count: int) -> list[Task]:
        return [self.at(i) for i in range(count)]


class Unseekable(Shop):
    @classmethod
    def tasks(cls, split: Split, *, level: int, seed: int) -> TaskSource:
        return Forgetful(split=split, level=level, seed=seed)


class PopsArguments(Shop):
    @tool
    def total(self, items: list) -> str:  # type: ignore[type-arg]
        """Add up the prices of several items."""
        total = 0
        while items:
            total += self.prices.get(str(items.pop()), 0)
        return str(total)


class ReturnsNothing(Shop):
    @tool
    def price(self, item: str) -> None:  # type: ignore[override]
        """Look up the price of an item."""
        self.prices.get(item)


class EndsUnpaid(Shop):
    @tool
    def pay(self, amount: int) -> str:
        """Pay an amount, which ends the episode."""
        if amount == self.prices[self.item] * self.factor:
            self.end(0.0, correct=True)
        return "Paid."


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


class ForkIsSelf(Count):
    def fork(self) -> "ForkIsSelf":
        return self


class Quits(Shop):
    def find(self, item: str) -> int:
        os._exit(3)


class SystemClock(Shop):
    @property
    def system(self) -> str:  # type: ignore[override]
        return f"It is {datetime.datetime.now():%j}."


FAULTS: dict[type, tuple[str, str]] = {
    NoSuchTool: ("loads", "no docstring"),
    NoHint: ("loads", "type hint"),
    Terse: ("tool-schemas", "'look'"),
    EmptyTask: ("loads", "empty"),
    BrokenImport: ("loads", "shop.db"),
    TimeInText: ("determinism", "rng"),
    Today: ("determinism-across-processes", "clock"),
    Weekday: ("determinism-across-processes", "clock"),
    GlobalRandom: ("determinism", "rng"),
    GlobalNumpy: ("determinism", "self.prices"),
    HiddenRandom: ("determinism", "judged differently"),
    Uuid: ("determinism", "uuid"),
    SetOrder: ("determinism-across-processes", "set"),
    HashChoice: ("determinism-across-processes", "hash()"),
    Address: ("host-details", "object"),
    ClassCounter: ("determinism", "episode"),
    KeepsState: ("episode-isolation", "anew"),
    ClassList: ("instance-isolation", "class"),
    SeedsGlobal: ("instance-isolation", "global generators"),
    OneTask: ("seed-variety", "1 different"),
    FewSeeds: ("seed-variety", "s + 1"),
    ByteSeeds: ("seed-variety", "s + 256"),
    IgnoresSplit: ("splits-disjoint", "apart"),
    IgnoresOod: ("splits-disjoint", "ood"),
    IgnoresLevel: ("levels", "level 1"),
    ForkShares: ("fork-independence", "self.asked"),
    ForkSharesRng: ("fork-independence", "_np_random"),
    ForkForgets: ("fork-equality", "fork went on differently"),
    ForkAdvances: ("fork-equality", "original went on differently"),
    NanReward: ("reward-range", "not finite"),
    TextReward: ("return-types", "'0.0'"),
    BigReward: ("reward-range", "-5"),
    PlainBigReward: ("reward-range", "10"),
    PartsDiffer: ("reward-range", "reward_parts"),
    CorrectUnpaid: ("correct-against-reward", "correct=True"),
    WrongPaid: ("correct-against-reward", "correct=False"),
    EndsUnpaid: ("correct-against-reward", "correct=True"),
    InAnswer: ("judge-not-fooled", "every number"),
    AnyAnswer: ("judge-not-fooled", "empty"),
    SameIds: ("task-source", "'shop'"),
    Unseekable: ("task-source", "take"),
    PopsArguments: ("valid-random-actions", "copy lists"),
    ReturnsNothing: ("observation-text", "None"),
    LosesSlots: ("cancellation", "finally"),
    LeavesFile: ("leaks", "shop-"),
    Grows: ("leaks", "memory grew"),
    ForkIsSelf: ("fork-independence", "changed the original"),
    Quits: ("responds", "process died"),
    SystemClock: ("determinism-across-processes", "clock"),
    NeverCorrect: ("correct-against-reward", "info"),
    Endless: ("ends", "max_turns"),
    PlainEndless: ("ends", "truncated"),
    PaysAfterEnd: ("step-after-end", "0.5"),
    Mixed: ("ends", "both terminated and truncated"),
    BytesObservation: ("return-types", "bytes"),
    NoneObservation: ("loads", "NoneType"),
    BareReset: ("return-types", "info"),
    TextEnd: ("return-types", "terminated="),
    OwnSpaces: ("gymnasium", "space"),
    ControlToken: ("control-tokens", "<|im_end|>"),
    ControlInTask: ("control-tokens", "<|start_header_id|>"),
    AnswerTag: ("control-tokens", "</answer>"),
    ControlInSystem: ("control-tokens", "<tool_call>"),
    Surrogate: ("observation-text", "surrogate"),
    Nul: ("observation-text", "NUL"),
    Huge: ("observation-text", "characters"),
    HostPath: ("host-details", "faulty.py"),
    Transcript: ("prefix-preservation", "repeats"),
    Rewrites: ("prefix-preservation", "(cut)"),
    ChangesTools: ("prefix-preservation", "system"),
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
}
"""Environment to (check, a cue in its detail)."""
