"""`agentrl train`: train a model on an environment."""

from __future__ import annotations

import argparse
from importlib.metadata import entry_points

from agentrl.cli.command import Command, add_environment, at_least
from agentrl.cli.drivers import driver
from agentrl.cli.output import Output
from agentrl.cli.settings import add_settings, read_settings, without_walls


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_environment(parser)
    parser.add_argument(
        "--model",
        required=True,
        help="tiny (made on the spot, needs the environment's expert), or a model folder",
    )
    known = ", ".join(sorted(e.name for e in entry_points(group="agentrl.algorithms")))
    parser.add_argument("--algorithm", default="grpo", help=f"how to train: {known} (default: grpo)")
    parser.add_argument("--steps", type=at_least(1), help="optimiser steps (default: the algorithm's)")
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="every random choice follows from it (default: 0)"
    )
    parser.add_argument(
        "--run", metavar="NAME", help="name of the folder under runs/ (default: made of the others)"
    )
    parser.add_argument("--fresh", action="store_true", help="delete what an earlier run of this name left")
    add_settings(
        parser, "the algorithm or the environment, such as clip_high=0.3 or env.level=1; may be repeated"
    )
    looks = parser.add_mutually_exclusive_group()
    looks.add_argument("--dry-run", action="store_true", help="show what would be trained, and train nothing")
    looks.add_argument(
        "--inspect", action="store_true", help="show one group of the first step token by token"
    )


def run(options: argparse.Namespace, out: Output) -> int:
    """Train; the last line says what came of it."""
    train = driver("train")
    settings = read_settings(options.settings)
    if options.unsafe_local:
        settings |= {f"env.{name}": value for name, value in without_walls(options.env).items()}
    progress = out.progress()
    try:
        result = train(
            env=options.env,
            model=options.model,
            algorithm=options.algorithm,
            steps=options.steps,
            seed=options.seed,
            run=options.run,
            fresh=options.fresh,
            settings=settings,
            dry_run=options.dry_run,
            inspect=options.inspect,
            progress=progress,
        )
    finally:
        progress.close()
    out.result(result)
    return 0


COMMAND = Command(
    section="Train and measure",
    summary="train a model on an environment",
    examples=(
        "agentrl train code --model tiny",
        "agentrl train my_env:MyEnv --model tiny --steps 20 --seed 1",
        "agentrl train code --model path/to/model --set group_size=16 --dry-run",
        "agentrl train code --model tiny --steps 1 --inspect",
    ),
    configure=configure,
    run=run,
)
