"""The short form of an environment."""

import asyncio
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from agentrl.adapter import Adapter
from agentrl.aio import drive
from agentrl.errors import RewardError, ToolError, ToolFault
from agentrl.message import Action, Call, ToolResult, answer, call
from agentrl.task import Task, derive_seed
from agentrl.toolenv import ToolEnv, fingerprint
from agentrl.toolkit import tool


class Shop(ToolEnv):
    """Prices are hidden behind a tool."""

    max_turns = 3

    def task(self, rng: np.random.Generator) -> str:
        self.prices = {name: int(rng.integers(1, 100)) for name in ("pear", "plum")}
        self.item = str(rng.choice(list(self.prices)))
        return f"What does a {self.item} cost?"

    @tool
    def price(self, item: str, times: int = 1) -> int:
        """Look up a price."""
        if item not in self.prices:
            raise ToolError(f"no item {item!r}")
        return self.prices[item] * times

    @tool
    def leave(self) -> str:
        """Leave without an answer."""
        self.end(0.25)
        return "bye"

    def reward(self, answer: str) -> float:
        return float(answer == str(self.prices[self.item]))


def begun(env: ToolEnv, seed: int = 0) -> ToolEnv:
    drive(env.begin(Task(id="t", split="train", level=0, seed=seed)))
    return env


def test_gymnasium_accepts_it() -> None:
    check_env(Shop(), skip_render_check=True)


def test_an_answer_ends_and_is_judged() -> None:
    env = begun(Shop())
    shown = drive(env.act(call("price", item=env.item)))  # type: ignore[attr-defined]
    result = drive(env.act(answer(shown.observation.text)))
    assert (result.reward, result.correct, result.terminated, result.truncated) == (1.0, True, True, False)
    with pytest.raises(ToolFault, match="call reset first"):
        drive(env.act(answer(1)))


@pytest.mark.parametrize(
    ("one", "message", "valid"),
    [
        (Call(id="0", name="prize"), "no tool 'prize'; did you mean 'price'?", False),
        (Call(id="0", name="price", arguments={"itm": "pear"}), "did you mean 'item'", False),
        (Call(id="0", name="price", arguments={"item": "pear", "times": "many"}), "must be integer", False),
        (Call(id="0", name="price", arguments={"item": "kiwi"}), "no item 'kiwi'", True),
    ],
)
def test_a_wrong_call_is_told_to_the_model(one: Call, message: str, valid: bool) -> None:
    result = drive(begun(Shop()).act(Action(calls=(one,))))
    (part,) = result.observation.parts
    assert isinstance(part, ToolResult) and part.error and message in part.text
    assert (result.calls[0].valid, result.calls[0].ok) == (valid, False)


def test_several_calls_in_one_turn_and_text_arguments() -> None:
    env = begun(Shop())
    calls = tuple(Call(id=str(i), name="price", arguments={"item": "pear", "times": str(i)}) for i in (1, 3))
    result = drive(env.act(Action(calls=calls)))
    once, thrice = (p.text for p in result.observation.parts if isinstance(p, ToolResult))
    assert int(thrice) == 3 * int(once)
    assert [p.call_id for p in result.observation.parts if isinstance(p, ToolResult)] == ["1", "3"]


def test_a_tool_may_end_the_episode_and_turns_run_out() -> None:
    left = drive(begun(Shop()).act(call("leave")))
    assert (left.reward, left.terminated, left.correct) == (0.25, True, False)
    env = begun(Shop())
    results = [drive(env.act(Action(malformed=("no such thing",)))) for _ in range(3)]
    assert [r.truncated for r in results] == [False, False, True]
    assert results[-1].correct is False and results[0].observation.text == "no such thing"


def test_a_bug_in_a_tool_is_a_fault_and_not_an_observation() -> None:
    class Broken(Shop):
        @tool
        def price(self, item: str, times: int = 1) -> int:
            """Look up a price."""
            raise KeyError("nothing")

    with pytest.raises(ToolFault, match="tool 'price' raised KeyError"):
        drive(begun(Broken()).act(call("price", item="pear")))


