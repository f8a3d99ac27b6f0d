"""`agentrl tools`: what tools there are, and which sandboxes work here."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from importlib.metadata import entry_points
from typing import Any

from agentrl.cli.command import Command
from agentrl.cli.drivers import driver
from agentrl.cli.envs import signature
from agentrl.cli.output import Output
from agentrl.toolkit import ToolSpec, spec_of

GROUP = "agentrl.tools"


def configure(parser: argparse.ArgumentParser) -> None:
    """There are no options."""


def spec_of_tool(function: Any) -> ToolSpec:
    """Read a tool's specification without what the caller fills in: its keyword-only parameters."""
    import inspect

    parameters = inspect.signature(function).parameters.values()
    return spec_of(function, hidden=tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY))


def run(options: argparse.Namespace, out: Output) -> int:
    """List tools, and sandbox levels by really trying each."""
    tools = {e.name: spec_of_tool(e.load()) for e in entry_points(group=GROUP)}
    levels = [asdict(report) for report in driver("sandbox-levels")()]
    rows = [(signature(n, t.parameters), t.description.partition("\n")[0]) for n, t in tools.items()]
    out.say("tools, to be called with `agentrl call`:")
    out.table(rows)
    out.say("sandbox levels, each tried just now; the first that works is used:")
    for level in levels:
        out.say(f"  {level['name']:<12}{'works' if level['works'] else 'does not work: ' + level['detail']}")
        for guarantee in level["guarantees"] if level["works"] else ():
            out.say(f"    {guarantee}")
    shown = [{"name": n, "signature": s, "summary": t} for n, (s, t) in zip(tools, rows, strict=True)]
    out.result({"tools": shown, "levels": levels})
    return 0


COMMAND = Command(
    section="Environments and tools",
    summary="list the tools, and try the sandbox levels",
    examples=("agentrl tools", "agentrl tools --json"),
    configure=configure,
    run=run,
)
