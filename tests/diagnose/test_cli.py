"""`agentrl diagnose` as a user meets it."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentrl.trainers.parts import StepEnd
from tests.cli.conftest import AGENTRL, Ended, run_command
from tests.diagnose.running import play
from tests.diagnose.sabotage import Stale, case, with_parts


def diagnosed(folder: Path, *words: str) -> Ended:
    return run_command([AGENTRL, "diagnose", *words], folder)


@pytest.fixture(scope="module")
def looked(
    two_hop: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """Train with stale weights, and ask from another process while it goes on."""
    folder = tmp_path_factory.mktemp("runs")
    seen: list[dict[str, Any]] = []

    def ask(end: StepEnd) -> None:
        if end.metrics.step in (1, 5):
            (run,) = folder.glob("*/config.json")
            ended = diagnosed(folder, str(run.parent), "--json")
            seen.append({"code": ended.code, "err": ended.err, "data": ended.data if ended.out else None})

    spoilt = case(engine=Stale, recipe=with_parts(callbacks=(ask,)))
    yield play(spoilt, folder, two_hop), seen


def test_a_run_can_be_diagnosed_while_it_trains(looked: tuple[Path, list[dict[str, Any]]]) -> None:
    early, late = looked[1]
    assert (
        early["code"] == 2
        and "has no finished step yet: there is nothing to diagnose (running)" in early["err"]
    )
    assert late["data"]["state"] == "running" and late["data"]["steps"] == 4
    assert late["data"]["findings"][0]["name"] == "stale-weights"


def test_a_person_reads_the_cause_its_evidence_and_what_to_do(
    looked: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    run, _ = looked
    before = {f: hashlib.sha256(f.read_bytes()).digest() for f in run.rglob("*") if f.is_file()}
    text = diagnosed(tmp_path, str(run)).out.splitlines()
    assert text[0].startswith("1. The engine samples from stale weights")
    assert "nats a token" in text[1] and any(line.startswith("   → look at the hand-over") for line in text)
    assert "success first 0." in "\n".join(text)
    data = diagnosed(tmp_path, str(run), "--json").data
    assert data["state"] == "finished" and not data["healthy"] and data["steps"] == 8
    assert {"name", "sentence", "evidence", "remedy", "severity", "since", "episode"} <= set(
        data["findings"][0]
    )
    assert data["figures"]["mismatch_mean"] > 0.1
    assert before == {f: hashlib.sha256(f.read_bytes()).digest() for f in run.rglob("*") if f.is_file()}


def test_what_cannot_be_diagnosed_is_one_line(
    looked: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    config = json.loads((looked[0] / "config.json").read_text())
    empty = tmp_path / "runs" / "begun"
    empty.mkdir(parents=True)
    (empty / "config.json").write_text(json.dumps(config))
    assert "no run 'begin'; did you mean 'begun'?" in diagnosed(tmp_path, "begin").complaint
    assert "has no finished step yet" in diagnosed(tmp_path, "begun").complaint
    (empty / "run.db").write_bytes(b"")
    assert "has no finished step yet" in diagnosed(tmp_path, "begun").complaint
    (empty / "run.db").write_bytes(b"no database at all" * 100)
    assert "file is not a database" in diagnosed(tmp_path, "begun").complaint


def test_a_folder_that_cannot_be_written_can_be_read(
    looked: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    """In a mount namespace of its own: to root, rights of files say nothing."""
    run = looked[0]
    script = f"mount --bind {run} {run} && mount -o remount,bind,ro {run} && {AGENTRL} diagnose {run} --json"
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["findings"][0]["name"] == "stale-weights"
