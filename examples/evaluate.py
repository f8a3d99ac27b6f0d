"""Measure policies on held-out tasks: chance, the expert, and a model folder if you name one.

python examples/evaluate.py [TASKS [MODEL]]
"""

import sys

from agentrl import evaluate, resolve_env


def main(tasks: str = "50", *models: str) -> None:
    """Print success with its 95 % interval."""
    spec = resolve_env("code")
    for split in ("test", "ood"):
        found = evaluate(spec, policies=["valid-random", "expert", *models], tasks=int(tasks), split=split)
        for row in found["results"]:
            low, high = row["interval"]
            print(f"{split:5} {row['policy']:<14} {row['success']:.2f}  ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main(*sys.argv[1:])
