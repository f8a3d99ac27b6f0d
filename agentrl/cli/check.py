"""`agentrl check`: run the environment contract as a program."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from dataclasses import replace

from agentrl.cli.command import Command, add_environment, at_least
from agentrl.cli.output import Output
from agentrl.cli.settings import add_settings, environment_of, runs_code
from agentrl.errors import ConfigError, InfrastructureError
from agentrl.registry import EnvSpec


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_environment(parser)
    parser.add_argument("--seed", type=at_least(0), default=0, help="which tasks are tried (default: 0)")
    add_settings(parser, "the environment, such as env.high=50; may be repeated")


def run(options: argparse.Namespace, out: Output) -> int:
    """Check and print a line per check; exit code 1 when one fails."""
    from agentrl.check import CHECKS, CheckResult, check_environment

    width = max(map(len, CHECKS))

    def show(check: CheckResult) -> None:
        out.say(f"  {'ok  ' if check.passed else 'FAIL'}  {check.name:<{width}}  {check.detail}".rstrip())

    spec = environment_of(options)
    report = check_environment(spec, seed=options.seed, watch=show)
    if runs_code(spec.kind):
        report = replace(report, isolation=asyncio.run(isolation_of(spec)))
        out.say(f"isolation: {report.isolation or 'unknown'}")
    count = len(report.checks)
    said = "sound" if report.passed else f"{len(report.failed)} of {count} checks failed"
    out.say("".join([f"{report.env}: {said}", *(f"; but {warning}" for warning in report.warnings)]))
    out.result(report.to_json())
    return 0 if report.passed else 1


async def isolation_of(spec: EnvSpec) -> str:
    """Name how an environment isolates the code that it runs; '' where it cannot be opened."""
    with contextlib.suppress(ConfigError, InfrastructureError):
        async with spec.open() as worker:
            env = worker.new()
            try:
                return env.isolation
            finally:
                await env.close()
    return ""


COMMAND = Command(
    section="Environments and tools",
    summary="check that an environment keeps its contract",
    examples=("agentrl check code", "agentrl check my_env:MyEnv --json"),
    configure=configure,
    run=run,
)
