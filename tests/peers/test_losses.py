"""The losses are those of TRL and verl: their own functions, in environments of their own, on our numbers.

Where a peer differs in a detail (TRL counts empty rows, verl adds 1e-8 to lengths), ours is set alike or the
tolerance is that detail.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from agentrl.bench.speed.trl.side import REQUIREMENTS
from agentrl.bench.speed.venvs import python_with
from agentrl.trainers.cispo import cispo
from agentrl.trainers.dapo import dapo
from agentrl.trainers.dr_grpo import dr_grpo
from agentrl.trainers.grpo import grpo
from agentrl.trainers.gspo import gspo
from agentrl.trainers.losses import kl
from agentrl.trainers.parts import StepContext
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.reinforce_pp import reinforce_pp, reinforce_pp_baseline
from agentrl.trainers.rloo import rloo
from agentrl.trainers.sapo import sapo
from agentrl.trainers.standard import GroupAdvantage, LeaveOneOut, MismatchCorrection
from agentrl.trainers.standard.corrections import Kind, Level
from tests.peers.running import run_in
from tests.trainers.losses.toy import T0, Toy, batch_of, loss_and_gradient, random_toy, tokens_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
Answers = dict[tuple[str, str, int], dict[str, Any]]
HERE = Path(__file__).parent
TOYS = [T0, *(random_toy(seed, empty=False) for seed in range(8))]
ROWS: Final = "seq_mean_token_mean"


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Our recipe, and the options with which a peer's function is the same."""

    ours: Recipe
    name: str
    options: dict[str, Any] = field(default_factory=dict)


