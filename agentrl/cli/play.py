"""`agentrl play`: a person acts in an environment."""

from __future__ import annotations

import argparse

from agentrl.cli.command import Command, add_environment, add_task_choice, at_least
from agentrl.cli.output import Output
from agentrl.cli.settings import add_settings, environment_of


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_environment(parser)
    add_task_choice(parser)
    parser.add_argument("--task", type=at_least(0), default=0, help="which task of the seed (default: 0)")
    add_settings(parser, "the environment, such as env.high=50; may be repeated")


def run(options: argparse.Namespace, out: Output) -> int:
    """Play."""
    from agentrl.cli.playing import choose, episode, opened

    spec = environment_of(options)
    task = choose(spec, options)
    with opened(spec) as env:
        result = episode(env, task)
        isolation = env.isolation
    out.result({"env": spec.name, "isolation": isolation} | result)
    return 0


COMMAND = Command(
    section="Environments and tools",
    summary="act in an environment yourself",
    examples=("agentrl play code", "printf 'price item=pear\\n84\\n' | agentrl play my_env:MyEnv --json"),
    configure=configure,
    run=run,
)
