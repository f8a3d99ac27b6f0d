"""`agentrl runs` and `agentrl replay`: what they show of real runs, and what they give back."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentrl.cli.replay import recorded
from agentrl.store.inventory import find_run
from agentrl.store.lock import RunLock
from tests.store.conftest import HERE, STEPS, command
from tests.store.nursery import Nursery


@pytest.fixture(scope="module")
def both(nursery: Nursery, checkpoint: Path, killed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a finished run and one that was killed in its third step."""
    folder = tmp_path_factory.mktemp("both")
    (folder / "word.py").write_text((HERE / "word.py").read_text())
    code, child = nursery.run(*command(checkpoint, name="done"), folder=folder)
    assert code == 0, child.err
    shutil.copytree(killed / "runs/x", folder / "runs/cut")
    return folder


@pytest.fixture
def two(both: Path, tmp_path: Path) -> Path:
    """Give a folder with both of its own."""
    return shutil.copytree(both, tmp_path / "both")


def ask(nursery: Nursery, place: Path, *words: str, code: int = 0) -> dict[str, Any]:
    got, child = nursery.run(*words, "--json", folder=place)
    assert got == code, child.err
    data: dict[str, Any] = json.loads(child.out.splitlines()[-1])
    return data


def test_runs_are_listed_shown_pruned_and_removed(nursery: Nursery, two: Path) -> None:
    listed = {r["run"]: r for r in ask(nursery, two, "runs")["runs"]}
    assert {(r["run"], r["state"], r["step"], r["steps"]) for r in listed.values()} == {
        ("done", "finished", STEPS, STEPS),
        ("cut", "stopped", 2, STEPS),
    }
    files = sum(f.stat().st_size for f in (two / "runs/done").rglob("*") if f.is_file())
    assert listed["done"]["bytes"] == files and listed["done"]["env"] == "word.py:Word"
    (shown,) = ask(nursery, two, "runs", "done")["runs"]
    assert [m["step"] for m in shown["metrics"]] == list(range(1, STEPS + 1))
    freed = ask(nursery, two, "runs", "--prune")
    assert freed["freed"]["cut"] == 0 and freed["bytes"] == freed["freed"]["done"] > 1_000_000
    assert (two / "runs/done/model").is_dir() and (two / "runs/cut/checkpoints").is_dir()
    assert ask(nursery, two, "runs", "--remove", "done")["bytes"] > 0
    assert [r["run"] for r in ask(nursery, two, "runs")["runs"]] == ["cut"]
    code, child = nursery.run("runs", "cutt", folder=two)
    assert code == 2 and "did you mean 'cut'" in child.err


def test_what_somebody_put_beside_the_checkpoints_disturbs_nothing(nursery: Nursery, two: Path) -> None:
    latest = two / "runs/cut/checkpoints/step-000002.safetensors"
    shutil.copy(latest, latest.with_suffix(".bak.safetensors"))
    (latest.parent / "step-old.safetensors").touch()
    (two / "runs/cut/checkpoints/gone").symlink_to("nowhere")
    listed = {r["run"]: (r["state"], r["step"]) for r in ask(nursery, two, "runs")["runs"]}
    assert listed == {"done": ("finished", STEPS), "cut": ("stopped", 2)}


def test_looking_changes_nothing(nursery: Nursery, two: Path) -> None:
    (two / "runs/done/run.db").chmod(0o444)
    before = {f: f.lstat().st_mtime_ns for f in (two / "runs").rglob("*")}
    ask(nursery, two, "runs", "done")
    ask(nursery, two, "replay", "done", "0-0-train-0-3-0/1")
    assert {f: f.lstat().st_mtime_ns for f in (two / "runs").rglob("*")} == before
    (two / "runs/cut/run.db").unlink()
    (shown,) = ask(nursery, two, "runs", "cut")["runs"]
    code, child = nursery.run("replay", "cut", folder=two)
    assert shown["metrics"] == [] and code == 2 and "no episodes yet" in child.err
    assert not (two / "runs/cut/run.db").exists()


def test_a_damaged_result_is_made_again_by_one_process_alone(
    nursery: Nursery, checkpoint: Path, two: Path
) -> None:
    result = two / "runs/done/result.json"
    whole = json.loads(result.read_text())
    result.write_text("{")
    again = ask(nursery, two, *command(checkpoint, name="done"))
    assert (
        again["weights_sha256"] == whole["weights_sha256"] == json.loads(result.read_text())["weights_sha256"]
    )
    result.write_text("{")
    lock = RunLock(result.parent)
    code, child = nursery.run(*command(checkpoint, name="done"), folder=two)
    lock.release()
    assert code == 2 and f"in use by process {os.getpid()}" in child.err


