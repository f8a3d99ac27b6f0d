"""Real runs with something wrong: the cause is named first. And real runs with nothing wrong."""

from pathlib import Path

import pytest

from tests.diagnose.running import Case, examine, play
from tests.diagnose.sabotage import Unverified, case, of_any, of_tools, with_parts
from tests.learning.envs.guess import Guess
from tests.learning.envs.two_hop import TwoHop

WITH_TOOLS = of_any(TwoHop) | of_tools(
    TwoHop, name="boss", answer=lambda env: env.cities[env.bosses[env.who]], turns=2
)
WITHOUT = of_any(Guess)
SAMPLED = ("wrong mask", "learning rate x 100", "failing tool", "stale weights that are caught")
HEALTHY = {
    "as it is": case(),
    "a few steps": case(settings={"steps": 3}),
    "slowly": case(settings={"steps": 12, "learning_rate": 3e-4, "warmup_steps": 3, "final_rate": 0.1}),
    "an engine of somebody else's": case(engine=Unverified),
    "with a reference model": case(settings={"kl": 0.01, "minibatches": 1, "inner_epochs": 2}),
    "truncated episodes masked": case(settings={"truncation": "mask"}),
    "one attempt more": case(recipe=with_parts(group_size=9, temperature=0.9)),
}


def named_first(case: Case, folder: Path, model: Path, *, seed: int = 0) -> str:
    """Train, diagnose, and give what is named first."""
    _, found = examine(play(case, folder, model, seed=seed))
    return found[0].name if found else ""


@pytest.mark.parametrize("name", SAMPLED)
def test_the_cause_is_named_first(name: str, two_hop: Path, tmp_path: Path) -> None:
    wanted, spoilt = WITH_TOOLS[name]
    assert named_first(spoilt, tmp_path, two_hop) == wanted


def test_a_healthy_run_raises_no_alarm(two_hop: Path, tmp_path: Path) -> None:
    evidence, found = examine(play(HEALTHY["as it is"], tmp_path, two_hop))
    assert found == [] and evidence.progress[-1] > 0.7 > 0.4 > evidence.progress[0]


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", WITH_TOOLS)
def test_each_cause_is_named_first(name: str, seed: int, two_hop: Path, tmp_path: Path) -> None:
    wanted, spoilt = WITH_TOOLS[name]
    assert named_first(spoilt, tmp_path, two_hop, seed=seed) == wanted


@pytest.mark.long
@pytest.mark.parametrize("name", WITHOUT)
def test_each_cause_is_named_first_without_tools(name: str, guess: Path, tmp_path: Path) -> None:
    wanted, spoilt = WITHOUT[name]
    assert named_first(spoilt, tmp_path, guess) == wanted


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", HEALTHY)
def test_no_healthy_run_raises_an_alarm(name: str, seed: int, two_hop: Path, tmp_path: Path) -> None:
    assert named_first(HEALTHY[name], tmp_path, two_hop, seed=seed) == ""


@pytest.mark.long
@pytest.mark.parametrize("steps", [3, 8])
def test_nor_does_one_without_tools(steps: int, guess: Path, tmp_path: Path) -> None:
    assert named_first(case(Guess, settings={"steps": steps}), tmp_path, guess) == ""


@pytest.mark.long
def test_a_run_that_starts_well_raises_no_alarm(two_hop: Path, tmp_path: Path) -> None:
    taught = play(HEALTHY["as it is"], tmp_path / "first", two_hop)
    evidence, found = examine(play(HEALTHY["as it is"], tmp_path / "second", taught / "model"))
    assert found == [] and evidence.progress[0] > 0.7
