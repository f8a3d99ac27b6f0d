"""`agentrl bench`: measure a policy on held-out tasks."""

from __future__ import annotations

import argparse
from typing import Any

from agentrl.cli.command import Command, add_environment, add_task_choice, at_least
from agentrl.cli.output import Output
from agentrl.cli.settings import add_settings, environment_of
from agentrl.errors import ConfigError
from agentrl.progress import share


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_environment(parser)
    parser.add_argument(
        "--policy",
        action="append",
        help="random, valid-random, expert, or a model folder; may be repeated (default: the first three)",
    )
    parser.add_argument("--tasks", type=at_least(1), default=100, help="how many tasks (default: 100)")
    add_task_choice(parser)
    add_settings(parser, "the environment, such as env.high=50; may be repeated")


def run(options: argparse.Namespace, out: Output) -> int:
    """Measure and print one row per policy."""
    from agentrl.evaluation import bench

    progress = out.progress()
    try:
        result = bench(
            environment_of(options),
            policies=options.policy,
            tasks=options.tasks,
            level=options.level,
            split=options.split,
            seed=options.seed,
            progress=progress,
        )
    finally:
        progress.close()
    for data in result["results"]:
        refuse_hopeless(data)
    out.table([HEADER, *map(row, result["results"])])
    for data in result["results"]:
        if data["first_failure"]:
            out.say(f"{data['policy']}: first failure: {data['first_failure']}")
    out.result(result)
    return 0


def refuse_hopeless(data: dict[str, Any]) -> None:
    """Raise where nothing was measured.

    Raises:
        ConfigError: Every episode failed.
    """
    if sum(data["failures"].values()) < data["episodes"]:
        return
    kinds = ", ".join(f"{n} {kind}" for kind, n in data["failures"].items())
    name = data["env"]
    raise ConfigError(
        f"every episode of {data['policy']!r} on {name} failed ({kinds}), the first with: "
        f"{data['first_failure']}; `agentrl check {name}` tells more"
    )


HEADER = ("policy", "success", "95 %", "turns", "calls", "failures", "isolation", "env")


def row(data: dict[str, Any]) -> tuple[str, ...]:
    """Write one result for a person."""
    low, high = data["interval"]
    failures = ", ".join(f"{n} {kind}" for kind, n in data["failures"].items()) or "0"
    where = f"{data['env']}, level {data['level']}, {data['split']}, {data['episodes']} tasks"
    spread = f"{share(low)}–{share(high)}"
    return (
        data["policy"],
        share(data["success"]),
        spread,
        f"{data['turns']:.1f}",
        str(data["calls"]),
        failures,
        data["isolation"] or "runs no code",
        where,
    )


COMMAND = Command(
    section="Train and measure",
    summary="measure a policy on held-out tasks",
    examples=(
        "agentrl bench code --policy expert --tasks 100",
        "agentrl bench code --policy runs/demo-0/model --level 0 --split ood --json",
    ),
    configure=configure,
    run=run,
)
