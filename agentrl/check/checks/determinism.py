"""Equal task and equal actions give equal observations, whatever happened before and beside them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from agentrl.check.bench import TURNS, Bench, Game, Table
from agentrl.check.experts import expert_game
from agentrl.check.report import Faulty, NotApplicable
from agentrl.check.state import Leaves, changed, leaves_of
from agentrl.check.wording import difference, fail_if, name_of
from agentrl.message import Action, call
from agentrl.task import Task

BROKEN = (Action(malformed=("no call",)), call("no_such_tool", x=1), Action(text="?"))
MEND = (
    "draw every random choice from the rng that task() or reset(seed=…) gets, and use no time, id(), uuid, "
    "set order or module-level random"
)


def need_deterministic(bench: Bench) -> None:
    """Skip environments that say openly that they are not reproducible."""
    if bench.spec.trait("deterministic", True) is False:
        raise NotApplicable("it declares deterministic = False")


async def determinism(bench: Bench) -> str:
    """A fresh instance replays an episode."""
    need_deterministic(bench)
    compared = 0
    async with bench.open() as table:
        for position in bench.positions(bench.seeds, 1.5):
            task = bench.task(position)
            before = repr(task)
            old, new = table.new(), table.new()
            await old.play(task, variant=position)
            _same_task(before, task)
            compared += len(old.lines)
            hidden = leaves_of(old.raw)
            await old.close()
            await new.repeat(task, old.actions)
            fail_if(_where(old, new), f"the same actions gave something else{suspects(hidden, new)}; {MEND}")
            if changed(hidden, leaves_of(new.raw)):
                await _same_verdicts(bench, table, position)
            await new.close()
        await _expert_twice(bench, table)
        await _broken_twice(bench, table)
    return f"{compared} observations came out equal"


async def _expert_twice(bench: Bench, table: Table) -> None:
    """Replay what the expert does, since its answers depend on more than random ones do."""
    for position in bench.positions(4, 0.5):
        old = await expert_game(bench, table, bench.task(position))
        if old is None:
            return
        new = await table.new().repeat(bench.task(position), old.actions)
        fail_if(_where(old, new), f"the same actions gave something else; {MEND}")
        await new.close()


async def _broken_twice(bench: Bench, table: Table) -> None:
    """Replay broken calls and odd answers."""
    for number, action in enumerate(BROKEN):
        old, new = [await table.new().repeat(bench.task(number), [action] * 4) for _ in range(2)]
        fail_if(_where(old, new), f"the same broken actions gave something else; {MEND}")
        await old.close()
        await new.close()


def _same_task(before: str, task: Task) -> None:
    if repr(task) != before:
        raise Faulty(
            f"{name_of(task)}: playing it changed its payload: {before[:120]} became {repr(task)[:120]}; "
            "copy what changes: copy.deepcopy(payload)"
        )


def suspects(old: Leaves, new: Game) -> str:
    """Name attributes that differ between two instances in the same place."""
    leaves = leaves_of(new.raw)
    paths = [p for p in old if leaves.get(p) != old[p]]
    names = dict.fromkeys(re.split(r"[\[.]", p.lstrip("."))[0] for p in paths)
    return f" (self.{', self.'.join(list(names)[:4])} differ)" if names else ""


async def _same_verdicts(bench: Bench, table: Table, position: int) -> None:
    """Answer with values in which two hidden states of one task differ: both must judge them equally."""
    for number in range(6):
        one, two = table.new(), table.new()
        await one.start(bench.task(position))
        await two.start(bench.task(position))
        old, new = leaves_of(one.raw), leaves_of(two.raw)
        values = [v.strip("'\"") for p, v in old.items() if new.get(p) != v and len(v) < 60]
        if number >= len(values):
            return
        await one.act(Action(text=values[number]))
        await two.act(Action(text=values[number]))
        fail_if(_where(one, two), f"the same answer was judged differently{suspects(old, two)}; {MEND}")
        await one.close()
        await two.close()


def _where(old: Game, new: Game) -> str | None:
    assert old.task is not None
    found = difference(old.lines, new.lines)
    return found and f"{name_of(old.task)}, {found}"


async def trace(bench: Bench) -> list[dict[str, Any]]:
    """Play some episodes and give their lines; the checker compares those of two processes."""
    need_deterministic(bench)
    episodes = []
    async with bench.open() as table:
        for position in bench.positions(bench.seeds):
            game = await table.play(position, variant=position)
            assert game.task is not None
            episodes.append({"task": name_of(game.task), "lines": game.lines})
    return episodes


async def episode_isolation(bench: Bench) -> str:
    """An instance that has played before starts like a fresh one."""
    need_deterministic(bench)
    mend = "the instance had played another episode before; set everything anew in task() or reset()"
    async with bench.open() as table:
        used = table.new()
        for position in bench.positions(4):
            fresh = await table.new().play(bench.task(position), variant=position)
            await used.play(bench.task(position + 1), turns=TURNS if position % 2 else 2, variant=7)
            again = await used.repeat(bench.task(position), fresh.actions)
            fail_if(_where(fresh, again), mend)
            await fresh.close()
        if bench.has_expert:
            await _solved_before(bench, table, mend)
        for action in BROKEN if bench.has_expert else ():
            fresh = await table.new().repeat(bench.task(0), [action])
            await expert_game(bench, table, bench.task(1), game=used)
            fail_if(_where(fresh, await used.repeat(bench.task(0), [action])), mend)
            await fresh.close()
    return "a used instance starts like a fresh one"


async def _solved_before(bench: Bench, table: Table, mend: str) -> None:
    """Compare right episodes of one instance, one after the other, with those of fresh ones."""
    used = table.new()
    for position in bench.positions(4):
        fresh = await expert_game(bench, table, bench.task(position))
        again = await expert_game(bench, table, bench.task(position), game=used)
        assert fresh is not None and again is not None
        fail_if(_where(fresh, again), mend)
    await used.close()


async def instance_isolation(bench: Bench) -> str:
    """Two instances that play at the same time do not see each other."""
    need_deterministic(bench)
    mend = (
        "another instance played at the same time; keep state in self, not in the class, the module or "
        "global generators"
    )
    async with bench.open() as table:
        for position in bench.positions(4):
            alone = await table.play(position, variant=position)
            one, two = table.new(), table.new()
            await one.start(bench.task(position))
            await two.start(bench.task(position + 1))
            actor, before = two.actor(3), leaves_of(one.raw)
            for action in alone.actions:
                for _ in range(2):
                    if not two.done:
                        await two.act(actor.next(two.texts))
                fail_if(changed(before, leaves_of(one.raw)), mend)
                await one.act(action)
                before = leaves_of(one.raw)
                if one.done:
                    break
            fail_if(_where(alone, one), mend)
            await one.close()
            await two.close()
        for position in bench.positions(4, 0.5):  # two at a time: a small pool may have no more places
            await _at_once(bench, table, (position, position + 1), mend)
    return "two instances at once play like one alone"


async def _at_once(bench: Bench, table: Table, positions: Sequence[int], mend: str) -> None:
    """Play two tasks in the same moment, as a rollout does."""
    alone = [await table.play(p, variant=p) for p in positions]
    games = [table.new() for _ in alone]
    for first, game in zip(alone, games, strict=True):
        assert first.task is not None
        await game.start(first.task)
    turns = max(len(g.turns) for g in alone)
    for turn in range(turns):
        live = [(g, f.actions[turn]) for f, g in zip(alone, games, strict=True) if turn < len(f.turns)]
        await asyncio.gather(*(g.act(action) for g, action in live if not g.done))
    for first, game in zip(alone, games, strict=True):
        fail_if(_where(first, game), mend)
        await game.close()
