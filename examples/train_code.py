"""Train a tiny model from scratch, or a checkpoint, to answer questions with Python.

python examples/train_code.py [MODEL [STEPS]]
"""

import sys
from typing import Any

from agentrl import GRPOTrainer


def main(model: str = "tiny", steps: str = "30") -> None:
    """Train on level 0: a fact to look up, then arithmetic on it."""
    settings: dict[str, Any] = {"env.level": 0, "eval.tasks": 128}
    result = GRPOTrainer(model, "code", steps=int(steps), groups_per_step=16, **settings).train()
    print(f"held out: {result['success_before']:.2f} before, {result['success_after']:.2f} after")
    print(f"measure it on more tasks: agentrl bench code --policy {result['run']}/model")


if __name__ == "__main__":
    main(*sys.argv[1:])
