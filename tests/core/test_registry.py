"""An environment may also be made by a function, which must say what is read of a class."""

from typing import Any, ClassVar

import pytest

from agentrl.errors import ConfigError
from agentrl.evaluation import has_expert
from agentrl.registry import EnvSpec
from agentrl.toolenv import ToolEnv
from agentrl.trainers.tiny.play import expert_of


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


class Uneven(Plain):
    """Says of itself what is read of whatever is made."""

    deterministic: ClassVar[bool] = False

    def expert(self, seen: list[str]) -> str:
        return "anything"


def uneven() -> Uneven:
    return Uneven()


def test_a_function_makes_what_needs_no_class() -> None:
    assert isinstance(EnvSpec(name="plain", kind=plain).make(), Plain)
    for kind in (Uneven, uneven):
        spec = EnvSpec(name="uneven", kind=kind)
        assert has_expert(spec) and spec.trait("deterministic", True) is False and spec.trait("fork") is None
        assert expert_of(spec)(0)(["?"]).text == "anything"
    assert not has_expert(EnvSpec(name="plain", kind=plain))


def test_what_a_function_would_lose_is_named() -> None:
    def levelled() -> Levelled:
        return Levelled()

    spec = EnvSpec(name="mine:levelled", kind=levelled)
    with pytest.raises(ConfigError, match=r"levels of Levelled .*levelled\.levels = Levelled\.levels"):
        spec.make()
    levelled.levels = Levelled.levels  # type: ignore[attr-defined]
    assert isinstance(spec.make(), Levelled) and spec.levels == (2, 3)
    assert isinstance(EnvSpec(name="class", kind=Levelled).make(), Levelled)
