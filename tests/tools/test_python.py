"""The Python tool: what the model reads."""

import asyncio
import json
from dataclasses import dataclass, field

import pytest

from agentrl.errors import ToolError
from agentrl.tools.python import as_json, as_text, python
from agentrl.tools.sandbox import Execution, LevelName, open_pool


@dataclass
class Recorder:
    """A sandbox that runs nothing and answers what it was given."""

    answer: Execution
    isolation: LevelName = "none"
    codes: list[str] = field(default_factory=list)

    async def run(self, code: str, *, timeout: float | None = None) -> Execution:
        self.codes.append(code)
        return self.answer

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("output", "error", "text"),
    [("4\n", "", "4"), ("", "", "(no output)"), ("a\n", "ValueError: b", "a\nValueError: b"), ("", "E", "E")],
)
def test_the_model_reads_output_then_error(output: str, error: str, text: str) -> None:
    box = Recorder(Execution(output=output, error=error, seconds=0.1))
    assert asyncio.run(python("code", box=box)) == text
    assert box.codes == ["code"]


def test_no_code_is_told_to_the_model() -> None:
    with pytest.raises(ToolError, match="code is empty"):
        asyncio.run(python(" \n", box=Recorder(Execution(output="", error="", seconds=0.0))))


def test_a_call_as_json_says_which_walls_stood() -> None:
    async def main() -> dict[str, object]:
        async with open_pool(unsafe_local=True, size=1) as pool:
            box = await pool.acquire()
            return as_json(await box.run("print(2 + 2)"), box.isolation)

    data = json.loads(json.dumps(asyncio.run(main())))
    assert data.pop("seconds") > 0
    assert data == {"ok": True, "output": "4\n", "error": "", "limit": None, "isolation": "none"}


def test_a_time_limit_reads_as_text() -> None:
    done = Execution(
        output="", error="time limit: no result after 5 s", seconds=5.0, limit="wall", alive=False
    )
    assert as_text(done).startswith("time limit")
