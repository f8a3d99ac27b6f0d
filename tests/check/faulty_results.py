"""Faults of forks, rewards, endings and texts."""
# ruff: noqa: D101 - the name says what is wrong

from typing import Any

import gymnasium
import numpy as np

from agentrl.errors import ToolError
from agentrl.message import Action
from agentrl.toolkit import tool
from tests.check.bases import Count, Options, Shop, Step


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


class CorrectInWords(Count):
    def step(self, action: str) -> Step:
        given = super().step(action)
        return *given[:4], {"correct": "yes" if given[2] else "no"}


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


class OpensAgain(Shop):
    async def act(self, action: Action) -> Any:
        assert self._play is not None
        self._play.over = False
        return await super().act(action)


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


class ControlOfACoder(Shop):
    def shown(self, value: int) -> str:
        return f"<function=price>{value}</function>"


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


class InAnswer(Shop):
    def right(self, answer: str) -> bool:
        return str(self.prices[self.item] * self.factor) in answer


class AnyAnswer(Shop):
    def right(self, answer: str) -> bool:
        return str(self.prices[self.item] * self.factor).startswith(answer.strip())


class ReturnsNothing(Shop):
    @tool
    def price(self, item: str) -> str:  # type: ignore[return]
        """Look up the price of an item."""
        self.prices.get(item)


class EndsUnpaid(Shop):
    @tool
    def pay(self, amount: int) -> str:
        """Pay an amount, which ends the episode."""
        if amount == self.prices[self.item] * self.factor:
            self.end(0.0, correct=True)
        return "Paid."


class ForkIsSelf(Count):
    def fork(self) -> "ForkIsSelf":
        return self


FAULTS: dict[type, tuple[str, str]] = {
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
    CorrectInWords: ("correct-against-reward", "info"),
    Endless: ("ends", "max_turns"),
    PlainEndless: ("ends", "truncated"),
    OpensAgain: ("step-after-end", "after the end"),
    Mixed: ("ends", "both terminated and truncated"),
    BytesObservation: ("return-types", "bytes"),
    NoneObservation: ("loads", "NoneType"),
    BareReset: ("return-types", "info"),
    TextEnd: ("return-types", "terminated="),
    OwnSpaces: ("gymnasium", "space"),
    ControlToken: ("control-tokens", "<|im_end|>"),
    ControlOfACoder: ("control-tokens", "<function=price>"),
    ControlInTask: ("control-tokens", "<|start_header_id|>"),
    AnswerTag: ("control-tokens", "</answer>"),
    ControlInSystem: ("control-tokens", "<tool_call>"),
    Surrogate: ("observation-text", "surrogate"),
    Nul: ("observation-text", "NUL"),
    Huge: ("observation-text", "characters"),
    HostPath: ("host-details", "faulty_results.py"),
    Transcript: ("prefix-preservation", "repeats"),
    Rewrites: ("prefix-preservation", "(cut)"),
    ChangesTools: ("prefix-preservation", "system"),
    InAnswer: ("judge-not-fooled", "every number"),
    AnyAnswer: ("judge-not-fooled", "empty"),
    ReturnsNothing: ("responds", "returned None"),
    EndsUnpaid: ("correct-against-reward", "correct=True"),
    ForkIsSelf: ("fork-independence", "changed the original"),
}
