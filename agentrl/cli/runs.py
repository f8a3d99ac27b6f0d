"""`agentrl runs`: what was trained, what it takes, and room given back."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentrl.cli.command import Command
from agentrl.cli.output import Output
from agentrl.errors import ConfigError
from agentrl.progress import duration, share

if TYPE_CHECKING:
    from agentrl.store.inventory import RunInfo

SHOWN = ("reward_mean", "success", "entropy", "grad_norm", "clip_share", "truncated_share")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("names", metavar="RUN", nargs="*", help="names or folders (default: all)")
    parser.add_argument("--root", default="runs", help="the folder that holds them (default: runs)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--prune", action="store_true", help="remove the checkpoints of finished runs")
    what.add_argument("--remove", action="store_true", help="remove the runs that are named, whole")


def run(options: argparse.Namespace, out: Output) -> int:
    """List, show, prune or remove."""
    from agentrl.store.inventory import find_run, list_runs, prune, remove

    root = Path(options.root)
    if options.remove and not options.names:
        raise ConfigError("--remove without a run: name those to be removed, `agentrl runs` lists them")
    found = [find_run(n, root) for n in options.names] if options.names else list_runs(root)
    if options.prune or options.remove:
        left: list[str] = []
        freed = {r.path.name: prune(r) if options.prune else remove(r, left.append) for r in found}
        for name, count in freed.items():
            out.say(f"{name}: {size(count)} {'freed' if count else '– nothing to remove'}")
        for line in left:
            out.say(line)
        out.result({"freed": freed, "bytes": sum(freed.values()), "left": left})
        return 0
    if not found:
        out.say(f"no runs in {root}: `agentrl train code --model tiny` makes one")
    else:
        out.table([HEADER, *map(row, found)])
    data = [r.to_json() for r in found]
    if options.names:
        data = [shown | {"metrics": steps_of(r, out)} for shown, r in zip(data, found, strict=True)]
    out.result({"runs": data, "bytes": sum(r.bytes for r in found)})
    return 0


HEADER = ("run", "state", "steps", "success", "size", "changed", "env")


def row(run: RunInfo) -> tuple[str, ...]:
    """Write one run for a person."""
    result = run.result or {}
    success = ""
    if "success_after" in result:
        success = f"{share(result['success_before'])} → {share(result['success_after'])}"
    age = duration(max(0.0, time.time() - run.changed))
    env = str(run.config.get("env"))
    return (run.path.name, run.state, f"{run.step}/{run.steps}", success, size(run.bytes), f"{age} ago", env)


def steps_of(run: RunInfo, out: Output) -> list[dict[str, Any]]:
    """Print the numbers of a run's steps; gives all of them."""
    from agentrl.store.store import rows_of

    with rows_of(run.path, run.config) as store:
        rows = [] if store is None else store.metrics()
    cells = [[str(r["step"]), *(number(r.get(name)) for name in SHOWN)] for r in rows]
    out.say()
    out.table([["step", *SHOWN], *cells])
    return rows


def number(value: float | None) -> str:
    """Write a number shortly.

    >>> number(0.123456), number(None)
    ('0.123', '–')
    """
    return "–" if value is None else f"{value:.3f}"


def size(count: float) -> str:
    """Write a number of bytes.

    >>> size(532), size(4_100_000)
    ('532 B', '3.9 MiB')
    """
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


COMMAND = Command(
    section="Train and measure",
    summary="list runs with their state and size, show one, or give room back",
    examples=("agentrl runs", "agentrl runs demo-0 --json", "agentrl runs --prune"),
    configure=configure,
    run=run,
)
