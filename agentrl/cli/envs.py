"""`agentrl envs`: what environments there are."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from agentrl.cli.command import Command
from agentrl.cli.output import Output
from agentrl.cli.settings import runs_code
from agentrl.errors import ConfigError
from agentrl.registry import known_environments, resolve_env


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "env", metavar="ENV", nargs="*", help="only these; also module:Class or file.py:Class"
    )


def describe(name: str) -> dict[str, Any]:
    """Say what an environment offers.

    Raises:
        ConfigError: There is none of this name, or it cannot be imported.
    """
    from agentrl.toolenv import tools_of

    spec = resolve_env(name)
    tools = [signature(t.name, t.parameters) for t in tools_of(spec.make())]
    return {
        "env": spec.name,
        "summary": (inspect.getdoc(spec.kind) or "").partition("\n")[0],
        "levels": list(getattr(spec.kind, "levels", (0,))),
        "splits": list(spec.splits),
        "tools": tools,
        "expert": callable(getattr(spec.kind, "expert", None)),
        "needs_sandbox": runs_code(spec.kind),
        "error": "",
    }


def signature(name: str, parameters: Any) -> str:
    """Write a tool as a person calls it."""
    cells = (f"{p.name}: {p.type.__name__}" + ("" if p.required else " = …") for p in parameters)
    return f"{name}({', '.join(cells)})"


def described(name: str) -> dict[str, Any]:
    """Describe an installed environment, or say why it cannot be used."""
    try:
        return describe(name)
    except (ConfigError, ImportError) as error:
        return {"env": name, "summary": "", "error": str(error)}


def run(options: argparse.Namespace, out: Output) -> int:
    """List them."""
    rows = [describe(name) for name in options.env] or [described(name) for name in known_environments()]
    for row in rows:
        out.say(f"{row['env']}  {row['error'] or row['summary']}")
        if not row["error"]:
            sandbox = [("isolation", "in a sandbox (see agentrl tools)")] if row["needs_sandbox"] else []
            levels = ", ".join(map(str, row["levels"]))
            out.table(
                [
                    ("levels", levels),
                    ("splits", ", ".join(row["splits"])),
                    ("tools", ", ".join(row["tools"])),
                    *sandbox,
                ]
            )
    out.result({"environments": rows})
    return 0


COMMAND = Command(
    section="Environments and tools",
    summary="list the environments: levels, splits, tools",
    examples=("agentrl envs", "agentrl envs my_env:MyEnv --json"),
    configure=configure,
    run=run,
)
