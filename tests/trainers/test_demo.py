"""The quickstart learns, and its controls take away what they say."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from agentrl.adapter import Adapter
from agentrl.engine.loading import load_model
from agentrl.errors import ConfigError
from agentrl.message import ToolResult, call
from agentrl.task import Task
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool
from agentrl.trainers.controls import Blanked, ShuffledReward
from agentrl.trainers.demo import run_demo
from agentrl.trainers.parts import StepContext
from tests.trainers.making import scored_group


@pytest.mark.timeout(600)
def test_the_demo_learns_to_use_its_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One seed, with room for noise; the README says what many seeds give."""
    monkeypatch.chdir(tmp_path)
    result = run_demo(seed=0)
    assert result["success_init"] <= 0.05
    assert max(result["success_before"], result["greedy_before"]) <= 0.4
    assert min(result["success_after"], result["greedy_after"]) >= 0.85
    assert result["blanked_after"] <= 0.1, "it must not solve tasks without reading what its tool says"
    assert result["isolation"] in ("namespaces", "landlock") and result["failures"] == {}
    assert result["episodes"] == result["steps"] * 128 and result["tool_calls"] > result["episodes"]
    assert {"model", "warm_start", "train", "evaluate", "total"} == result["seconds"].keys()
    load_model(f"{result['run']}/model")


def test_an_unknown_control_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'no-tool'"):
        run_demo(control="no-tools")


def test_shuffled_rewards_are_the_same_rewards_elsewhere() -> None:
    group = scored_group("a", [0, 0, 0, 1, 1, 2, 3, 4])
    shuffle = ShuffledReward(seed=1)
    dealt = [shuffle(group, StepContext(step=step)) for step in range(40)]
    assert all(sorted(g.rewards) == sorted(group.rewards) for g in dealt)
    assert shuffle(group, StepContext(step=3)).rewards == dealt[3].rewards
    moved = np.mean([np.array(g.rewards) for g in dealt], axis=0)
    assert np.ptp(moved) < 1.2, "over many steps no attempt is favoured"


class Shop(ToolEnv):
    """Has one price."""

    def task(self, rng: np.random.Generator) -> str:
        self.asked = 0
        return "price?"

    @tool
    def price(self) -> int:
        """Say the price."""
        self.asked += 1
        return 12

    def reward(self, answer: str) -> float:
        return float(answer == "12")


def test_blanked_tools_run_and_say_nothing() -> None:
    async def play() -> None:
        raw = Shop()
        env = Blanked(Adapter(raw, Shop))
        await env.start(Task(id="t", split="train", level=0, seed=1))
        for action in (call("price"), call("prize")):
            result = await env.act(action)
            assert result.observation.parts == (ToolResult(call_id="0", name=action.calls[0].name, text=""),)
        assert raw.asked == 1
        await env.close()

    asyncio.run(play())
