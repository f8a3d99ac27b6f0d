"""`agentrl train`: what it refuses, and what it says before it trains."""

from pathlib import Path

import pytest

from tests.cli.conftest import Run

SAY = """
from agentrl import ToolEnv


class Say(ToolEnv):
    def task(self, rng):
        self.number = int(rng.integers(1000))
        return f"say {self.number}"

    def reward(self, answer):
        return float("nan")
"""

WRONG = [
    (["code", "--model", "no/such"], "no model 'no/such'"),
    (["code", "--model", "Qwen/Qwen3-0.6B"], "`hf download Qwen/Qwen3-0.6B` fetches it"),
    (["code", "--model", "tiiny"], "did you mean 'tiny'?"),
    (["code", "--model", "tiny", "--algorithm", "grop"], "did you mean 'grpo'?"),
    (["code", "--model", "tiny", "--algorithm", "sapo", "--set", "clip_high=1"], "no setting 'clip_high'"),
    (["code", "--model", "tiny", "--set", "clip_hihg=1"], "did you mean 'clip_high'?"),
    (["code", "--model", "tiny", "--set", "env.levl=1"], "did you mean 'level'?"),
    (["code", "--model", "tiny", "--set", "env.level=7"], "level=7: it has levels 0, 1, 2, 3"),
    (["code", "--model", "tiny", "--set", "clip_low=abc"], "clip_low='abc': need a number"),
    (["code", "--model", "tiny", "--set", "group_size=1"], "group_size=1"),
    (["code", "--model", "tiny", "--steps", "0"], "'0': need a whole number of 1 or more"),
    (["say.py:Say", "--model", "tiny"], "has no expert(observations)"),
    (["say.py:Say", "--model", "tiny", "--unsafe-local"], "runs no code in a sandbox"),
]


@pytest.mark.parametrize(
    ("words", "message"), WRONG, ids=lambda x: " ".join(x) if isinstance(x, list) else ""
)
def test_wrong_input_is_one_line(words: list[str], message: str, agentrl_here: Run, tmp_path: Path) -> None:
    (tmp_path / "say.py").write_text(SAY)
    assert message in agentrl_here("train", *words).complaint
    assert not (tmp_path / "runs").exists()


def test_dry_run_resolves_everything_and_trains_nothing(agentrl_here: Run, tmp_path: Path) -> None:
    words = ["code", "--model", "tiny", "--steps", "7", "--set", "clip_high=0.3", "--dry-run", "--json"]
    data = agentrl_here("train", *words).data
    assert data["algorithm_settings"]["clip_high"] == 0.3 and data["algorithm_settings"]["steps"] == 7
    assert data["parameters"] > 100_000 and data["memory_mib"]
    assert not (tmp_path / "runs").exists()


def test_an_algorithm_is_chosen_by_name(agentrl_here: Run, agentrl: Run) -> None:
    chosen = ["--algorithm", "dapo", "--set", "overlong_length=64", "--set", "overlong_cache=16"]
    data = agentrl_here("train", "code", "--model", "tiny", *chosen, "--dry-run", "--json").data
    assert data["algorithm"] == "dapo" and data["algorithm_settings"]["overlong_length"] == 64
    assert data["algorithm_settings"]["max_generations"] == 10
    assert "dapo, dr_grpo, grpo" in " ".join(agentrl("train", "--help").out.split())


def test_bench_of_nothing_but_failures_is_refused(agentrl_here: Run, tmp_path: Path) -> None:
    (tmp_path / "say.py").write_text(SAY)
    complaint = agentrl_here("bench", "say.py:Say", "--policy", "valid-random", "--tasks", "3").err
    assert "every episode of 'valid-random' on say.py:Say failed (3 reward)" in complaint
