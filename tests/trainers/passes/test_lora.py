"""An adapter in the place of the weights: what moves, what is published, what is saved."""

import copy
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from agentrl.engine.weights import check_weights
from agentrl.errors import ConfigError
from agentrl.trainers.batch import make_batch
from agentrl.trainers.grpo import grpo
from agentrl.trainers.optimiser import OptimiserSettings
from agentrl.trainers.passes.forward import Forward
from agentrl.trainers.passes.settings import UpdateSettings
from agentrl.trainers.run.saving import save_folder
from agentrl.trainers.updater import Updater
from tests.trainers.making import small_model
from tests.trainers.updating import SETTINGS, step, two_groups

LORA = UpdateSettings(lora_rank=4)


def adapting(*, seed: int = 0, tied: bool = True) -> Updater:
    return Updater(small_model(tied=tied), SETTINGS, total_steps=4, update=LORA, seed=seed)


def test_only_the_adapter_is_trained() -> None:
    updater = adapting()
    before = {n: p.detach().clone() for n, p in updater.model.named_parameters()}
    numbers = sum(p.numel() for p in updater.optimiser.parameters)
    assert 0 < numbers < sum(p.numel() for p in small_model().parameters())
    for _ in range(2):
        step(updater, two_groups(), grpo(minibatches=1))
    for name, parameter in updater.model.named_parameters():
        assert torch.equal(parameter, before[name]) == (".lora_" not in name), name


def test_the_start_is_the_model_as_it_is_and_seeds_make_it() -> None:
    plain, rows = small_model(), make_batch(two_groups()).rows
    for name, value in adapting().named_tensors().items():
        assert torch.equal(value, plain.get_parameter(name))
    assert torch.equal(adapting().score(rows).logp_N, Forward(plain)(rows).logp_N)
    states = [updater.state_dict()["adapter"] for updater in (adapting(), adapting(), adapting(seed=1))]
    name = next(n for n in states[0] if "lora_A" in n)
    assert torch.equal(states[0][name], states[1][name]) and not torch.equal(states[0][name], states[2][name])


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_published_is_the_model_with_its_adapter(tied: bool, tmp_path: Path) -> None:
    """A plain model with the published weights, both saved folders and the trained one say the same."""
    updater, rows = adapting(tied=tied), make_batch(two_groups()).rows
    step(updater, two_groups(), grpo(minibatches=2))
    expected = updater.score(rows).logp_N
    served = small_model(tied=tied)
    published = check_weights(served, updater.named_tensors())
    served.load_state_dict(dict(published), strict=not tied)
    assert float((expected - Forward(small_model(tied=tied))(rows).logp_N.detach()).abs().max()) > 1e-2
    save_folder(tmp_path / "midst", updater.ordinary())
    updater.merge()
    save_folder(tmp_path / "end", updater.ordinary())
    assert all(torch.equal(p, published[n]) for n, p in updater.model.named_parameters())
    folders = [AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("midst", "end")]
    for model in (served, updater.model, *folders):
        assert not any("lora" in name for name in model.state_dict())
        assert_close(Forward(model)(rows).logp_N.detach(), expected, rtol=0, atol=1e-5)
    assert all(p.requires_grad for p in updater.model.parameters())


def test_the_reference_is_the_model_without_its_adapter() -> None:
    updater, rows = adapting(), make_batch(two_groups()).rows
    updater.keep_reference()
    recipe = grpo(kl=0.5, minibatches=1)
    first, second = (step(updater, two_groups(), recipe).records["kl"] for _ in range(2))
    assert abs(first) < 1e-6 < second
    assert updater.reference is not None
    assert torch.equal(updater.reference(rows).logp_N, Forward(small_model())(rows).logp_N)
    assert all(p.requires_grad for p in updater.optimiser.parameters)


def test_an_adapter_goes_on_from_a_checkpoint_bit_for_bit() -> None:
    updater, recipe = adapting(), grpo(minibatches=1)
    step(updater, two_groups(), recipe)
    other = adapting(seed=3)
    other.load_state_dict(copy.deepcopy(updater.state_dict()))
    for one in (updater, other):
        step(one, two_groups(), recipe)
    for name, value in updater.named_tensors().items():
        assert torch.equal(value, other.named_tensors()[name])


def test_a_checkpoint_of_another_kind_is_refused() -> None:
    plain = Updater(small_model(), SETTINGS, total_steps=4)
    with pytest.raises(ConfigError, match="differ on whether there is an adapter"):
        plain.load_state_dict(adapting().state_dict())


def test_settings_without_use_or_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs lora_rank"):
        UpdateSettings(lora_alpha=4.0)
    with pytest.raises(ConfigError, match="lora_rank=-1"):
        UpdateSettings(lora_rank=-1)
    with pytest.raises(ConfigError, match="did you mean 'shared'"):
        UpdateSettings(path="share")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="max_tokens=0"):
        UpdateSettings(max_tokens=0)
    assert OptimiserSettings().resolved(from_scratch=False, adapter=True).learning_rate == 1e-5


def test_an_adapter_runs_with_every_setting() -> None:
    """Checkpoints and the shared path change nothing in what an adapter learns; bf16 little."""
    found = []
    for settings in ({}, {"checkpointing": True, "path": "shared", "max_tokens": 60}, {"precision": "bf16"}):
        update = UpdateSettings(lora_rank=4, **settings)
        updater = Updater(small_model(), SETTINGS, total_steps=1, update=update)
        found.append(step(updater, two_groups(), grpo(minibatches=1)).grad_norm)
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert found[2] == pytest.approx(found[0], rel=0.05) and found[2] != found[0]
