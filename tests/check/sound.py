"""Environments that keep the contract, of every kind; none of them may raise a false alarm."""

import asyncio
import copy
import random
import re
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import gymnasium
import numpy as np

from agentrl.errors import ToolError
from agentrl.message import Action, answer, call
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool

Options = dict[str, Any] | None
Step = tuple[str, float, bool, bool, dict[str, Any]]


class Shop(ToolEnv):
    """A chain of two: look up, then reckon."""

    def task(self, rng: np.random.Generator) -> str:
        self.prices = {n: int(rng.integers(2, 99)) for n in ("pear", "plum", "fig", "kiwi")}
        self.item, self.factor = str(rng.choice(list(self.prices))), int(rng.integers(2, 30))
        return f"What is the price of {self.item}, times {self.factor}?"

    @tool
    def price(self, item: str) -> int:
        """Look up the price of an item."""
        if item not in self.prices:
            raise ToolError(f"no item {item[:40]!r}; there are {', '.join(self.prices)}")
        return self.prices[item]

    def reward(self, answer: str) -> float:
        return float(answer.strip() == str(self.prices[self.item] * self.factor))

    def expert(self, observations: Sequence[str]) -> Action:
        found = re.search(r"of (\w+), times (\d+)", observations[0])
        assert found is not None
        item, factor = found.groups()
        return (
            call("price", item=item) if len(observations) == 1 else answer(int(observations[1]) * int(factor))
        )


