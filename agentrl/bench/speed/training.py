"""`train_pass`: forward and backward over the rows of rollouts, against a padded Hugging Face loop."""

from __future__ import annotations

from typing import Any

from agentrl.bench.speed.claim import Claim, Peer, Wanted
from agentrl.cli.drivers import driver
from agentrl.errors import InfrastructureError
from agentrl.progress import Progress

VOCABULARY = 2048
LARGEST_DIFFERENCE = 1e-4
"""Of the gradients, relative to the largest entry: the three ways must compute the same in fp32."""
PACKAGES = ("agentrl", "torch", "transformers")


def train_pass(progress: Progress, *, groups: int = 4, group_size: int = 8, runs: int = 3) -> list[Claim]:
    """Groups with a prompt in common and answers of log-normal length, through a model of 5M parameters.

    Raises:
        InfrastructureError: The three ways give different gradients, so times say nothing.
    """
    passes = driver("train-pass")
    model = small_model()
    rows = passes.recorded_rows(groups=groups, group_size=group_size, vocabulary=VOCABULARY)
    progress.phase("train_pass", runs + 1)
    passes.compare_passes(model, rows, runs=1)  # warm-up
    progress.advance()
    seconds: dict[str, list[float]] = {"padded": [], "packed": [], "ours": []}
    for _ in range(runs):
        found = passes.compare_passes(model, rows, runs=1)
        if found["difference"] > LARGEST_DIFFERENCE:
            raise InfrastructureError(
                f"the gradients differ by {found['difference']:.1e} of the largest entry"
            )
        for name, values in seconds.items():
            values.append(found["seconds"][name])
        progress.advance({"ratio": found["ratio"]})
    wanted = {
        "padded": Wanted(direction="at least", value=2),
        "packed": Wanted(direction="at least", value=1),
    }
    return [
        Claim(
            name=f"train_pass.{name}",
            unit="s",
            runs=seconds["ours"],
            peer=Peer(name=f"{name} pass", runs=seconds[name]),
            wanted=want,
            speed_up=True,
            packages=PACKAGES,
            details={"tokens": found["tokens"], "parameters": sum(p.numel() for p in model.parameters())},
        )
        for name, want in wanted.items()
    ]


def small_model() -> Any:
    """Make a Qwen2 of 5M parameters with random weights, for one thread."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )
    model: Any = Qwen2ForCausalLM(config)
    return model.eval()
