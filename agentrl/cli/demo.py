"""`agentrl demo`: the quickstart."""

from __future__ import annotations

import argparse

from agentrl.cli.command import Command, at_least
from agentrl.cli.drivers import driver
from agentrl.cli.output import Output
from agentrl.cli.settings import warn_unsafe

CONTROLS = {
    "no-tool": "tool output blanked in training and evaluation",
    "shuffled-reward": "rewards dealt out at random within a group",
    "more-sft": "the seconds of RL spent on more warm start",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    controls = "; ".join(f"{name}: {what}" for name, what in CONTROLS.items())
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="every random choice follows from it (default: 0)"
    )
    parser.add_argument("--control", choices=CONTROLS, help=f"a run that must not learn ({controls})")
    parser.add_argument("--unsafe-local", action="store_true", help="run the model's code without a sandbox")


def run(options: argparse.Namespace, out: Output) -> int:
    """Train from scratch and show before and after."""
    run_demo = driver("demo")
    if options.unsafe_local:
        warn_unsafe()
    progress = out.progress()
    try:
        result = run_demo(
            seed=options.seed, control=options.control, unsafe_local=options.unsafe_local, progress=progress
        )
    finally:
        progress.close()
    out.result(result)
    return 0


COMMAND = Command(
    section="Start here",
    summary="train a tool-using agent from scratch in under a minute",
    examples=("agentrl demo", "agentrl demo --seed 3 --json", "agentrl demo --control no-tool"),
    configure=configure,
    run=run,
)
