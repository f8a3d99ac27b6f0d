"""Runs under a Python that has TRL: cases on standard input, their losses and gradients on standard output.

The trainers are TRL's own; only the forward pass is given: losses of given log-probabilities are compared.
"""

import importlib
import json
import sys
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import torch


def trainer(kind: str, options: dict[str, Any], new_BT: torch.Tensor) -> Any:
    """Make a trainer that has what its loss reads."""
    module = importlib.import_module(f"trl.trainer.{kind}_trainer")
    made = module.GRPOTrainer if kind == "grpo" else module.RLOOTrainer
    found = made.__new__(made)
    accelerator = importlib.import_module("accelerate").Accelerator(cpu=True)
    settings = {
        "aux_loss_enabled": False,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "importance_sampling_level": "token",
        "beta": 0.0,
        "loss_type": "grpo",
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        "use_vllm": "ratio" in options,
        "vllm_importance_sampling_correction": True,
        "model": SimpleNamespace(training=True),
        "current_gradient_accumulation_steps": 1,
        "max_completion_length": 10,
        "accelerator": accelerator,
        "_entropy_bonus_enabled": False,
        "_metrics": {"train": defaultdict(list)},
    }
    arguments: dict[str, Any] = {
        "use_bias_correction_kl": False,
        "delta": None,
        "sapo_temperature_pos": 1.0,
        "sapo_temperature_neg": 1.05,
        "steps_per_generation": 1,
        "report_to": [],
    }
    for name, value in (settings | {k: v for k, v in options.items() if k in settings}).items():
        setattr(found, name, value)
    found.args = SimpleNamespace(**arguments | {k: v for k, v in options.items() if k in arguments})
    given = (new_BT, torch.zeros_like(new_BT), None)
    found._get_per_token_logps_and_entropies = lambda *args, **kwargs: given
    return found


def compute(case: dict[str, Any]) -> dict[str, Any]:
    """Give loss and gradient of a case."""
    toy, options = case["toy"], case["options"]
    tensor = {name: torch.tensor(toy[name], dtype=torch.float64) for name in ("new", "old", "reference")}
    mask_BT, new_BT = torch.tensor(toy["mask"]), tensor["new"].requires_grad_()
    inputs = {
        "prompt_ids": torch.zeros(len(mask_BT), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(mask_BT), 1, dtype=torch.long),
        "completion_ids": torch.zeros_like(mask_BT),
        "completion_mask": mask_BT,
        "advantages": torch.tensor(case["advantage"], dtype=torch.float64),
        "old_per_token_logps": tensor["old"],
        "ref_per_token_logps": tensor["reference"],
        "old_logps": (tensor["old"] * mask_BT).sum(1),
        "num_items_in_batch": mask_BT.sum(),
    }
    if "ratio" in options:
        inputs["importance_sampling_ratio"] = torch.tensor(options["ratio"], dtype=torch.float64)
    loss = trainer(case["kind"], options, new_BT)._compute_loss(None, inputs)
    (gradient_BT,) = torch.autograd.grad(loss, new_BT)
    return {"loss": loss.item(), "gradient": gradient_BT.tolist()}


if __name__ == "__main__":
    print(json.dumps([compute(case) for case in json.load(sys.stdin)]))
