"""Small environments as a newcomer writes them: their experts solve them, and a tiny model learns them."""

import asyncio
from pathlib import Path

import pytest

from agentrl.registry import resolve_env
from agentrl.trainers.tiny.demonstrations import Demonstrations, share_correct
from agentrl.trainers.tiny.make import make_tiny
from agentrl.trainers.tiny.play import expert_of, play_many
from tests.learning.report import environments, run

NAMES = sorted(environments())


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small_and_its_expert_solves_it(name: str) -> None:
    reference = environments()[name]
    spec = resolve_env(reference)

    async def played() -> float:
        async with spec.open() as worker:
            return share_correct(
                await play_many(worker, expert_of(spec), spec.tasks("test", seed=0).take(32))
            )

    assert asyncio.run(played()) == 1.0
    code = Path(reference.rpartition(":")[0]).read_text().partition("\nclass ")[2]
    assert len(code.splitlines()) <= 40


@pytest.mark.parametrize("name", NAMES)
def test_a_sloppy_expert_solves_about_a_quarter(name: str) -> None:
    spec = resolve_env(environments()[name])

    async def shares() -> tuple[float, float, float]:
        async with spec.open() as worker:
            tiny = await make_tiny(worker, spec.tasks("train", seed=1))
            made = Demonstrations(worker=worker, tiny=tiny, tasks=spec.tasks("train", seed=2), seed=0)
            await made.calibrate()
            noisy = share_correct(await made.play(128, noise=made.noise))
            bad = share_correct(await made.play(128, noise=made.noise, habit=made.habit))
            return noisy, bad, made.settings.habit_share(noisy, bad)

    noisy, bad, share = asyncio.run(shares())
    assert 0.7 < noisy and bad < 0.1 and share > 0.5
    assert 0.2 <= share * bad + (1 - share) * noisy <= 0.35


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_a_tiny_model_learns_it(name: str) -> None:
    result = run(environments()[name], seed=0)
    assert "error" not in result, result
    before = [float(str(result[k])) for k in ("success_before", "greedy_before")]
    after = [float(str(result[k])) for k in ("success_after", "greedy_after")]
    assert max(before) <= 0.4 and min(after) >= 0.7
