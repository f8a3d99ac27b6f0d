"""`agentrl bench`: what it reports, what it refuses, how it stops."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import AGENTRL, Run

ENV = """
from agentrl import ToolEnv


class Plain(ToolEnv):
    def task(self, rng):
        self.target = int(rng.integers(1, 10))
        return "Say a number."

    def reward(self, answer: str) -> float:
        return float(answer == str(self.target))


class Clumsy(Plain):
    def expert(self, observations):
        raise KeyError("no such thing")


class Unmade(Plain):
    def __init__(self):
        raise RuntimeError("no display")


class Unstarted(Plain):
    def task(self, rng):
        raise OSError("no data set")


class Shaky(Plain):
    def reward(self, answer: str) -> float:
        if self.target > 5:
            raise OSError("no data for this")
        return 0.0


class Sticky(Plain):
    target = 0

    def close(self):
        if self.target > 5:
            raise OSError("the disk is gone")
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "worlds.py").write_text(ENV)
    return tmp_path


def test_isolation_is_told(agentrl: Run, place: Path) -> None:
    words = ["bench", "code", "--policy", "expert", "--tasks", "2"]
    (row,) = agentrl(*words, "--unsafe-local", "--json").data["results"]
    assert row["isolation"] == "none"
    shown = agentrl(*words).out
    assert "isolation" in shown and ("namespaces" in shown or "landlock" in shown)
    (row,) = agentrl("bench", "worlds.py:Plain", "--policy", "random", "--tasks", "2", "--json").data[
        "results"
    ]
    assert row["isolation"] == ""


def test_without_an_expert_the_other_policies_are_measured(agentrl: Run, place: Path) -> None:
    ended = agentrl("bench", "worlds.py:Plain", "--tasks", "3")
    assert ended.code == 0 and "has no expert(observations): measured without one" in ended.out
    rows = agentrl("bench", "worlds.py:Plain", "--tasks", "3", "--json").data["results"]
    assert [row["policy"] for row in rows] == ["random", "valid-random"]


def test_an_expert_that_there_is_not_is_refused_before_anything_runs(agentrl: Run, place: Path) -> None:
    ended = agentrl("bench", "worlds.py:Plain", "--policy", "random", "--policy", "expert", "--tasks", "3")
    assert "worlds.py:Plain has no expert(observations)" in ended.complaint and ended.out == ""


@pytest.mark.parametrize(
    ("name", "policy", "kind", "message"),
    [
        ("Clumsy", "expert", "KeyError", "no such thing"),
        ("Unmade", "random", "RuntimeError", "no display"),
        ("Unstarted", "random", "OSError", "no data set"),
    ],
)
def test_what_an_author_got_wrong_is_one_line(
    name: str, policy: str, kind: str, message: str, agentrl: Run, place: Path
) -> None:
    said = agentrl("bench", f"worlds.py:{name}", "--policy", policy, "--tasks", "3").complaint
    assert f"worlds.py:{name}" in said and kind in said and message in said


def test_the_first_of_some_failures_is_shown(agentrl: Run, place: Path) -> None:
    ended = agentrl("bench", "worlds.py:Shaky", "--policy", "random", "--tasks", "20")
    (said,) = [line for line in ended.out.splitlines() if line.startswith("random: first failure: ")]
    assert ended.code == 0 and "OSError: no data for this" in said


def test_an_environment_that_cannot_be_closed_costs_one_episode(agentrl: Run, place: Path) -> None:
    done = agentrl("bench", "worlds.py:Sticky", "--policy", "random", "--tasks", "40", "--json")
    (row,) = done.data["results"]
    assert row["episodes"] == 40 and 0 < row["failures"]["environment"] < 40
    assert "the disk is gone" in row["first_failure"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopping_is_one_line(number: int, code: int, tmp_path: Path) -> None:
    words = [AGENTRL, "bench", "code", "--policy", "valid-random", "--tasks", "100000"]
    process = subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None and "valid-random" in process.stdout.readline()
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.strip()) == (code, "agentrl: stopped")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("bench", "code", "--set", "env.level=1", "--level", "2"), "level 2 and env.level=1 differ"),
        (
            ("train", "code", "--model", "tiny", "--set", "env.level=1", "--set", "rollout.level=2"),
            "level 2 and env.level=1 differ",
        ),
        (("bench", "code", "--set", "env.level=9"), "level=9: it has levels 0, 1, 2, 3"),
        (("bench", "code", "--policy", ""), "--policy is empty"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    agentrl: Run, command: tuple[str, ...], words: str
) -> None:
    assert words in agentrl(*command).complaint
