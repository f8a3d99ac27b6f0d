"""Runs under a Python that has verl: cases on standard input, what its functions give on standard output."""

import importlib
import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch


def of_verl(module: str) -> Any:
    """Give a module of verl."""
    return importlib.import_module(f"verl.{module}")


def tensors(toy: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Give the columns of a batch."""
    names = ("new", "old", "reference", "behaviour")
    return {n: torch.tensor(toy[n], dtype=torch.float64) for n in names}


def advantage(case: dict[str, Any]) -> dict[str, Any]:
    """Run an estimator; the reward stands at the last trained token."""
    toy = case["toy"]
    mask_BT = torch.tensor(toy["mask"], dtype=torch.float64)
    reward_BT = torch.zeros_like(mask_BT)
    for row, reward in enumerate(toy["reward"]):
        reward_BT[row, int(mask_BT[row].nonzero().max())] = reward
    options = dict(case["options"])
    config = SimpleNamespace(gamma=options.pop("gamma", 1.0))
    estimate = of_verl("trainer.ppo.core_algos").get_adv_estimator_fn(case["name"])
    found, _ = estimate(reward_BT, mask_BT, index=np.array(toy["group"]), config=config, **options)
    return {"value": found.tolist()}


def policy(case: dict[str, Any]) -> dict[str, Any]:
    """Run a policy loss; gives loss and gradient."""
    toy, columns = case["toy"], tensors(case["toy"])
    mask_BT, new_BT = torch.tensor(toy["mask"], dtype=torch.float64), columns["new"].requires_grad_()
    options = dict(case["options"])
    mode, scale = options.pop("mode"), options.pop("scale", None)
    config = of_verl("workers.config").FSDPActorConfig(
        rollout_n=4,
        use_dynamic_bsz=True,
        loss_agg_mode=mode,
        global_batch_info={} if scale is None else {"loss_scale_factor": scale},
        **options,
    )
    advantage_BT = torch.tensor(case["advantage"], dtype=torch.float64)
    weights = case.get("weights")
    loss, _ = of_verl("trainer.ppo.core_algos").get_policy_loss_fn(case["name"])(
        old_log_prob=columns["old"],
        log_prob=new_BT,
        advantages=advantage_BT,
        response_mask=mask_BT,
        loss_agg_mode=mode,
        config=config,
        rollout_is_weights=None if weights is None else torch.tensor(weights, dtype=torch.float64),
    )
    (gradient_BT,) = torch.autograd.grad(loss, new_BT)
    return {"loss": loss.item(), "gradient": gradient_BT.tolist()}


def divergence(case: dict[str, Any]) -> dict[str, Any]:
    """Run an estimator of the divergence; gives values and the gradient of their sum."""
    columns = tensors(case["toy"])
    new_BT = columns["new"].requires_grad_()
    found_BT = of_verl("trainer.ppo.core_algos").kl_penalty(new_BT, columns["reference"], case["name"])
    (gradient_BT,) = torch.autograd.grad(found_BT.sum(), new_BT)
    return {"value": found_BT.tolist(), "gradient": gradient_BT.tolist()}


def correction(case: dict[str, Any]) -> dict[str, Any]:
    """Give the weights against the mismatch of engine and trainer."""
    columns = tensors(case["toy"])
    found_BT, _ = of_verl("trainer.ppo.rollout_corr_helper").compute_rollout_correction_weights(
        columns["old"] - columns["behaviour"],
        torch.tensor(case["toy"]["mask"], dtype=torch.float64),
        **case["options"],
    )
    return {"value": found_BT.tolist()}


KINDS = {"advantage": advantage, "policy": policy, "divergence": divergence, "correction": correction}
if __name__ == "__main__":
    print(json.dumps([KINDS[case["kind"]](case) for case in json.load(sys.stdin)]))
