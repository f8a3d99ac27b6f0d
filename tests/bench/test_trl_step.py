"""The `trl_step` benchmark: both sides do the same work, and what is not the same is refused."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agentrl.bench.speed.trl import ours
from agentrl.bench.speed.trl.peer import Lookup
from agentrl.bench.speed.trl.side import Choice, Side, Step
from agentrl.bench.speed.trl.step import refuse_unequal, speeds, trl_step
from agentrl.bench.speed.trl.sweep import Trial, attempt, fastest, kinds
from agentrl.bench.speed.trl.work import WORLD, Work
from agentrl.bench.speed.trl.world import Words
from agentrl.dialect.hermes import HermesDialect
from agentrl.engine.complete import complete
from agentrl.engine.loading import load_model
from agentrl.engine.protocol import Completion, Sampling
from agentrl.engine.torch_engine import TorchEngine
from agentrl.errors import InfrastructureError
from agentrl.message import Action
from agentrl.progress import SilentProgress
from agentrl.registry import resolve_env
from agentrl.task import Task

SMALL = Work(size="0.5M", prompts=2, group_size=2, turn=12)
DRAWN = replace(SMALL, lengths="lognormal")
STEP = Step(
    step_seconds=3.0,
    rollout_seconds=2.0,
    train_seconds=1.0,
    cpu_seconds=3.0,
    prompt_tokens=400,
    sampled_tokens=144,
    tokens=1000,
    prompts="0123",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    SMALL.save(folder)
    return folder


@pytest.mark.parametrize("size", ["0.5M", "5M"])
def test_models_have_the_size_that_they_say(size: str, tmp_path: Path) -> None:
    parameters = replace(SMALL, size=size).save(tmp_path)
    assert parameters == pytest.approx(float(size.removesuffix("M")) * 1e6, rel=0.03)


def sampled_by_us(model: Path, prompt: list[int], *, count: int = 8) -> list[Completion]:
    async def main() -> list[Completion]:
        loaded, _ = load_model(model)
        engine = TorchEngine(loaded)
        try:
            sampling = Sampling(stop_ids=frozenset([loaded.config.eos_token_id]))
            jobs = (complete(engine, prompt, sampling, seed=seed) for seed in range(count))
            return list(await asyncio.gather(*jobs))
        finally:
            await engine.close()

    return asyncio.run(main())


def sampled_by_transformers(model: Path, prompt: list[int]) -> list[list[int]]:
    torch.manual_seed(0)
    loaded, _ = load_model(model)
    ids = torch.tensor([prompt] * 8)
    out = loaded.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, max_new_tokens=64
    )
    found: list[list[int]] = out[:, len(prompt) :].tolist()
    return found


def test_every_sampler_gets_turns_of_one_length_that_end_in_a_call(model: Path) -> None:
    _, tokenizer = load_model(model)
    dialect, env = HermesDialect(tokenizer), Words()
    task = Task(id="t", split="train", level=0, seed=0)
    prompt = dialect.prompt(Words.system, env.tools, asyncio.run(env.begin(task)).parts).ids.tolist()
    completions = [c.ids.tolist() for c in sampled_by_us(model, prompt)]
    completions += sampled_by_transformers(model, prompt)
    assert {len(c) for c in completions} == {SMALL.turn} and {c[-1] for c in completions} <= dialect.stop_ids
    actions: list[Action] = [dialect.parse(c, env.tools) for c in completions]
    assert all(len(a.calls) == 1 and not a.malformed and a.text.startswith(" o") for a in actions)
    assert len({str(a.calls[0].arguments["word"]) for a in actions}) > 4
    assert len({a.text for a in actions}) > 8  # of 2**6 texts: drawn, not recited


def test_turns_of_log_normal_length_are_equally_likely(tmp_path: Path) -> None:
    DRAWN.save(tmp_path)
    _, tokenizer = load_model(tmp_path)
    prompt = HermesDialect(tokenizer).prompt("", (), ()).ids.tolist()
    completions = sampled_by_us(tmp_path, prompt, count=320)
    counts = Counter(len(c.ids) for c in completions)
    assert {c.finish for c in completions} == {"stop"} and set(counts) <= set(DRAWN.turns.tokens)
    assert len(counts) > 13 and max(counts.values()) < 60  # 20 each, times the noise of the weights
    logarithms = np.log(DRAWN.turns.filler)
    assert abs(np.median(logarithms) - np.log(46)) < 0.1 and 0.6 < logarithms.std() < 0.8


def test_our_side_trains_on_all_that_it_samples_and_waits_for_the_other(model: Path, tmp_path: Path) -> None:
    waited: list[int] = []
    steps = ours.train(model, SMALL, tmp_path, lambda: waited.append(len(waited)), steps=2)
    assert waited == [0, 1] and len(steps) == 2
    for step in steps:
        assert step.sampled_tokens == SMALL.sampled
        assert 0 < step.train_seconds and 0 < step.rollout_seconds
        assert step.prompt_tokens > 4 * 150 and step.tokens > step.prompt_tokens + step.sampled_tokens


def test_both_sides_are_asked_the_same() -> None:
    tasks = resolve_env(WORLD).tasks("train", seed=0).take(4)
    asked = SMALL.conversations(2)["prompts"]
    assert [turns[1]["content"] for turns in asked] == [
        asyncio.run(Words().begin(task)).text for task in tasks
    ]
    assert len({turns[1]["content"] for turns in asked}) == 4


def test_the_reward_differs_from_episode_to_episode_and_follows_from_the_words() -> None:
    one, other, same = Lookup(), Lookup(), Lookup()
    for lookup, word in ((one, "w01"), (other, "w02"), (same, "w01")):
        assert lookup.look(word).startswith(f"The word {word} is number ")
    assert one.get_reward() == same.get_reward() != other.get_reward()
    one.reset()
    assert one.get_reward() != same.get_reward()


@pytest.mark.parametrize(
    ("ours_", "theirs", "said"),
    [
        ({}, {}, ""),
        ({"prompt_tokens": 403, "tokens": 1009}, {}, ""),
        ({"prompt_tokens": 405}, {}, "prompt_tokens are 405 here and 400 there"),
        ({"tokens": 1011}, {}, "tokens are 1011 here and 1000 there"),
        ({"sampled_tokens": 143}, {"sampled_tokens": 143}, "step 1: 143 sampled tokens, not 144"),
        ({}, {"sampled_tokens": 142}, "sampled_tokens are 144 here and 142 there"),
        ({"prompts": "4567"}, {}, "step 1: the two sides were given different prompts"),
    ],
)
def test_unequal_work_has_no_ratio(ours_: dict[str, Any], theirs: dict[str, Any], said: str) -> None:
    pair = [replace(STEP, **ours_)], [replace(STEP, **theirs)]
    if not said:
        refuse_unequal(*pair, SMALL)
    else:
        with pytest.raises(InfrastructureError, match=said):
            refuse_unequal(*pair, SMALL)


def test_drawn_lengths_may_differ_a_little_over_all_steps() -> None:
    more, fewer = replace(STEP, sampled_tokens=160), replace(STEP, sampled_tokens=128)
    refuse_unequal([more, fewer], [STEP, STEP], DRAWN)
    with pytest.raises(InfrastructureError, match="sampled_tokens are 320 here and 256 there"):
        refuse_unequal([more, more], [fewer, fewer], DRAWN)


def test_speeds_are_tokens_a_second() -> None:
    step, twice = STEP, replace(STEP, sampled_tokens=288, step_seconds=6.0)
    assert speeds([step, twice], "step") == [48.0, 48.0]


def test_the_fastest_trial_wins_and_a_refused_one_never() -> None:
    slow, fast = Choice(), Choice(rows=16)
    trials = [
        Trial(choice=Choice(compiled=True), refused="no compiler"),
        Trial(choice=slow, step=STEP),
        Trial(choice=fast, step=replace(STEP, cpu_seconds=2.5, step_seconds=9.0)),
    ]
    assert fastest(trials) == fast
    assert trials[0].to_json()["refused"] == "no compiler" and "refused" in str(trials[0])


def test_the_sweep_tries_what_fits_the_work() -> None:
    assert [v for kind in kinds(replace(SMALL, prompts=1, group_size=8)) for v in kind] == [
        {"attention": "eager"},
        {"generation": "static"},
        {"generation": "continuous"},
        {"rows": 2},
        {"rows": 4},
        {"compiled": True},
    ]


def test_a_side_that_does_not_start_says_why() -> None:
    with pytest.raises(InfrastructureError, match="TRL's process ended: (?s:.*)No package metadata .* trl"):
        Side(Path(sys.executable))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_settings_that_trl_refuses_are_shown_and_the_next_ones_run(model: Path) -> None:
    with Side() as side:
        refused = attempt(side, model, SMALL, Choice(rows=3))
        assert refused.seconds == float("inf") and "must be divisible" in refused.refused
        done = attempt(side, model, SMALL, Choice(rows=4))
    assert done.step is not None and done.step.sampled_tokens == SMALL.sampled


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_trl_and_we_do_the_same_work() -> None:
    works = [replace(SMALL, group_size=4), replace(DRAWN, group_size=8)]
    claims = {claim.name: claim for claim in trl_step(SilentProgress(), works=works, runs=1)}
    names = ["0.5M.step", "0.5M.training_pass", "0.5M.lognormal.step", "0.5M.lognormal.training_pass"]
    assert list(claims) == [f"trl_step.{name}" for name in names]
    row = claims["trl_step.0.5M.step"].to_json()
    assert row["tokens"] == row["peer_tokens"] and row["tokens"]["sampled_tokens"] == works[0].sampled
    assert row["peer"]["name"] == "TRL 1.16.0" and row["versions"]["peer transformers"] == "5.23.0"
    trials = row["sweep"]
    assert sum("refused" not in trial for trial in trials) >= 6
    assert row["ratio"] == claims["trl_step.0.5M.step"].ratio > 0
