"""`agentrl replay`: a recorded episode against the environment as it is now."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

from agentrl.cli.command import Command
from agentrl.cli.output import Output
from agentrl.errors import ConfigError, unknown

if TYPE_CHECKING:
    from agentrl.episode import Episode
    from agentrl.replaying import Divergence
    from agentrl.store.store import Store
    from agentrl.task import Task


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("run", metavar="RUN", help="the run's name, or its folder")
    parser.add_argument(
        "episode", metavar="EPISODE", nargs="?", help="the episode's id (default: the first of training)"
    )
    parser.add_argument("--phase", help="where several have this id: train, before-sampled, after-greedy, …")


def run(options: argparse.Namespace, out: Output) -> int:
    """Replay; exit code 1 where something is otherwise than recorded."""
    from agentrl.registry import resolve_env
    from agentrl.store.inventory import find_run

    info = find_run(options.run)
    phase, episode, task = recorded(info.path, info.config, options.episode, options.phase)
    spec = resolve_env(info.config["env"], **info.config["env_settings"])
    if changed := spec.code != info.config["env_code"]:
        out.say(f"the code of {spec.name} has changed since the run")
    seconds = info.config["rollout"]["turn_seconds"]
    difference = asyncio.run(compared(spec, task, episode, turn_seconds=seconds))
    turns = len(episode.turns)
    out.say(f"{episode.id} ({phase}, {turns} turns): {difference or 'the same, turn by turn'}")
    out.result(
        {
            "run": str(info.path),
            "episode": episode.id,
            "phase": phase,
            "turns": turns,
            "same": difference is None,
            "code_changed": changed,
            "divergence": None if difference is None else difference.to_json(),
        }
    )
    return 0 if difference is None else 1


def recorded(
    path: Any, config: dict[str, Any], name: str | None, phase: str | None
) -> tuple[str, Episode, Task]:
    """Give an episode of a run with its phase and task.

    Raises:
        ConfigError: There is none of this id, or there are several.
    """
    from agentrl.store.store import rows_of

    with rows_of(path, config) as store:
        if store is None or not (ids := store.ids()):
            raise ConfigError(f"{path} has no episodes yet")
        if name is None:
            name, phase = first(store, phase)
        found = store.episodes(name)
        if not found:
            raise ConfigError(unknown("episode", name, ids))
        if phase is None and len(found) > 1:
            raise ConfigError(
                f"episode {name!r} is there in {len(found)} phases: add --phase {sorted(found)[0]}"
            )
        phase = phase or next(iter(found))
        if phase not in found:
            raise ConfigError(f"episode {name!r}: {unknown('phase', phase, found)}")
        return phase, found[phase], store.task(found[phase].task_id)


def first(store: Store, phase: str | None) -> tuple[str, str]:
    """Give the id and phase of the first episode of a phase, by default of training, else of any."""
    from agentrl.store.store import TRAIN

    if ids := store.ids(phase or TRAIN):
        return ids[0], phase or TRAIN
    name = store.ids()[0]
    return name, phase or min(store.episodes(name))


async def compared(spec: Any, task: Task, episode: Episode, *, turn_seconds: float) -> Divergence | None:
    """Open the environment and replay the episode in it."""
    from agentrl.replaying import replay
    from agentrl.rollout.protocol import Limits

    async with spec.open() as worker:
        env = worker.new()
        try:
            return await replay(env, task, episode, limits=Limits(turn_seconds=turn_seconds))
        finally:
            await env.close()


COMMAND = Command(
    section="Train and measure",
    summary="play a recorded episode's actions again and show the first divergence",
    examples=("agentrl replay demo-0", "agentrl replay demo-0 0-3-train-0-0-3/1 --json"),
    configure=configure,
    run=run,
)
