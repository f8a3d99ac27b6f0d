"""Actions to try: plausible ones, odd ones that fit the schemas, and garbage."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agentrl.message import Action, Call, call
from agentrl.toolkit import Parameter, ToolSpec, fits

WORD = re.compile(r"-?\d+(?:\.\d+)?|\w+")
TAG = re.compile(r"<(\w+)>")
ODD_TEXTS = (
    "",
    " ",
    "0",
    "-1",
    "²",
    "é 中 🙂",
    "a" * 5000,
    "../../etc/passwd",
    "'; DROP TABLE x; --",
    "{",
    "\n\n",
    "None",
)
ODD: dict[type, tuple[Any, ...]] = {
    str: ODD_TEXTS,
    int: (0, -1, 1, 2**31, 2**63, 10**30),
    float: (0.0, -1.0, 0.5, 1e18, -1e18),
    bool: (True, False),
    list: ([], [1, 2], ["a", ""], [None], [[1], {"a": 1}]),
    dict: ({}, {"a": 1}, {"": None}, {"a": {"b": [1]}}),
}
GARBAGE_TEXTS = (
    *ODD_TEXTS,
    "\x00",
    "\x1b[31m\u202e",
    "1e999",
    "nan",
    "1_000",
    "٣",
    "x" * 100_000,
    '{"name": 3, "arguments": "x"}',
    '{"name": "',
    "[" * 2000,
    "<<<>>>",
    "%s %d {} {0} ${x}",
)


@dataclass(slots=True, kw_only=True)
class Actor:
    """Plays at random with values out of what it has read, so that it reaches more than error messages."""

    tools: tuple[ToolSpec, ...]
    rng: np.random.Generator

    def next(self, texts: Sequence[str]) -> Action:
        """Give the next action."""
        words = words_of(texts)
        if not self.tools or self.rng.random() < 0.1:
            return Action(text=self.free_text(texts, words))
        several = 2 if self.rng.random() < 0.1 else 1
        return Action(calls=tuple(self.call(str(i), words) for i in range(several)))

    def call(self, number: str, words: Sequence[str]) -> Call:
        """Give a call that fits its schema."""
        spec = self.tools[int(self.rng.integers(len(self.tools)))]
        arguments = {
            p.name: self.value(p, words) for p in spec.parameters if p.required or self.rng.random() < 0.5
        }
        return Call(id=number, name=spec.name, arguments=arguments)

    def value(self, parameter: Parameter, words: Sequence[str]) -> Any:
        """Give a plausible value."""
        if parameter.choices:
            return parameter.choices[int(self.rng.integers(len(parameter.choices)))]
        word = self.pick(words)
        numbers = [w for w in words if re.fullmatch(r"-?\d{1,9}", w)]
        number = (
            int(self.pick(numbers)) if numbers and self.rng.random() < 0.6 else int(self.rng.integers(0, 20))
        )
        values = {str: word, int: number, float: float(number), bool: bool(number % 2)}
        if parameter.type in values:
            return values[parameter.type]
        held = None if parameter.element is None else self.value(parameter.element, words)
        if parameter.type is list:
            return [word if held is None else held]
        return {word: number if held is None else held}

    def free_text(self, texts: Sequence[str], words: Sequence[str]) -> str:
        """Give words or a number, in tags where the task shows tags."""
        text = str(self.rng.integers(0, 20)) if self.rng.random() < 0.4 else self.pick(words)
        tags = TAG.findall(texts[0]) if texts else []
        if tags and self.rng.random() < 0.8:
            tag = self.pick(tags)
            return f"<{tag}>{text}</{tag}>"
        return text

    def pick(self, values: Sequence[str]) -> str:
        """Choose one."""
        return values[int(self.rng.integers(len(values)))]


def words_of(texts: Sequence[str], most: int = 200) -> list[str]:
    """Give the words read so far, newest texts last.

    >>> words_of(["What is the price of pear, times 7?"])[-2:]
    ['times', '7']
    """
    return [w for t in texts for w in WORD.findall(t[:4000])][-most:] or ["0"]


def odd_calls(tools: Sequence[ToolSpec], rng: np.random.Generator) -> Iterator[Action]:
    """Give schema-valid calls with unusual values: each value of each parameter, then mixtures."""
    for spec in tools:
        for parameter in spec.parameters:
            for value in odd_values(parameter):
                usual = {p.name: odd_values(p)[-1 if p.type is str else 0] for p in spec.parameters}
                yield call(spec.name, **usual | {parameter.name: value})
    for _ in range(60 if tools else 0):
        spec = tools[int(rng.integers(len(tools)))]
        values = {p.name: odd_values(p) for p in spec.parameters}
        yield call(spec.name, **{n: v[int(rng.integers(len(v)))] for n, v in values.items()})


def odd_values(parameter: Parameter) -> Sequence[Any]:
    """Give unusual values that fit a schema."""
    return parameter.choices or [value for value in ODD[parameter.type] if fits(value, parameter)]


def odd_answers(texts: Sequence[str]) -> Iterator[Action]:
    """Give strange answers, also in the tags that the task shows."""
    tags = TAG.findall(texts[0])[:2] if texts else []
    for text in GARBAGE_TEXTS:
        yield Action(text=text)
        for tag in tags:
            yield Action(text=f"<{tag}>{text}</{tag}>")
    for tag in tags:
        yield Action(text=f"</{tag}><{tag}>")


def garbage_calls(tools: Sequence[ToolSpec]) -> Iterator[Action]:
    """Give actions that are no proper calls."""
    yield Action(malformed=("the arguments are no JSON",))
    yield Action(text="both", calls=(Call(id="0", name="no such tool"),), malformed=("broken", ""))
    yield call("no_such_tool", x=1)
    yield call("")
    for spec in tools:
        names = [p.name for p in spec.parameters]
        yield call(spec.name)
        yield call(spec.name, **dict.fromkeys(names))
        yield call(spec.name, **{n: {"a": [1]} for n in names})
        yield call(spec.name, **{n: "x" for n in names}, no_such_argument=1)
        yield Action(calls=tuple(Call(id=str(i), name=spec.name, arguments={"": i}) for i in range(20)))
