"""What can go wrong around a run ends in one line and exit code 2, and nothing is damaged."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disks import fill, small_disk
from tests.store.conftest import Outcome, command, outcome
from tests.store.nursery import Child, Nursery, Point

NOBODY = "postgresql://agentrl@127.0.0.1:1/none"
"""A database that nobody serves."""
OPENS_WHERE_IT_CAN = """
import contextlib
from agentrl.errors import SandboxUnavailable

@contextlib.asynccontextmanager
async def open_shared():
    if Path("refuse").exists():
        raise SandboxUnavailable("no bubblewrap here")
    yield None

Word.open_shared = staticmethod(open_shared)
"""
"""Makes the environment depend on something that a machine may lack."""


def complaint(code: int, child: Child) -> str:
    lines = [line for line in child.err.splitlines() if line.startswith("agentrl: ")]
    assert code == 2 and len(lines) == 1, (code, child.err)
    return lines[0]


def goes_on(nursery: Nursery, checkpoint: Path, place: Path, undisturbed: Outcome) -> str:
    """Let the same command finish; gives what it said."""
    code, child = nursery.run(*command(checkpoint), folder=place)
    assert code == 0, child.err
    finished = outcome(place, json.loads(child.out.splitlines()[-1]))
    assert finished.weights == undisturbed.weights and finished.metrics == undisturbed.metrics
    assert finished.episodes == undisturbed.episodes
    return child.err


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_torn_checkpoint_has_another_behind_it(
    stopped: Path, nursery: Nursery, checkpoint: Path, place: Path, undisturbed: Outcome
) -> None:
    cut(stopped / "checkpoints" / "step-000002.safetensors")
    said = goes_on(nursery, checkpoint, place, undisturbed)
    assert "step-000002.safetensors is torn" in said and "the run goes on from step 1" in said


def test_without_a_whole_checkpoint_nothing_is_touched(
    stopped: Path, nursery: Nursery, checkpoint: Path, place: Path
) -> None:
    files = sorted((stopped / "checkpoints").iterdir())
    for file in files:
        cut(file)
    before = [f.read_bytes() for f in files]
    said = complaint(*nursery.run(*command(checkpoint), folder=place))
    assert "is torn" in said and "--fresh" in said
    assert [f.read_bytes() for f in files] == before


def test_steps_without_any_checkpoint_are_not_thrown_away(
    stopped: Path, nursery: Nursery, checkpoint: Path, place: Path
) -> None:
    shutil.rmtree(stopped / "checkpoints")
    said = complaint(*nursery.run(*command(checkpoint), folder=place))
    assert "holds 2 steps and no checkpoint" in said and "--fresh" in said
    (shown,) = json.loads(nursery.run("runs", "x", "--json", folder=place)[1].out.splitlines()[-1])["runs"]
    assert [m["step"] for m in shown["metrics"]] == [1, 2]


def test_a_lost_database_is_not_made_up(
    stopped: Path, nursery: Nursery, checkpoint: Path, place: Path
) -> None:
    for file in stopped.glob("run.db*"):
        file.unlink()
    said = complaint(*nursery.run(*command(checkpoint), folder=place))
    assert "holds 0 of the 2 steps" in said and "--fresh" in said


def test_a_damaged_database_is_named(stopped: Path, nursery: Nursery, checkpoint: Path, place: Path) -> None:
    for file in stopped.glob("run.db-*"):
        file.unlink()
    (stopped / "run.db").write_bytes(b"no database at all" * 500)
    said = complaint(*nursery.run(*command(checkpoint), folder=place))
    assert "run.db: file is not a database" in said and "--fresh" in said


def test_what_was_found_is_kept_where_it_cannot_go_on_now(
    nursery: Nursery, checkpoint: Path, place: Path, undisturbed: Outcome
) -> None:
    """A new run that cannot begin leaves nothing; one that was killed before its first step is kept."""
    source = (place / "word.py").read_text()
    opens = f"{source}\n{OPENS_WHERE_IT_CAN}"
    (place / "word.py").write_text(opens)
    (place / "refuse").touch()
    assert "no bubblewrap here" in complaint(*nursery.run(*command(checkpoint), folder=place))
    assert not (place / "runs").exists()
    (place / "refuse").unlink()
    before = Point(function="evaluate_model", event="return")
    code, child = nursery.run(*command(checkpoint), folder=place, kill=before)
    assert code == -9, child.err
    kept = {f for f in (place / "runs/x").rglob("*") if f.name == "run.db"}
    (place / "refuse").touch()
    assert "no bubblewrap here" in complaint(*nursery.run(*command(checkpoint), folder=place))
    assert kept and kept <= set((place / "runs/x").rglob("*"))
    (place / "refuse").unlink()
    goes_on(nursery, checkpoint, place, undisturbed)


def test_a_database_that_never_answered_leaves_no_run(
    nursery: Nursery, checkpoint: Path, place: Path
) -> None:
    said = complaint(*nursery.run(*command(checkpoint, f"--set=store.url={NOBODY}"), folder=place))
    assert NOBODY in said and "can be reached" in said
    assert not (place / "runs").exists()


@pytest.mark.parametrize("words", ["fresh", "remove"])
def test_a_run_whose_database_is_gone_can_be_removed(
    words: str, stopped: Path, nursery: Nursery, checkpoint: Path, place: Path
) -> None:
    config = json.loads((stopped / "config.json").read_text())
    (stopped / "config.json").write_text(json.dumps(config | {"store": {"url": NOBODY}}))
    if words == "fresh":
        code, child = nursery.run(*command(checkpoint, "--fresh"), folder=place)
        assert (stopped / "result.json").exists()
    else:
        code, child = nursery.run("runs", "--remove", "x", "--json", folder=place)
        assert not stopped.exists()
        assert NOBODY in json.loads(child.out.splitlines()[-1])["left"][0]
    said = child.out + child.err
    assert code == 0 and f"{NOBODY}: " in said and f"run = {config['id']!r}" in said, said
    assert "same command" not in said


def test_two_processes_on_one_run(nursery: Nursery, checkpoint: Path, place: Path) -> None:
    first = nursery.start(*command(checkpoint), folder=place)
    while not (place / "runs/x/run.db").exists():
        assert first.wait_at_most(0.01) is None, first.err
    os.killpg(first.pid, 19)  # SIGSTOP: it holds the run for as long as this test needs
    said = complaint(*nursery.run(*command(checkpoint), folder=place))
    assert f"in use by process {first.pid}" in said and "--run NAME" in said
    said = complaint(*nursery.run(*command(checkpoint), "--fresh", folder=place))
    assert f"in use by process {first.pid}" in said
    first.kill()
    first.wait()
    code, child = nursery.run("runs", "--remove", "x", folder=place)
    assert code == 0 and not (place / "runs/x").exists(), "the lock of a dead process is free"


def test_another_configuration_or_code_is_named(
    stopped: Path, nursery: Nursery, checkpoint: Path, place: Path
) -> None:
    before = {f: f.read_bytes() for f in stopped.rglob("*") if f.is_file() and f.name != "lock"}
    changed = command(checkpoint, "--set=clip_low=0.1")
    said = complaint(*nursery.run(*changed, folder=place))
    assert "algorithm_settings.clip_low: 0.2 → 0.1" in said and "--fresh" in said
    source = (place / "word.py").read_text()
    (place / "word.py").write_text(source.replace("/ 50", "/ 49"))
    said = complaint(*nursery.run(*command(checkpoint), folder=place))
    assert "other environment code" in said and "--run NAME" in said
    assert {f: f.read_bytes() for f in before} == before


def test_inspect_is_for_the_first_step(
    stopped: Path, nursery: Nursery, checkpoint: Path, place: Path
) -> None:
    said = complaint(*nursery.run(*command(checkpoint, "--inspect"), folder=place))
    assert "--inspect shows the first step" in said


@pytest.mark.parametrize("kilobytes", [100, 2000])
def test_a_file_that_may_not_grow(
    kilobytes: int, nursery: Nursery, checkpoint: Path, place: Path, undisturbed: Outcome
) -> None:
    """Where the limit strikes depends on its size: the rows, the first checkpoint, a later one."""
    said = complaint(*nursery.run(*command(checkpoint), folder=place, files=kilobytes * 1000))
    assert "same command" in said or "make room" in said
    goes_on(nursery, checkpoint, place, undisturbed)


@pytest.fixture
def own_disk(place: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Give a stopped run on a disk of its own."""
    runs = place / "runs"
    runs.mkdir()
    with small_disk(runs, megabytes=64):
        yield Path(request.getfixturevalue("stopped")).parent


def test_a_full_disk(
    own_disk: Path, nursery: Nursery, checkpoint: Path, place: Path, undisturbed: Outcome
) -> None:
    filling = fill(own_disk)
    said = complaint(*nursery.run(*command(checkpoint), folder=place))
    assert "make room" in said
    filling.unlink()
    goes_on(nursery, checkpoint, place, undisturbed)


def test_a_disk_that_may_only_be_read(
    own_disk: Path, nursery: Nursery, checkpoint: Path, place: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(own_disk)], check=True)
    said = complaint(*nursery.run(*command(checkpoint), folder=place))
    assert "Read-only file system" in said and "nothing that was committed is lost" in said
    code, child = nursery.run("runs", folder=place)
    assert code == 0 and "2/3" in child.out, child.err
