"""The door in the manner of TRL: mistakes are found before anything is made."""

from typing import Any

import pytest

from agentrl.errors import ConfigError
from agentrl.toolenv import ToolEnv
from agentrl.trainers.grpo_trainer import GRPOTrainer


class Echo(ToolEnv):
    """Say the word that is shown."""

    def __init__(self, *, words: int = 3) -> None:
        super().__init__()
        self.words = words

    def task(self, rng: Any) -> str:
        self.word = "abc"[int(rng.integers(0, 3))]
        return f"Say {self.word}"

    def reward(self, answer: str) -> float:
        return float(answer == self.word)


def test_settings_go_to_their_parts() -> None:
    settings: dict[str, Any] = {"env.words": 2}
    trainer = GRPOTrainer("tiny", Echo, steps=3, clip_low=0.1, **settings)
    assert trainer.plan.recipe.steps == 3 and trainer.plan.spec.settings == {"words": 2}
    assert trainer.plan.spec.name.endswith(":Echo") and trainer.plan.tiny


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("tiny", {"group_sise": 4}, "did you mean 'group_size'"),
        ("tiny", {"group_size": 1}, "group_size=1"),
        ("tiny", {"env.word": 2}, "did you mean 'words'"),
        ("tini", {}, "did you mean 'tiny'"),
        ("no/such/folder", {}, "give 'tiny' or a checkpoint folder"),
    ],
)
def test_mistakes_are_found_at_once(model: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GRPOTrainer(model, Echo, **settings)
