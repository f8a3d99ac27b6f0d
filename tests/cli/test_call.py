"""`agentrl call`: one tool call in its sandbox."""

import pytest

from tests.cli.conftest import Run


def test_prints_what_the_tool_gave(agentrl: Run) -> None:
    data = agentrl("call", "python", "code=print(2+2)", "--json").data
    assert data["ok"] is True and data["output"].strip() == "4" and data["error"] == ""
    assert data["isolation"] in {"namespaces", "landlock"} and 0 < data["seconds"] < 30


def test_an_error_of_the_code_is_reported(agentrl: Run) -> None:
    ended = agentrl("call", "python", "code=1/0", "--json")
    assert ended.code == 1 and ended.data["ok"] is False and "ZeroDivisionError" in ended.data["error"]


@pytest.mark.parametrize("level", ["namespaces", "landlock"])
def test_the_level_can_be_chosen(agentrl: Run, level: str) -> None:
    ended = agentrl("call", "python", "code=print(2+2)", "--isolation", level, "--json")
    assert ended.data["output"] == "4\n" and ended.data["isolation"] == level


def test_unsafe_local_says_so(agentrl: Run) -> None:
    ended = agentrl("call", "python", "code=print(1)", "--json", "--unsafe-local")
    assert ended.data["isolation"] == "none" and "without a sandbox" in ended.err