class GuessNumber(gymnasium.Env[str, str]):
    """A plain Gymnasium environment: no spaces, no tools, tags in the task's text."""

    def __init__(self, *, high: int = 20, max_turns: int = 8) -> None:
        self.high, self.max_turns = high, max_turns

    def reset(self, *, seed: int | None = None, options: Options = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self._target, self._turn = int(self.np_random.integers(1, self.high + 1)), 0
        return f"I think of a whole number in 1..{self.high}. Reply <guess>n</guess>.", {}

    def step(self, action: str) -> Step:
        self._turn += 1
        found = re.fullmatch(r"<guess>\s*([0-9]{1,9})\s*</guess>", action)
        guess = int(found[1]) if found else None
        if guess == self._target:
            return "Correct.", 1.0, True, False, {"correct": True}
        hint = "No number." if guess is None else "Higher." if guess < self._target else "Lower."
        return hint, 0.0, False, self._turn == self.max_turns, {"correct": False}

    def expert(self, observations: Sequence[str]) -> str:
        low, high = 1, int(re.findall(r"1\.\.(\d+)", observations[0])[0])
        for said in observations[1:]:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if said == "Higher." else (low, middle - 1)
        return f"<guess>{(low + high) // 2}</guess>"


class Reverse(ToolEnv):
    """One turn, no tools; a partial reward in parts."""

    max_turns = 1

    def task(self, rng: np.random.Generator) -> str:
        self.word = "".join(chr(97 + int(i)) for i in rng.integers(0, 26, 6))
        return f"Write {self.word} backwards."

    def reward(self, answer: str) -> dict[str, float]:
        right = answer.strip() == self.word[::-1]
        return {"exact": 0.9 * right, "length": 0.1 * (len(answer.strip()) == len(self.word))}

    def expert(self, observations: Sequence[str]) -> Action:
        return answer(observations[0].split()[1][::-1])


class Pool:
    """Slots that instances borrow; a helper task keeps it alive while it is open."""

    def __init__(self, size: int) -> None:
        self.free, self.heart = asyncio.Semaphore(size), asyncio.ensure_future(asyncio.sleep(3600))


class Pooled(ToolEnv):
    """Asynchronous by itself, with a shared pool and a real subprocess per call."""

    @classmethod
    @asynccontextmanager
    async def open_shared(cls, **settings: Any) -> AsyncIterator[Pool]:
        pool = Pool(4)
        try:
            yield pool
        finally:
            pool.heart.cancel()
            await asyncio.gather(pool.heart, return_exceptions=True)

    async def task(self, rng: np.random.Generator) -> str:
        self.secret = int(rng.integers(100, 100_000))
        return "Which number does the shell print for the name x?"

    @tool
    async def shell(self, name: str) -> str:
        """Print a named number."""
        async with self.shared.free:
            text = str(self.secret) if name == "x" else "unknown"
            process = await asyncio.create_subprocess_exec("echo", text, stdout=asyncio.subprocess.PIPE)
            try:
                return (await process.communicate())[0].decode().strip()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    def reward(self, answer: str) -> float:
        return float(answer == str(self.secret))

    def expert(self, observations: Sequence[str]) -> Action:
        return call("shell", name="x") if len(observations) == 1 else answer(observations[1])


class AsyncCount(gymnasium.Env[str, str]):
    """A plain environment whose reset, step and close are coroutines."""

    max_turns = 6
    deterministic = True

    async def reset(self, *, seed: int | None = None, options: Options = None) -> Any:  # type: ignore[override]
        await asyncio.sleep(0)
        self._n, self._turn = int(np.random.default_rng(seed).integers(10, 10_000)), 0
        return f"Count on from {self._n}.", {}

    async def step(self, action: str) -> Any:  # type: ignore[override]
        await asyncio.sleep(0.001)
        self._turn += 1
        if action.strip() != str(self._n + self._turn):
            return "Wrong.", 0.0, True, False, {"correct": False}
        done = self._turn == 3
        return "Go on.", float(done), done, False, {"correct": done}

    async def close(self) -> Any:  # type: ignore[override]
        await asyncio.sleep(0)

    def expert(self, observations: Sequence[str]) -> str:
        return str(int(observations[0].split()[-1].rstrip(".")) + len(observations))


class Dungeon(ToolEnv):
    """Rolls dice from generators that are part of its state; ends from inside a tool; has levels."""

    levels = (0, 1, 2)
    splits = ("train", "test", "ood")
    max_turns = 12

    def task(self, rng: np.random.Generator) -> str:
        self.dice, self.rng = random.Random(int(rng.integers(2**31))), rng
        self.goal = int(rng.integers(3, 1000)) + 1000 * self.level
        self.names = [f"room {i}" for i in rng.permutation(5 + self.level)]
        what = "treasure" if self.split != "ood" else "dragon"
        return f"Find the {what}. Door {self.goal} hides it."

    @tool
    def look(self) -> str:
        """Look around; what one sees changes."""
        return f"{self.dice.choice(self.names)}, {int(self.rng.integers(6))} bats"

    @tool
    def open_door(self, number: int, force: float = 1.0) -> str:
        """Open a door by its number; opening one ends the search."""
        if not 0 <= number < 10_000:
            raise ToolError(f"no door {str(number)[:20]}: doors have numbers 0..9999")
        self.end(1.0 if number == self.goal else 0.0)
        return "It opens."

    def reward(self, answer: str) -> float:
        return -0.1

    def expert(self, observations: Sequence[str]) -> Action:
        if len(observations) == 1:
            return call("look")
        return call("open_door", number=int(re.findall(r"Door (\d+)", observations[0])[0]))


class Ledger(gymnasium.Env[str, str]):
    """Holds a thread and a file while it is open; forks natively; close comes safely from anywhere."""

    max_turns = 5
    splits = ("train",)

    def __init__(self) -> None:
        self._stop, self._entries = threading.Event(), list[int]()
        self._thread: threading.Thread | None = None

    def reset(self, *, seed: int | None = None, options: Options = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        if self._thread is None:
            self._thread = threading.Thread(target=self._stop.wait, args=(60,))
            self._thread.start()
        self._entries = [int(v) for v in self.np_random.integers(0, 10**6, 3)]
        self._turn = 0
        return f"Entries: {self._entries}. Name the largest.", {}

    def step(self, action: str) -> Step:
        self._turn += 1
        right = action.strip() == str(max(self._entries))
        if not right:
            self._entries.append(int(self.np_random.integers(0, 10**6)))
        shown = "Done." if right else f"New entry: {self._entries[-1]}."
        return shown, float(right), right, self._turn >= 5 and not right, {"correct": right}

    def fork(self) -> "Ledger":
        twin = Ledger()
        twin._entries, twin._turn = list(self._entries), self._turn
        twin.np_random = copy.deepcopy(self.np_random)
        return twin

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()


class Noisy(ToolEnv):
    """Openly not reproducible, and says so; nothing then speaks against it."""

    deterministic = False
    splits = ("train",)

    def task(self, rng: np.random.Generator) -> str:
        self.n = int(rng.integers(10**6))
        return f"Say {self.n} after measuring."

    @tool
    def measure(self) -> str:
        """Measure something that really changes."""
        return f"{time.perf_counter_ns()} ns"

    def reward(self, answer: str) -> bool:
        return answer == str(self.n)


class Quiet(gymnasium.Env[str, str]):
    """A plain environment that says nothing of `correct`: reward 1 at the end means it."""

    def reset(self, *, seed: int | None = None, options: Options = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.n = int(self.np_random.integers(10**6))
        return f"What follows {self.n}?", {}

    def step(self, action: str) -> Step:
        return "", float(action.strip() == str(self.n + 1)), True, False, {}


class Database(ToolEnv):
    """Holds a connection and a lock, which nothing can copy; forks by replay."""

    splits = ("train",)

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.base = sqlite3.connect(":memory:", check_same_thread=False)
        self.base.execute("create table price (item text, amount int)")

    def task(self, rng: np.random.Generator) -> str:
        self.base.execute("delete from price")
        rows = [(f"item{i}", int(n)) for i, n in enumerate(rng.integers(0, 10**6, 4))]
        self.base.executemany("insert into price values (?, ?)", rows)
        self.item, self.amount = rows[int(rng.integers(4))]
        return f"What does {self.item} cost?"

    @tool
    def look_up(self, item: str) -> str:
        """Look up the price of an item."""
        with self.lock:
            rows = self.base.execute(
                "select amount from price where item = ?", (item.encode("utf-8", "replace").decode(),)
            )
            return str(rows.fetchall())

    def reward(self, answer: str) -> float:
        return float(answer.strip() == str(self.amount))

    def close(self) -> None:
        if self.lock.acquire(timeout=0.5):  # sqlite crashes where a connection is closed under a statement
            self.base.close()
            self.lock.release()


class YesNo(ToolEnv):
    """Two answers, equally often."""

    max_turns = 1
    splits = ("train",)

    def task(self, rng: np.random.Generator) -> str:
        self.n = int(rng.integers(10**6))
        return f"Is {self.n} even? Answer yes or no."

    def reward(self, answer: str) -> float:
        return float(answer.strip().lower() == ("no" if self.n % 2 else "yes"))

    def expert(self, observations: Sequence[str]) -> Action:
        even = int(observations[0].split()[1]) % 2 == 0
        return answer("yes" if even else "no")


class Rounds(ToolEnv):
    """Forgives how a number is written, and what is said before it."""

    max_turns = 1

    def task(self, rng: np.random.Generator) -> str:
        self.a, self.b = (int(v) for v in rng.integers(10, 10**4, 2))
        return f"What is {self.a} / {self.b}, to three digits?"

    def reward(self, answer: str) -> float:
        found = re.findall(r"-?[0-9]+(?:\.[0-9]+)?", answer[-40:])
        return float(bool(found) and abs(float(found[-1]) - self.a / self.b) <= 0.001 * self.a / self.b)

    def expert(self, observations: Sequence[str]) -> Action:
        a, b = re.findall(r"\d+", observations[0])[:2]
        return answer(f"{int(a) / int(b):.6f}")


class Sentence(ToolEnv):
    """Many answers are right, some of them without their end."""

    words: ClassVar[Sequence[str]] = ("ash", "elm", "fir", "oak", "yew", "box", "bay", "may")

    def task(self, rng: np.random.Generator) -> str:
        self.asked = rng.choice(list(self.words), 2, replace=False).tolist()
        self.least = int(rng.integers(3, 20))
        return f"Write {self.least} words or more, no word twice, with {self.asked[0]} and {self.asked[1]}."

    def reward(self, answer: str) -> float:
        said = answer.split()
        enough = self.least <= len(said) <= 40 and len({*said}) == len(said)
        return float(enough and {*self.asked} <= {*said})

    def expert(self, observations: Sequence[str]) -> Action:
        words = observations[0].rstrip(".").split()
        return answer(" ".join([words[9], words[11], *(f"x{n}" for n in range(int(words[1])))]))


class Terse(Shop):
    """A tool with little to say for itself."""

    @tool
    def look(self) -> str:
        """Look."""
        return "nothing"


SOUND = (
    Shop,
    GuessNumber,
    Reverse,
    Pooled,
    AsyncCount,
    Dungeon,
    Ledger,
    Noisy,
    Quiet,
    Database,
    YesNo,
    Rounds,
    Sentence,
)
