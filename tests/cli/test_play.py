"""`agentrl play`, over a pipe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.cli.typing_in import read_line
from agentrl.errors import ConfigError
from agentrl.message import Action, Call
from agentrl.toolkit import Parameter, ToolSpec
from tests.cli.conftest import Run

ADD = ToolSpec(
    name="add", description="Add.", parameters=(Parameter(name="a", type=int), Parameter(name="b", type=int))
)
PYTHON = ToolSpec(name="python", description="Run.", parameters=(Parameter(name="code", type=str),))
TOOLS = (ADD, PYTHON)


def only_call(action: Action) -> Call:
    (call,) = action.calls
    return call


@pytest.mark.parametrize(
    ("line", "name", "arguments"),
    [
        ("add a=1 b='2'", "add", {"a": "1", "b": "2"}),
        ('{"name": "add", "arguments": {"a": 1, "b": 2}}', "add", {"a": 1, "b": 2}),
        ("python print(a == 'b')", "python", {"code": "print(a == 'b')"}),
        ("python code=print(1)", "python", {"code": "print(1)"}),
        (r"python for i in 1, 2:\n  print(i)", "python", {"code": "for i in 1, 2:\n  print(i)"}),
    ],
)
def test_reads_calls(line: str, name: str, arguments: dict[str, object]) -> None:
    call = only_call(read_line(line, TOOLS))
    assert (call.name, call.arguments) == (name, arguments)


def test_reads_answers() -> None:
    assert read_line("84", TOOLS) == Action(text="84")
    assert read_line("answer add a=1", TOOLS) == Action(text="add a=1")


@pytest.mark.parametrize("line", ["ad a=1 b=2", "pyton print(1)", "add 'open"])
def test_what_looks_like_a_call_is_not_sent(line: str) -> None:
    with pytest.raises(ConfigError):
        read_line(line, TOOLS)


@given(st.text())
def test_any_line_is_read_or_refused(line: str) -> None:
    try:
        assert isinstance(read_line(line, TOOLS), Action)
    except ConfigError:
        pass


def test_plays_to_the_end(agentrl: Run) -> None:
    agentrl("new", "my_env")
    start = agentrl("play", "my_env:MyEnv").out.splitlines()[0].split()[-1]
    middle = reply(agentrl, start)
    last = reply(agentrl, middle)
    ended = agentrl(
        "play", "my_env:MyEnv", "--json", stdin=f"?\nafter {start}\nafter name={middle}\n{last}\n"
    )
    assert ended.data["correct"] is True and ended.data["reward"] == 1.0 and ended.data["turns"] == 3


def reply(agentrl: Run, name: str) -> str:
    """Ask who sits after someone, and leave."""
    lines = agentrl("play", "my_env:MyEnv", stdin=f"after {name}\n").out.splitlines()
    return lines[lines.index(f"> after {name}") + 1]


def test_a_wrong_tool_is_explained_and_costs_nothing(agentrl: Run) -> None:
    agentrl("new", "my_env")
    ended = agentrl("play", "my_env:MyEnv", "--json", stdin="aftr name=Ann\n")
    assert "no tool 'aftr'; did you mean 'after'?" in ended.out
    assert ended.data["turns"] == 0 and ended.data["finish"] == "left"


def test_code_runs_in_the_sandbox(agentrl: Run) -> None:
    ended = agentrl("play", "code", "--json", stdin="python print(6 * 7)\n")
    assert "42" in ended.out and ended.data["isolation"] in {"namespaces", "landlock"}


def test_a_task_out_of_range_is_refused(agentrl: Run) -> None:
    said = agentrl("play", "code", "--task", str(2**31)).complaint
    assert f"--task {2**31}: code has tasks 0..{2**31 - 1} here" in said
