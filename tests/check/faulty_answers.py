"""Faults of judges that take a wrong answer of the right kind, of leaks, and of pay."""
# ruff: noqa: D101 - the name says what is wrong

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import gymnasium
import numpy as np

from agentrl.environment import Observation
from agentrl.message import Action, Text, answer, call
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool
from tests.check.bases import Count, Options, Shop, Step


class Priced(Shop):
    """Sound: the shop with an expert; what follows breaks one thing of it."""

    def expert(self, observations: Sequence[str]) -> Action:
        item, factor = re.findall(r"of (\w+), times (\d+)", observations[0])[0]
        if len(observations) == 1:
            return call("price", item=item)
        return answer(int(re.findall(r"\d+", observations[1])[0]) * int(factor))


class AnyPrice(Priced):
    def right(self, answer: str) -> bool:
        return super().right(answer) or answer.strip() in map(str, self.prices.values())


class AnyProduct(Shop):
    def right(self, answer: str) -> bool:
        return answer.strip() in {str(p * self.factor) for p in self.prices.values()}


class OffByOne(Priced):
    def right(self, answer: str) -> bool:
        return answer.isdecimal() and abs(int(answer) - self.prices[self.item] * self.factor) <= 1


class DigitsAlone(Priced):
    def right(self, answer: str) -> bool:
        return re.sub(r"\D", "", answer) == str(self.prices[self.item] * self.factor)


class PriceWillDo(Priced):
    def right(self, answer: str) -> bool:
        return super().right(answer) or answer == str(self.prices[self.item])


class AnyNumber(Priced):
    def right(self, answer: str) -> bool:
        return answer.strip().isdecimal() and int(answer) > 0


class City(ToolEnv):
    """Sound: two look-ups whose answer is a word."""

    people = ("Anna", "Ben", "Carl", "Dora", "Emil")
    towns = ("Rome", "Oslo", "Bonn", "Kyiv", "Lima", "Nice", "Cork", "Bern")
    max_turns = 5

    def task(self, rng: np.random.Generator) -> str:
        self.cities = {n: str(rng.choice(list(self.towns))) for n in self.people}
        self.who = str(rng.choice(list(self.people)))
        return f"Where does {self.who} live?"

    @tool
    def city(self, name: str) -> str:
        """Where does this person live?"""
        return self.cities.get(name, "unknown")

    def reward(self, answer: str) -> float:
        return float(answer == self.cities[self.who])

    def expert(self, observations: Sequence[str]) -> Action:
        if len(observations) == 1:
            return call("city", name=observations[0].split()[2])
        return answer(observations[1])


class AnyCity(City):
    def reward(self, answer: str) -> float:
        return float(answer in self.towns)


class OthersCity(City):
    def reward(self, answer: str) -> float:
        return float(answer in self.cities.values())


