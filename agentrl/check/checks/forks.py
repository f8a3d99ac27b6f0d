"""A fork is an equal and afterwards independent copy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from agentrl.adapter import can_copy
from agentrl.check.bench import Bench, Game, Table
from agentrl.check.report import Faulty, NotApplicable
from agentrl.check.state import changed, leaves_of
from agentrl.check.wording import difference, fail_if, name_of
from agentrl.environment import ForkUnsupported

TRIALS = 4
COPY = "copy what changes in fork(): lists, dicts, arrays and the generator, e.g. with copy.deepcopy"


async def forked(bench: Bench, table: Table) -> AsyncIterator[tuple[Game, Game]]:
    """Give running episodes and a fork of each, after 0, 1, 2, … actions."""
    if not bench.spec.trait("deterministic", True) and bench.spec.trait("fork") is None:
        raise NotApplicable("it has no fork() and declares deterministic = False")
    for turns in bench.positions(TRIALS):
        game = table.new()
        await game.play(bench.task(turns), turns=turns, variant=turns)
        if game.done:
            continue
        try:
            env = await bench.within(f"fork() after {turns} actions", game.env.fork(), 3 * bench.seconds)
        except ForkUnsupported as reason:
            if bench.spec.trait("deterministic", False):
                raise Faulty(f"fork() after {turns} actions: {reason}{_uncopied(game.raw)}") from reason
            raise NotApplicable(str(reason)) from reason
        twin = table.seat(env)
        twin.task, twin.first, twin.turns = game.task, game.first, list(game.turns)
        yield game, twin


async def fork_equality(bench: Bench) -> str:
    """The fork goes on exactly as the original does."""
    compared = 0
    async with bench.open() as table:
        async for game, twin in forked(bench, table):
            assert game.task is not None
            where = f"{name_of(game.task)}, forked after {len(game.turns)} actions"
            plain = await table.new().repeat(game.task, game.actions)
            await game.go_on(game.actor(5))
            for action in game.actions[len(twin.turns) :]:
                await twin.act(action)
            found = difference(game.lines, twin.lines)
            fail_if(found and f"{where}: the fork went on differently: {found}", COPY)
            for action in game.actions[len(plain.turns) :]:
                await plain.act(action)
            found = difference(plain.lines, game.lines)
            fail_if(found and f"{where}: the original went on differently than unforked: {found}", COPY)
            compared += 1
    return f"{compared} forks went on as their originals" if compared else _none()


async def fork_independence(bench: Bench) -> str:
    """What happens in the fork leaves the original alone, and the other way round."""
    compared = 0
    async with bench.open() as table:
        async for game, twin in forked(bench, table):
            assert game.task is not None
            where = f"{name_of(game.task)}, forked after {len(game.turns)} actions"
            for actor, other, what in ((twin, game, "original"), (game, twin, "fork")):
                before = leaves_of(other.raw, apart=frozenset({"shared"}))
                await actor.go_on(actor.actor(11))
                found = changed(before, leaves_of(other.raw, apart=frozenset({"shared"})))
                fail_if(found and f"{where}: playing on the one changed the {what}: {found}", COPY)
            compared += 1
        async for game, twin in forked(bench, table):
            await game.close()
            await twin.go_on(twin.actor(12), 2)
            compared += 1
        async for game, twin in forked(bench, table):
            await twin.close()
            await game.go_on(game.actor(13), 2)
    return f"{compared} forks and their originals left each other alone" if compared else _none()


def _uncopied(raw: Any) -> str:
    """Name what keeps an environment from being copied, and what to do."""
    memo = {id(raw.shared): raw.shared} if getattr(raw, "shared", None) is not None else {}
    names = [f"self.{n}" for n, v in vars(raw).items() if not can_copy(v, dict(memo))]
    if not names:
        return ""
    return f"; {', '.join(names)} cannot be copied: write fork(), or make it anew for every episode in task()"


def _none() -> str:
    raise NotApplicable("every episode ended before it could be forked")