CORRECTED = grpo(
    clip_high=0.2,
    aggregate=ROWS,
    count_empty_rows=True,
    kl=0.1,
    mismatch="mask",
    mismatch_level="episode",
    mismatch_high=3.0,
    mismatch_low=0.0,
)
PAPER = grpo(clip_high=0.2, aggregate=ROWS, count_empty_rows=True)
TRL = {
    "grpo": Loss(ours=PAPER, name="grpo"),
    "grpo with k3": Loss(
        ours=grpo(clip_high=0.2, aggregate=ROWS, kl=0.1), name="grpo", options={"beta": 0.1}
    ),
    "grpo with weighted k3": Loss(
        ours=grpo(clip_high=0.2, aggregate=ROWS, kl=0.1, kl_estimator="k3_weighted"),
        name="grpo",
        options={"beta": 0.1, "use_bias_correction_kl": True},
    ),
    "dual clip": Loss(
        ours=grpo(clip_high=0.2, aggregate=ROWS, dual_clip=1.5), name="grpo", options={"delta": 1.5}
    ),
    "dapo": Loss(ours=dapo(), name="grpo", options={"loss_type": "dapo", "epsilon_high": 0.28}),
    "dr_grpo": Loss(
        ours=dr_grpo(max_length=10, count_empty_rows=True), name="grpo", options={"loss_type": "dr_grpo"}
    ),
    "gspo": Loss(
        ours=gspo(clip_low=0.1, clip_high=0.15),
        name="grpo",
        options={"importance_sampling_level": "sequence", "epsilon_low": 0.1, "epsilon_high": 0.15},
    ),
    "luspo": Loss(
        ours=gspo(clip_low=0.1, clip_high=0.15, length_weighted=True, count_empty_rows=True),
        name="grpo",
        options={
            "loss_type": "luspo",
            "importance_sampling_level": "sequence",
            "epsilon_low": 0.1,
            "epsilon_high": 0.15,
        },
    ),
    "cispo": Loss(
        ours=cispo(clip_high=0.5), name="grpo", options={"loss_type": "cispo", "epsilon_high": 1.5}
    ),
    "sapo": Loss(  # TRL keeps temperatures in float32, where this one is exact
        ours=sapo(temperature_negative=1.0625),
        name="grpo",
        options={"loss_type": "sapo", "sapo_temperature_neg": 1.0625},
    ),
    "corrected": Loss(ours=CORRECTED, name="grpo", options={"beta": 0.1, "ratio": None}),
    "rloo": Loss(ours=rloo(), name="rloo"),
}
VERL = {
    "token mean, dual clip": Loss(
        ours=grpo(dual_clip=1.5),
        name="vanilla",
        options={"mode": "token-mean", "clip_ratio_high": 0.28, "clip_ratio_c": 1.5},
    ),
    "mean of rows": Loss(
        ours=grpo(clip_high=0.2, aggregate=ROWS, dual_clip=3.0),
        name="vanilla",
        options={"mode": "seq-mean-token-mean"},
    ),
    "sum of rows": Loss(
        ours=grpo(clip_high=0.2, aggregate="seq_mean_token_sum", dual_clip=3.0),
        name="vanilla",
        options={"mode": "seq-mean-token-sum"},
    ),
    "dr_grpo": Loss(
        ours=dr_grpo(max_length=9),
        name="vanilla",
        options={"mode": "seq-mean-token-sum-norm", "scale": 9, "clip_ratio_c": 1e9},
    ),
    "gspo": Loss(
        ours=gspo(clip_low=0.1, clip_high=0.15),
        name="gspo",
        options={"mode": "seq-mean-token-mean", "clip_ratio_low": 0.1, "clip_ratio_high": 0.15},
    ),
    "cispo": Loss(
        ours=cispo(clip_low=0.2, clip_high=0.28),
        name="cispo",
        options={"mode": "token-mean", "clip_ratio_high": 0.28},
    ),
    "sapo": Loss(ours=sapo(), name="sapo", options={"mode": "seq-mean-token-mean"}),
    "corrected": Loss(
        ours=grpo(dual_clip=3.0, mismatch="truncate", mismatch_level="episode"),
        name="vanilla",
        options={"mode": "token-mean", "clip_ratio_high": 0.28},
    ),
}
ADVANTAGES: dict[str, tuple[str, Recipe, dict[str, Any]]] = {
    "grpo": ("grpo", grpo(singleton="raw"), {}),
    "dr_grpo": ("grpo", dr_grpo(singleton="raw"), {"norm_adv_by_std_in_grpo": False}),
    "rloo": ("rloo", rloo(singleton="raw"), {}),
    "reinforce_pp": ("reinforce_plus_plus", reinforce_pp(), {}),
    "reinforce_pp discounted": ("reinforce_plus_plus", reinforce_pp(discount=0.9), {"gamma": 0.9}),
    "reinforce_pp_baseline": ("reinforce_plus_plus_baseline", reinforce_pp_baseline(), {}),
}
CORRECTIONS: dict[str, tuple[Kind, Level, float, float, str]] = {
    "token truncated": ("truncate", "token", 0.0, 1.2, "1.2"),
    "episode truncated": ("truncate", "episode", 0.0, 1.2, "1.2"),
    "token masked": ("mask", "token", 0.8, 1.2, "0.8_1.2"),
    "episode masked": ("mask", "episode", 0.8, 1.2, "0.8_1.2"),
}
ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "k1": kl.k1,
    "k2": kl.k2,
    "k3": kl.k3,
    "k1+": lambda new, reference: kl.with_gradient_of_k2(kl.k1(new, reference), new, reference),
    "k3+": lambda new, reference: kl.with_gradient_of_k2(kl.k3(new, reference), new, reference),
}


def padded(toy: Toy, values_N: Tensor) -> list[list[float]]:
    """Put the values of trained tokens where they stand in the rows."""
    values_BT = torch.zeros(toy.mask_BT.shape, dtype=torch.float64)
    values_BT[toy.mask_BT] = values_N.double()
    found: list[list[float]] = values_BT.tolist()
    return found


def weights_of(recipe: Recipe, toy: Toy) -> list[list[float]] | None:
    correction = recipe.correction
    return None if correction is None else padded(toy, correction(tokens_of(toy, recipe)))


def advantages_of(recipe: Recipe, toy: Toy) -> list[list[float]]:
    return padded(toy, recipe.advantage(batch_of(toy), StepContext()))


def corrected(name: str, toy: Toy) -> Tensor:
    kind, level, low, high, _ = CORRECTIONS[name]
    return MismatchCorrection(kind=kind, level=level, low=low, high=high)(tokens_of(toy, grpo()))


@pytest.fixture(scope="module")
def trl() -> Answers:
    return asked("trl")


@pytest.fixture(scope="module")
def verl() -> Answers:
    return asked("verl")