class SumOrProduct(gymnasium.Env[str, str]):
    max_turns = 1

    def reset(self, *, seed: int | None = None, options: Options = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.a, self.b = (int(n) for n in self.np_random.integers(10, 10**5, 2))
        return f"What is {self.a} plus {self.b}?", {}

    def step(self, action: str) -> Step:
        right = action in {str(self.a + self.b), str(self.a * self.b)}
        return "", float(right), True, False, {"correct": right}

    def expert(self, observations: Sequence[str]) -> str:
        return str(sum(map(int, re.findall(r"\d+", observations[0]))))


class AnyOrder(ToolEnv):
    def task(self, rng: np.random.Generator) -> str:
        self.word = "".join(chr(97 + int(i)) for i in rng.permutation(26)[:6])
        return f"Copy {self.word}."

    def reward(self, answer: str) -> float:
        return float(sorted(answer) == sorted(self.word))

    def expert(self, observations: Sequence[str]) -> Action:
        return answer(observations[0].split()[1].rstrip("."))


class AnyNext(gymnasium.Env[str, str]):
    max_turns = 1

    def reset(self, *, seed: int | None = None, options: Options = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.n = int(self.np_random.integers(10, 10**6))
        return f"Which number follows {self.n}?", {}

    def step(self, action: str) -> Step:
        right = action.isdecimal() and int(action) > self.n
        return "", float(right), True, False, {"correct": right}

    def expert(self, observations: Sequence[str]) -> str:
        return str(int(re.findall(r"\d+", observations[0])[0]) + 1)


class Submits(Priced):
    @tool
    def submit(self, amount: int) -> str:
        """Hand in the amount."""
        self.end(float(amount in {p * self.factor for p in self.prices.values()}))
        return "Thank you."

    def expert(self, observations: Sequence[str]) -> Action:
        action = super().expert(observations)
        return call("submit", amount=int(action.text)) if action.is_answer else action


class TellsAnyway(Priced):
    def shown(self, value: int) -> str:
        return f"{value} (debug: {self.prices[self.item] * self.factor})"

    @tool
    def price(self, item: str) -> str:
        """Look up the price of an item."""
        return self.shown(self.prices.get(item, 0))


class TellsAtTheSecond(Priced):
    async def act(self, action: Action) -> Any:
        result = await super().act(action)
        if self._play is None or self._play.turn != 2 or result.done:
            return result
        hint = Text(f" state: {self.prices[self.item] * self.factor}")
        return replace(result, observation=Observation(parts=(*result.observation.parts, hint)))


class TellsInText(Count):
    """A plain one: after a wrong guess it says what was right, and goes on."""

    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        super().reset(seed=seed)
        return "Which of a million numbers is it? It is shown now and then.", {}

    def step(self, action: str) -> Step:
        given = super().step(action)
        return f"{given[0]} It was {self.n + 1}.", *given[1:]


class UnpaidPath(Priced):
    @tool
    def pay(self, item: str, amount: int, method: Literal["cash", "card"]) -> str:
        """Pay for an item, which ends the visit."""
        if item == self.item and amount == self.prices[item] * self.factor and method == "card":
            self.end(0.0, correct=True)
            return "Paid."
        return "That is wrong."


class PaidForWrong(Shop):
    @tool
    def order(self, item: str, count: int) -> str:
        """Order so many of an item, which ends the visit."""
        right = item == self.item and count == self.factor
        self.end(1.0, correct=right)
        return "Ordered."


class Farmed(Count):
    deterministic = True

    def step(self, action: str) -> Step:
        given = super().step(action)
        return given[0], given[1] or 0.5 * (action != ""), *given[2:]

    def expert(self, observations: Sequence[str]) -> str:
        return str(int(observations[0].split()[-1].rstrip(".")) + 1)


class BigForLong(Priced):
    def reward(self, answer: str) -> Any:
        return 2.0 if len(answer) > 1000 else super().reward(answer)


class NanForInfinite(Count):
    def step(self, action: str) -> Step:
        given = super().step(action)
        return given[0], float("nan") if "1e999" in action else given[1], *given[2:]


class SolvedIsCutOff(Count):
    def step(self, action: str) -> Step:
        text, reward, right, late, info = super().step(action)
        return text, reward, False, right or late, info


class LimitIsEnd(Count):
    def step(self, action: str) -> Step:
        text, reward, right, late, info = super().step(action)
        return text, reward, right or late, False, info

    def expert(self, observations: Sequence[str]) -> str:
        return str(int(observations[0].split()[-1].rstrip(".")) + 1)


FAULTS: dict[type, tuple[str, str]] = {
    AnyPrice: ("wrong-answers", "also about something else"),
    AnyProduct: ("wrong-answers", "more than one wrong number"),
    OffByOne: ("wrong-answers", "plus 1"),
    DigitsAlone: ("wrong-answers", "sign turned"),
    PriceWillDo: ("wrong-answers", "the last number that a tool gave"),
    AnyNumber: ("wrong-answers", "also about something else"),
    AnyCity: ("wrong-answers", "also about something else"),
    OthersCity: ("wrong-answers", "also about something else"),
    SumOrProduct: ("wrong-answers", "the product of the task's first two"),
    AnyOrder: ("wrong-answers", "backwards"),
    AnyNext: ("wrong-answers", "plus 1"),
    Submits: ("wrong-answers", "more than one wrong number"),
    TellsAnyway: ("answer-given-away", "price('zqx')"),
    TellsAtTheSecond: ("answer-given-away", "a broken call"),
    TellsInText: ("answer-given-away", "an answer without sense"),
    UnpaidPath: ("correct-against-reward", "pay(item="),
    PaidForWrong: ("correct-against-reward", "order(item="),
    Farmed: ("correct-against-reward", "the expert's right one"),
    BigForLong: ("reward-range", "reward 2 is outside"),
    NanForInfinite: ("reward-range", "nan"),
    SolvedIsCutOff: ("correct-against-reward", "truncated"),
    LimitIsEnd: ("ends", "truncated=True"),
}
