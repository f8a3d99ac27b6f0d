"""`agentrl call`: one tool call by hand, in its sandbox."""

from __future__ import annotations

import argparse
import inspect
import time
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from agentrl.cli.command import Command
from agentrl.cli.drivers import driver
from agentrl.cli.output import Output
from agentrl.cli.settings import warn_unsafe
from agentrl.cli.tools import GROUP, spec_of_tool
from agentrl.errors import ConfigError, ToolError, unknown

BOX = "box"
"""A tool that takes this keyword runs foreign code, and gets a fresh sandbox."""
LEVELS = ("auto", "namespaces", "landlock")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("tool", metavar="TOOL", help="name of a tool (see agentrl tools)")
    parser.add_argument("arguments", metavar="NAME=VALUE", nargs="*", help="its arguments")
    walls = parser.add_mutually_exclusive_group()
    walls.add_argument(
        "--isolation",
        choices=LEVELS,
        default="auto",
        help="how the code is walled in (default: the strongest level that works here)",
    )
    walls.add_argument("--unsafe-local", action="store_true", help="run the code without a sandbox")


def find_tool(name: str) -> Any:
    """Load a tool.

    Raises:
        ConfigError: There is none of this name.
    """
    known = {e.name: e for e in entry_points(group=GROUP)}
    if name not in known:
        raise ConfigError(unknown("tool", name, known))
    return known[name].load()


def takes_box(function: Any) -> bool:
    """Whether a tool runs foreign code in a sandbox that its caller gives."""
    return BOX in inspect.signature(function).parameters


class Witness:
    """A sandbox that remembers what ran in it, so that a report can tell output from error."""

    def __init__(self, box: Any) -> None:
        self._box = box
        self.seen: list[Any] = []

    async def run(self, code: str, *, timeout: float | None = None) -> Any:
        """Run code and remember how it went."""
        self.seen.append(await self._box.run(code, timeout=timeout))
        return self.seen[-1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._box, name)


async def call(
    function: Any, arguments: Mapping[str, Any], *, unsafe_local: bool, level: str = "auto"
) -> dict[str, Any]:
    """Call a tool and report how it went; one that takes a `box` gets a fresh sandbox."""
    if not takes_box(function):
        return await report(function, arguments) | {"isolation": ""}
    async with driver("sandbox-pool")(size=1, unsafe_local=unsafe_local, level=level) as pool:
        witness = Witness(await pool.acquire())
        try:
            result = await report(function, {**arguments, BOX: witness})
        finally:
            await witness.close()
    if result["ok"] and witness.seen:
        last = witness.seen[-1]
        result |= {"ok": last.ok, "output": last.output, "error": last.error}
    return result | {"isolation": witness.isolation}


async def report(function: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Run it, timed."""
    from agentrl.adapter import ran

    started = time.perf_counter()
    output, error = "", ""
    try:
        output = str(await ran(lambda: function(**arguments)))
    except ToolError as refused:
        error = str(refused)
    return {
        "ok": not error,
        "output": output,
        "error": error,
        "seconds": round(time.perf_counter() - started, 4),
    }


def run(options: argparse.Namespace, out: Output) -> int:
    """Call; exit code 1 when the tool said no."""
    import asyncio

    from agentrl.cli.typing_in import bound

    function = find_tool(options.tool)
    arguments = bound(spec_of_tool(function), options.arguments)
    walls = "--unsafe-local" if options.unsafe_local else "--isolation"
    if (options.unsafe_local or options.isolation != "auto") and not takes_box(function):
        raise ConfigError(f"{walls}: {options.tool} runs no code in a sandbox: leave it out")
    if options.unsafe_local:
        warn_unsafe()
    result = asyncio.run(
        call(function, arguments, unsafe_local=options.unsafe_local, level=options.isolation)
    )
    out.say((result["output"] + result["error"]).rstrip())
    if result["isolation"]:
        out.say(f"isolation: {result['isolation']}, {result['seconds']:.3f} s")
    out.result(result)
    return 0 if result["ok"] else 1


COMMAND = Command(
    section="Environments and tools",
    summary="call one tool by hand, in its sandbox",
    examples=("agentrl call python code='print(2+2)'", "agentrl call python code='print(2+2)' --json"),
    configure=configure,
    run=run,
)
