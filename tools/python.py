"""The Python tool: the model writes code, a sandbox runs it."""

import re

from agentrl.errors import ToolError
from agentrl.tools.sandbox.types import Execution, LevelName, Sandbox

ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,16}\b")


async def python(code: str, *, box: Sandbox) -> str:
    """Run Python code and show what it printed; names are kept between calls.

    Args:
        code: Python source. Print what you want to see: a last bare expression is not shown.
    """
    if not code.strip():
        raise ToolError("code is empty: give Python source that prints what you want to see")
    return as_text(await box.run(code))


def as_text(done: Execution) -> str:
    """What the model reads: the output, then the error."""
    output = done.output.rstrip("\n")
    return without_addresses("\n".join(part for part in (output, done.error) if part)) or "(no output)"


def without_addresses(text: str) -> str:
    """Leave out where objects stand in memory, which is another place in every process.

    >>> without_addresses("<function price at 0x7f8862eb4540>")
    '<function price at 0x...>'
    """
    return ADDRESS.sub("at 0x...", text)


def as_json(done: Execution, isolation: LevelName) -> dict[str, object]:
    """One call as plain data, for reports; it always says which walls stood around it."""
    return {
        "ok": done.ok,
        "output": done.output,
        "error": done.error,
        "limit": done.limit,
        "seconds": round(done.seconds, 6),
        "isolation": isolation,
    }
