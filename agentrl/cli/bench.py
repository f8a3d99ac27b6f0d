"""`agentrl bench`: measure a policy on held-out tasks."""

from __future__ import annotations

import argparse
from typing import Any

from agentrl.cli.command import Command, add_environment, add_task_choice, at_least
from agentrl.cli.output import Output
from agentrl.cli.settings import add_settings, environment_with, settings_by_part
from agentrl.errors import ConfigError
from agentrl.progress import share

CHOICES = ("tasks", "level", "split", "seed")
"""Options that choose the tasks of a measurement."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_environment(parser, optional=True)
    parser.add_argument(
        "--speed",
        nargs="?",
        const="all",
        metavar="NAME",
        help="measure AgentRL itself instead, against peers and bounds: one benchmark, or all of them",
    )
    parser.add_argument(
        "--policy",
        action="append",
        help="random, valid-random, expert, a model folder, or openai:MODEL@URL for any server that speaks "
        "OpenAI's interface (key: OPENAI_API_KEY); may be repeated (default: the first three)",
    )
    parser.add_argument("--tasks", type=at_least(1), help="how many tasks (default: 100)")
    add_task_choice(parser)
    parser.set_defaults(split=None, seed=None)  # not given: beside --speed they are of no use
    add_settings(
        parser,
        "the environment, such as env.high=50, or of a model: policy.temperature=0, policy.max_tokens=512, "
        "policy.dialect=tags, …, behind a server also policy.api_key_env=NAME, …, or of episodes: "
        "rollout.turn_seconds=600, rollout.max_turns=99; may be repeated",
    )


def run(options: argparse.Namespace, out: Output) -> int:
    """Measure and print one row per policy, or per benchmark."""
    if options.speed is not None:
        return run_speed(options, out)
    if options.env is None:
        raise ConfigError("bench: name an environment, such as code, or a benchmark with --speed")
    from agentrl.measuring import evaluate

    settings = settings_by_part(options.settings, ["env", "policy", "rollout"])
    progress = out.progress()
    try:
        result = evaluate(
            environment_with(options, settings["env"]),
            policies=options.policy,
            **{name: value for name in CHOICES if (value := getattr(options, name)) is not None},
            settings=settings["policy"],
            limits=settings["rollout"],
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
        for line in traffic(data):
            out.say(line)
    out.result(result)
    return 0


def run_speed(options: argparse.Namespace, out: Output) -> int:
    """Run benchmarks of AgentRL itself; exit code 1 where one falls short of what is wanted."""
    from agentrl.bench.speed.running import run_benchmarks

    refuse_others(options)
    progress = out.progress()
    try:
        rows = run_benchmarks(options.speed, progress)
    finally:
        progress.close()
    out.table([SPEED_HEADER, *map(speed_row, rows)])
    out.result({"results": rows})
    return 0 if all(row["held"] for row in rows) else 1


def refuse_others(options: argparse.Namespace) -> None:
    """Refuse what belongs to the other use of the command.

    Raises:
        ConfigError: Something beside --speed.
    """
    given = {
        "ENV": options.env,
        "--policy": options.policy,
        "--set": options.settings or None,
        "--unsafe-local": options.unsafe_local or None,
        **{f"--{name}": getattr(options, name) for name in CHOICES},
    }
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"bench: {name} is of no use with --speed: leave one of them out")


SPEED_HEADER = ("benchmark", "held", "ratio", "wanted", "median", "unit", "against")


def speed_row(data: dict[str, Any]) -> tuple[str, ...]:
    """Write one benchmark's row for a person."""
    held = "yes" if data["held"] else "NO"
    ratio, median = f"{data['ratio']:.3g}", f"{data['median']:.3g}"
    peer = data["peer"]["name"] if isinstance(data["peer"], dict) else str(data["peer"])
    return data["name"], held, ratio, str(data["wanted"]), median, data.get("unit", ""), peer


def traffic(data: dict[str, Any]) -> list[str]:
    """Say how a server answered, where one was asked.

    >>> traffic({"policy": "p", "endpoint": {"requests": 20, "retries": {"HTTP 429": 3}}})
    ['p: 20 requests, sent again: 3 after HTTP 429']
    """
    if "endpoint" not in data:
        return []
    again = ", ".join(f"{n} after {why}" for why, n in data["endpoint"]["retries"].items())
    return [f"{data['policy']}: {data['endpoint']['requests']} requests, sent again: {again or 'none'}"]


def refuse_hopeless(data: dict[str, Any]) -> None:
    """Raise where nothing was measured.

    Raises:
        ConfigError: Every episode failed.
    """
    if sum(data["failures"].values()) < data["episodes"]:
        return
    kinds = ", ".join(f"{n} {kind}" for kind, n in data["failures"].items())
    name = data["env"]
    advice = "" if "endpoint" in data else f"; `agentrl check {name}` tells more"
    raise ConfigError(
        f"every episode of {data['policy']!r} on {name} failed ({kinds}), the first with: "
        f"{data['first_failure']}{advice}"
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
        "agentrl bench --speed rollout_sleep --json",
        "agentrl bench code --policy openai:qwen@http://localhost:8000/v1 --set policy.temperature=0",
    ),
    configure=configure,
    run=run,
)