@pytest.mark.parametrize(
    ("verdict", "reward", "correct"),
    [
        ({"a": 0.7, "b": 0.2, "c": 0.1}, 1.0, True),
        ({"a": 0.6, "b": 0.3, "c": 0.1}, 1.0, True),
        ({"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.1}, 1.0, True),
        ({str(i): 1 / 49 for i in range(49)}, 1.0, True),
        ({k: np.float32(v) for k, v in {"a": 0.7, "b": 0.2, "c": 0.1}.items()}, 1.0, True),
        (0.7 + 0.2 + 0.1, 1.0, True),
        ({"a": 0.7, "b": 0.299}, 0.999, False),
    ],
)
def test_rounding_costs_no_solved_task(verdict: Any, reward: float, correct: bool) -> None:
    class Graded(Shop):
        def reward(self, answer: str) -> Any:
            return verdict

        @tool
        def finish(self) -> None:
            """Finish."""
            self.end(verdict if isinstance(verdict, float) else reward)

    result = drive(begun(Graded()).act(answer(1)))
    assert result.reward == pytest.approx(reward) and result.correct == correct
    assert drive(begun(Graded()).act(call("finish"))).correct == correct


@pytest.mark.parametrize(
    "verdict",
    [
        float("nan"),
        float("inf"),
        "high",
        "1.0",
        None,
        {"a": float("nan")},
        {"a": 1e308, "b": 1e308},
        pytest.param(10**400, id="too large"),
    ],
)
def test_a_reward_that_is_no_finite_number(verdict: Any) -> None:
    class Wrong(Shop):
        def reward(self, answer: str) -> Any:
            return verdict

    with pytest.raises(RewardError, match="return a float"):
        drive(begun(Wrong()).act(answer(1)))


def drawn(env: ToolEnv, split: Any, count: int) -> set[int]:
    found = set()
    for i in range(count):
        task = Task(id="", split=split, level=0, seed=derive_seed(split, i) % 2**31)
        shown = asyncio.run(env.begin(task)).text
        found.add(fingerprint(env, shown))
    return found


def test_train_and_test_never_share_a_task() -> None:
    class Sum(ToolEnv):
        def task(self, rng: np.random.Generator) -> str:
            self.a, self.b = map(int, rng.integers(0, 20, 2))
            return f"{self.a}+{self.b}"

        def reward(self, answer: str) -> float:
            return float(answer == str(self.a + self.b))

    train, test = drawn(Sum(), "train", 600), drawn(Sum(), "test", 600)
    assert not train & test and len(train) > 200 and len(test) > 50


def test_a_small_task_space_is_not_split() -> None:
    class Coin(ToolEnv):
        def task(self, rng: np.random.Generator) -> str:
            self.side = int(rng.integers(2))
            return "heads or tails?"

        def reward(self, answer: str) -> float:
            return float(answer == str(self.side))

    assert drawn(Coin(), "train", 40) == drawn(Coin(), "test", 40)


def test_asynchronous_tools_work_through_gymnasium_too() -> None:
    class Slow(Shop):
        @tool
        async def price(self, item: str, times: int = 1) -> int:  # type: ignore[override]
            """Look up a price."""
            await asyncio.sleep(0.001)
            return 7

    env = Slow()
    env.reset(seed=1)
    shown, *_ = env.step('{"name": "price", "arguments": {"item": "pear"}}')
    assert shown == "7"


def test_a_fork_is_equal_and_independent() -> None:
    async def play() -> None:
        env = Adapter(Shop(), Shop)
        await env.start(Task(id="t", split="train", level=0, seed=3))
        await env.act(call("price", item="pear"))
        twin = await env.fork()
        for one in (env, twin):
            result = await one.act(call("price", item="plum"))
            assert not result.done
        assert (await env.act(call("price", item="plum"))).truncated
        assert not (await (await Adapter.fork(twin)).act(answer("x"))).truncated  # type: ignore[arg-type]
        for one in (env, twin):
            await one.close()

    asyncio.run(play())


def test_the_split_does_not_depend_on_what_was_played() -> None:
    class Levels(ToolEnv):
        levels = (0, 1)

        def task(self, rng: np.random.Generator) -> str:
            return str(rng.integers(2 if self.level == 0 else 10_000))

        def reward(self, answer: str) -> float:
            return 0.0

    def texts(kind: Any, order: tuple[int, ...]) -> str:
        env = kind()
        for level in order:
            shown = [drive(env.begin(Task(id="", split="test", level=level, seed=s))).text for s in range(20)]
        return repr(shown)

    class Again(Levels):
        pass

    assert texts(Levels, (0, 1)) == texts(Again, (1,))


def test_a_tool_that_returns_what_has_no_text_is_named() -> None:
    class Odd(Shop):
        @tool
        def price(self, item: str, times: int = 1) -> Any:
            """Look up a price."""
            return {"a": object(), "b": [1]}[item]

    with pytest.raises(ToolFault, match=r"'price' returned <object object at 0x"):
        drive(begun(Odd()).act(call("price", item="a")))
    assert drive(begun(Odd()).act(call("price", item="b"))).observation.text == "[1]"


def test_a_tool_that_returns_none_is_named() -> None:
    class Silent(Shop):
        @tool
        def price(self, item: str, times: int = 1):  # type: ignore[no-untyped-def]
            """Look up a price."""

    with pytest.raises(ToolFault, match="'price' returned None"):
        drive(begun(Silent()).act(call("price", item="pear")))