def test_a_running_run_is_neither_stopped_nor_removed(
    nursery: Nursery, checkpoint: Path, place: Path
) -> None:
    child = nursery.start(*command(checkpoint), folder=place)
    while not (place / "runs/x/run.db").exists():
        assert child.wait_at_most(0.01) is None, child.err
    (listed,) = ask(nursery, place, "runs")["runs"]
    assert listed["state"] == "running"
    code, refused = nursery.run("runs", "--remove", "x", folder=place)
    assert code == 2 and f"in use by process {child.pid}" in refused.err
    child.kill()
    child.wait()


def test_a_replay_is_the_same_until_the_environment_changes(nursery: Nursery, two: Path) -> None:
    same = ask(nursery, two, "replay", "done", "0-0-train-0-3-0/1")
    assert same["same"] and same["turns"] == 2 and same["phase"] == "train" and not same["code_changed"]
    source = (two / "word.py").read_text()
    (two / "word.py").write_text(source.replace("len(action) / 50", "len(action) / 49"))
    other = ask(nursery, two, "replay", "done", "0-0-train-0-3-0/1", code=1)
    assert other["code_changed"] and other["divergence"]["turn"] == 1
    assert other["divergence"]["what"] == "the reward"
    assert other["divergence"]["now"] == pytest.approx(other["divergence"]["recorded"] * 50 / 49)
    (two / "word.py").write_text(source.replace('"again"', '"once more"'))
    assert ask(nursery, two, "replay", "done", "0-0-train-0-3-0/1", code=1)["divergence"] is not None
    (two / "word.py").write_text(source.replace("price of", "cost of"))
    changed = ask(nursery, two, "replay", "done", "0-0-train-0-3-0/1", code=1)["divergence"]
    assert changed["turn"] is None and changed["what"] == "the task"
    assert changed["recorded"].replace("price", "cost") == changed["now"]


def test_without_an_id_the_first_episode_of_training_is_replayed(nursery: Nursery, two: Path) -> None:
    first = ask(nursery, two, "replay", "done")
    assert first["phase"] == "train" and first["episode"].startswith("0-0-train-") and first["same"]
    other = ask(nursery, two, "replay", "done", "--phase", "after-greedy")
    assert other["phase"] == "after-greedy" and other["episode"].startswith("eval-test-") and other["same"]
    code, child = nursery.run("replay", "done", "--phase", "before", folder=two)
    assert code == 2 and "did you mean 'before-greedy'" in child.err, child.err


@pytest.mark.parametrize("script", ["word.py", "go.py"])
def test_a_script_and_the_command_line_mean_the_same_run(
    script: str, nursery: Nursery, checkpoint: Path, place: Path
) -> None:
    """The class stands in the script that runs, or is imported by it."""
    words = command(checkpoint)
    settings = dict(w.removeprefix("--set=").split("=") for w in words if w.startswith("--set="))
    arguments = {"model": str(checkpoint), "steps": STEPS, "seed": 3, "run": "x", "settings": settings}
    imports = "" if script == "word.py" else "from word import Word\n"
    with (place / script).open("a") as file:
        file.write(f"{imports}if __name__ == '__main__':\n    from agentrl import train\n")
        file.write(f"    train(Word, **{arguments})\n")
    done = subprocess.run([sys.executable, script], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again, child = nursery.run(*words, folder=place)
    assert again == 0 and "is finished" in child.out + child.err, child.err
    assert ask(nursery, place, "replay", "x")["same"]
    assert ask(nursery, place, "runs", "x")["runs"][0]["env"] == "word.py:Word"


def test_before_training_the_first_episode_is_one_of_the_measurement(two: Path) -> None:
    found = find_run("done", two / "runs")
    with closing(sqlite3.connect(found.path / "run.db")) as database, database:
        database.execute("delete from episodes where phase = 'train' or phase like 'after%'")
    phase, episode, task = recorded(found.path, found.config, None, None)
    assert phase == "before-greedy" and episode.task_id == task.id


def test_what_cannot_be_replayed_is_named(nursery: Nursery, two: Path) -> None:
    for words, cue in (
        (("done", "0-0-train-0-3-0/9"), "did you mean '0-0-train-0-3-0/"),
        (("done", "eval-test-0-20000003-0/0"), "in 4 phases: add --phase after-greedy"),
        (("done", "eval-test-0-20000003-0/0", "--phase", "before"), "did you mean 'before-greedy'"),
        (("dome",), "did you mean 'done'"),
    ):
        code, child = nursery.run("replay", *words, folder=two)
        assert code == 2 and cue in child.err, child.err
