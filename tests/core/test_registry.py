"""An environment may also be made by a function, which must say what is read of a class."""

from typing import Any, ClassVar

import pytest

from agentrl.errors import ConfigError
from agentrl.registry import EnvSpec
from agentrl.toolenv import ToolEnv


class Plain(ToolEnv):
    """Has nothing but what every `ToolEnv` has."""

    def task(self, rng: Any) -> str:
        return "Say anything."

    def reward(self, answer: str) -> float:
        return 1.0


class Levelled(Plain):
    """Has levels and an expert."""

    levels: ClassVar[tuple[int, ...]] = (2, 3)

    def expert(self, seen: list[str]) -> str:
        return "anything"


def plain() -> Plain:
    return Plain()


def test_a_function_makes_what_needs_no_class() -> None:
    assert isinstance(EnvSpec(name="plain", kind=plain).make(), Plain)


def test_what_a_function_would_lose_is_named() -> None:
    def levelled() -> Levelled:
        return Levelled()

    spec = EnvSpec(name="mine:levelled", kind=levelled)
    with pytest.raises(
        ConfigError, match=r"levels, expert of Levelled .*levelled\.levels = Levelled\.levels"
    ):
        spec.make()
    levelled.levels, levelled.expert = Levelled.levels, Levelled.expert  # type: ignore[attr-defined]
    assert isinstance(spec.make(), Levelled) and spec.levels == (2, 3)
    assert isinstance(EnvSpec(name="class", kind=Levelled).make(), Levelled)
