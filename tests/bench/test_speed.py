"""Benchmarks of AgentRL itself: they count what they say, tell good from bad, and run through the command."""

import asyncio
from pathlib import Path

import pytest

from agentrl.adapter import Adapter
from agentrl.bench.speed import memory, path, rollout, sandbox
from agentrl.bench.speed.children import in_child
from agentrl.bench.speed.claim import Claim, Peer, Wanted
from agentrl.bench.speed.running import names
from agentrl.bench.speed.scripted import Light, Waiting, dialect, played, script, work
from agentrl.engine.scripted import ScriptedEngine
from agentrl.episode import Episode
from agentrl.errors import InfrastructureError
from agentrl.progress import SilentProgress
from agentrl.rollout.independent import Independent
from agentrl.rollout.running import Table
from tests.cli.conftest import Run

FIELDS = {"name", "ratio", "wanted", "held", "median", "runs", "peer", "versions"}


def test_a_claim_compares_medians() -> None:
    peer = Peer(name="peer", runs=[8.0, 9.0, 40.0])
    claim = Claim(
        name="x",
        unit="s",
        runs=[2.0, 3.0, 30.0],
        peer=peer,
        speed_up=True,
        wanted=Wanted(direction="at least", value=3),
        details={"versions": {"peer": "1.2"}},
    )
    data = claim.to_json()
    assert data.keys() >= FIELDS and (data["ratio"], data["held"], data["median"]) == (3.0, True, 3.0)
    assert data["versions"].keys() == {"python", "agentrl", "peer"}
    slower = Claim(name="x", unit="s", runs=[3.1], peer=peer, wanted=claim.wanted, speed_up=True)
    assert not slower.to_json()["held"]


def test_the_lognormal_load_is_the_one_that_peers_were_measured_on() -> None:
    plan = rollout.lognormal_plan(128, 5, 0.3)
    assert round(rollout.critical_path(plan), 2) == 7.56 and round(rollout.lock_step(plan), 2) == 20.96


def test_episodes_sleep_side_by_side() -> None:
    plan = [[0.2] * 2] * 24
    claim = rollout.compare("some", plan, 1, SilentProgress())
    (seconds,) = claim.runs
    assert claim.peer.median == 0.4 and 0.4 <= seconds < 24 * 0.4 / 2  # one by one they need 9.6 s
    assert claim.details["lock_step"] == 0.4 and claim.details["bare_threads"][0] >= 0.4


def test_turns_and_tokens_are_counted_by_hand() -> None:
    _, turns, tokens = asyncio.run(path.cpu_of(3, 0))
    assert turns == 3 * (path.CALLS + 1)
    calls = len("wait") + 2  # <|call|>, one token a letter, <|end|>
    assert tokens == 3 * (path.CALLS * calls + len("1") + 1)
    _, turns_too, longer = asyncio.run(path.cpu_of(3, 10))
    assert turns_too == turns and longer - tokens == 10 * turns


def test_waiting_episodes_and_a_bare_environment_are_measured() -> None:
    assert 0 < path.bare_gymnasium(2) < 1
    held = in_child("agentrl.bench.speed.path:memory_of_waiting", "12")
    assert 0 <= held < 5e6


def test_memory_goes_through_rollout_and_store_in_a_process_of_its_own() -> None:
    assert isinstance(in_child("agentrl.bench.speed.memory:measure", "100"), float)
    with pytest.raises(InfrastructureError, match="invalid literal"):
        in_child("agentrl.bench.speed.memory:measure", "many")


def test_a_leak_shows_as_its_bytes() -> None:
    blocks = memory.WARM_BLOCKS + 20
    leaking = [50 * 100 * n + (n % 2) * 4096 for n in range(blocks)]
    assert abs(memory.bytes_per_episode(leaking, 100) - 50) < 1


def test_a_failed_episode_is_no_measurement() -> None:
    class Broken(Light):
        def reward(self, answer: str) -> float:
            raise OSError("no data")

    async def main(kind: type[Waiting]) -> list[Episode]:
        seen: list[Episode] = []
        table = Table(engine=ScriptedEngine(script(1)), dialect=dialect())
        await played(Independent(table=table, new_env=lambda: Adapter(kind(), kind)), work(2), seen.append)
        return seen

    assert [e.correct for e in asyncio.run(main(Light))] == [True, True]
    with pytest.raises(InfrastructureError, match="no data"):
        asyncio.run(main(Broken))


def test_the_sandbox_is_measured_through_the_pool_that_environments_use() -> None:
    found, isolation = asyncio.run(sandbox.measure(2, 1, at_once=2))
    assert found.keys() == sandbox.LIMITS.keys() and all(0 < s < 30 for s in found.values())
    assert isolation in ("namespaces", "landlock")
    assert {"subprocess"} <= sandbox.cold_starts().keys()
    assert sandbox.timed(sandbox.cold_starts()["subprocess"], times=1) > 0


def test_every_benchmark_is_found_by_its_name() -> None:
    assert {"memory", "path_overhead", "rollout_lognormal", "rollout_sleep", "sandbox_call"} <= set(names())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--speed", "rollout_sleeps"], "no benchmark 'rollout_sleeps'; did you mean 'rollout_sleep'?"),
        (["code", "--speed"], "ENV is of no use with --speed"),
        (["--speed", "memory", "--policy", "expert"], "--policy is of no use with --speed"),
        (["--speed", "memory", "--tasks", "100"], "--tasks is of no use with --speed"),
        (["--speed", "memory", "--seed", "0"], "--seed is of no use with --speed"),
        (["--speed", "memory", "--split", "test"], "--split is of no use with --speed"),
        (["--speed", "memory", "--level", "0"], "--level is of no use with --speed"),
        (["--speed", "memory", "--unsafe-local"], "--unsafe-local is of no use with --speed"),
        ([], "name an environment, such as code, or a benchmark with --speed"),
    ],
)
def test_what_cannot_be_measured_is_refused(words: list[str], said: str, agentrl_here: Run) -> None:
    assert said in agentrl_here("bench", *words).complaint


def test_the_command_prints_a_row_and_says_by_its_code_whether_it_held(
    agentrl_here: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two benchmarks of a package of somebody's own, found as ours are."""
    (tmp_path / "mine.py").write_text(
        "from agentrl.bench.speed.claim import Claim, Peer, Wanted\n"
        "def fast(progress):\n"
        "    progress.phase('mine', 1)\n"
        "    progress.advance()\n"
        "    wanted, peer = Wanted(direction='at most', value=2), Peer(name='p', runs=[1.0])\n"
        "    return Claim(name='mine', unit='s', runs=[1.0], peer=peer, wanted=wanted)\n"
        "def slow(progress):\n"
        "    return [fast(progress).to_json() | {'held': False}]\n"
    )
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[agentrl.benchmarks]\nmine_fast = mine:fast\nmine_slow = mine:slow\n"
    )
    done = agentrl_here("bench", "--speed", "mine_fast", "--json")
    (row,) = done.data["results"]
    assert done.code == 0 and row.keys() >= FIELDS and row["held"] is True and "mine" in done.err
    failed = agentrl_here("bench", "--speed", "mine_slow")
    assert failed.code == 1 and "NO" in failed.out