def asked(peer: str) -> Answers:
    """Ask a peer for everything at once; gives what it said by kind, name and batch."""
    cases = {"trl": trl_cases, "verl": verl_cases}[peer]()
    python = python_with(peer, *{"trl": REQUIREMENTS, "verl": ("verl==0.9.1", "torch==2.13.0")}[peer])
    answers = json.loads(run_in(python, HERE / f"{peer}_losses.py", json.dumps(list(cases.values()))))
    return dict(zip(cases, answers, strict=True))


def trl_cases() -> Answers:
    cases = {}
    for name, loss in TRL.items():
        for index, toy in enumerate(TOYS):
            options = dict(loss.options)
            if "ratio" in options:
                options["ratio"] = weights_of(loss.ours, toy)
            per_row = [max(row, key=abs) for row in advantages_of(loss.ours, toy)]
            cases["policy", name, index] = {
                "kind": loss.name,
                "toy": asdict(toy),
                "options": options,
                "advantage": per_row,
            }
    return cases


def verl_cases() -> Answers:
    cases: Answers = {}
    for index, toy in enumerate(TOYS):
        for name, loss in VERL.items():
            cases["policy", name, index] = {
                "name": loss.name,
                "options": loss.options,
                "advantage": advantages_of(loss.ours, toy),
                "weights": weights_of(loss.ours, toy),
            }
        for name, (theirs, _, options) in ADVANTAGES.items():
            cases["advantage", name, index] = {"name": theirs, "options": options}
        for name in ESTIMATORS:
            cases["divergence", name, index] = {"name": name}
        for name, (_, level, _, _, threshold) in CORRECTIONS.items():
            if not corrected(name, toy).any():
                continue  # verl divides by the sum of the weights there
            level_there = {"token": "token", "episode": "sequence"}[level]
            options = {"rollout_is": level_there, "rollout_is_threshold": threshold}
            cases["correction", name, index] = {"options": options}
    return {key: case | {"kind": key[0], "toy": asdict(TOYS[key[2]])} for key, case in cases.items()}


def check_loss(answers: Answers, name: str, recipe: Recipe) -> None:
    for index, toy in enumerate(TOYS):
        answer = answers["policy", name, index]
        loss, gradient_N = loss_and_gradient(recipe, toy)
        # verl divides by a length + 1e-8
        assert float(loss) == pytest.approx(answer["loss"], rel=1e-7, abs=1e-9)
        assert_close(gradient_N, toy.flat(answer["gradient"]), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", TRL)
def test_trl_has_the_same_loss_and_gradient(name: str, trl: Answers) -> None:
    check_loss(trl, name, TRL[name].ours)


@pytest.mark.parametrize("name", VERL)
def test_verl_has_the_same_loss_and_gradient(name: str, verl: Answers) -> None:
    check_loss(verl, name, VERL[name].ours)


@pytest.mark.parametrize("name", ADVANTAGES)
def test_verl_has_the_same_advantages(name: str, verl: Answers) -> None:
    _, recipe, _ = ADVANTAGES[name]
    assert isinstance(recipe.advantage, GroupAdvantage | LeaveOneOut) or "reinforce" in name
    for index, toy in enumerate(TOYS):
        theirs_N = toy.flat(verl["advantage", name, index]["value"])
        # verl takes the statistics of a group alone in float32
        assert_close(recipe.advantage(batch_of(toy), StepContext()), theirs_N, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_verl_has_the_same_divergences(name: str, verl: Answers) -> None:
    for index, toy in enumerate(TOYS):
        answer = verl["divergence", name, index]
        new_N = toy.flat(toy.new).requires_grad_()
        ours_N = ESTIMATORS[name](new_N, toy.flat(toy.reference))
        (gradient_N,) = torch.autograd.grad(ours_N.sum(), new_N)
        assert_close(ours_N.detach(), toy.flat(answer["value"]))
        assert_close(gradient_N, toy.flat(answer["gradient"]))


@pytest.mark.parametrize("name", CORRECTIONS)
def test_verl_has_the_same_corrections(name: str, verl: Answers) -> None:
    high = CORRECTIONS[name][3]
    acted, asked_for = 0, 0
    for index, toy in enumerate(TOYS):
        answer = verl.get(("correction", name, index))
        if answer is None:
            continue
        ours_N, asked_for = corrected(name, toy), asked_for + 1
        assert_close(ours_N, toy.flat(answer["value"]))
        acted += int(((ours_N == 0) | (ours_N == high)).sum())
    assert acted > 3 and asked_for > 5
