"""`agentrl check`: run the environment contract as a program."""

from __future__ import annotations

import argparse

from agentrl.cli.command import Command, add_environment, at_least
from agentrl.cli.output import Output
from agentrl.cli.settings import add_settings, environment_of


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_environment(parser)
    parser.add_argument("--seed", type=at_least(0), default=0, help="which tasks are tried (default: 0)")
    add_settings(parser, "the environment, such as env.high=50; may be repeated")


def run(options: argparse.Namespace, out: Output) -> int:
    """Check and print a line per check; exit code 1 when one fails."""
    from agentrl.check import check_environment

    spec = environment_of(options)
    result = check_environment(spec, seed=options.seed)
    width = max(len(check["name"]) for check in result["checks"])
    for check in result["checks"]:
        out.say(
            f"  {'ok  ' if check['passed'] else 'FAIL'}  {check['name']:<{width}}  {check['detail']}".rstrip()
        )
    failed = sum(not check["passed"] for check in result["checks"])
    out.say(
        f"{result['env']}: " + (f"{failed} of {len(result['checks'])} checks failed" if failed else "sound")
    )
    out.result(result)
    return 0 if result["passed"] else 1


COMMAND = Command(
    section="Environments and tools",
    summary="check that an environment keeps its contract",
    examples=("agentrl check code", "agentrl check my_env:MyEnv --json"),
    configure=configure,
    run=run,
)
