"""Tasks differ by seed, split and level."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agentrl.check.bench import Bench, Table
from agentrl.check.budget import Budget
from agentrl.check.checks.determinism import need_deterministic
from agentrl.check.experts import expert_game
from agentrl.check.report import Faulty, NotApplicable
from agentrl.check.state import APART, Leaves, leaves_of
from agentrl.check.wording import name_of
from agentrl.task import SeededTasks, Split, Task, derive_seed

IDENTITY_APART = APART | {"split", "level", "task_id", "seed"}
MANY = 64
BLOCKS = (4, 16, 64, 256)
"""Tasks that are started one after another in two orders."""
SECONDS = 1.5
"""Time for drawing tasks; environments with slow starts are looked at less closely."""
Key = tuple[str, ...]


class Drawer:
    """Draws tasks and says which are equal: by text and hidden state, without what is mere noise."""

    def __init__(self, bench: Bench, table: Table) -> None:
        self.bench, self.table, self.budget = bench, table, Budget(SECONDS)
        self.noise: frozenset[str] = frozenset()

    @property
    def late(self) -> bool:
        """Whether the time for drawing is spent."""
        return self.budget.spent

    async def prepare(self) -> None:
        """Find the attributes that differ between two starts of one task."""
        first, second = [await self._leaves(self.bench.task(0)) for _ in range(2)]
        self.noise = frozenset(p for p in {*first, *second} if first.get(p) != second.get(p))

    async def key(self, task: Task) -> Key:
        """Give what makes the task the task that it is."""
        leaves = await self._leaves(task)
        return tuple(f"{p}={v}" for p, v in sorted(leaves.items()) if p not in self.noise)

    async def keys(self, tasks: Iterable[Task]) -> tuple[dict[Key, Task], int]:
        """Draw several tasks, as far as time allows; gives the different ones and how many were drawn."""
        found: dict[Key, Task] = {}
        count = 0
        for task in tasks:
            if count >= 8 and self.late:
                break
            found.setdefault(await self.key(task), task)
            count += 1
        return found, count

    async def _leaves(self, task: Task) -> Leaves:
        game = self.table.new()
        await game.start(task)
        leaves = leaves_of(game.raw, apart=IDENTITY_APART) | {"text": game.first.text}
        await game.close()
        self.table.games.remove(game)
        return leaves


async def splits_disjoint(bench: Bench) -> str:
    """No task of one split appears in another."""
    splits = bench.spec.splits
    own = hasattr(bench.spec.kind, "splits") or hasattr(bench.spec.kind, "tasks")
    if len(splits) < 2 or not own:
        raise NotApplicable("it declares no splits; tasks differ by their seeds only")
    async with bench.open() as table:
        drawer = Drawer(bench, table)
        await drawer.prepare()
        drawer.budget.extend(SECONDS)
        made = {s: await drawer.keys(bench.task(i, split=s) for i in range(MANY)) for s in splits}
        drawn = {s: keys for s, (keys, _) in made.items()}
        small = any(len(keys) < count // 3 for s, (keys, count) in made.items() if s == "train")
        shared = [(a, b, drawn[a].keys() & drawn[b].keys()) for a in splits for b in splits if a < b]
        ignored = [s for s in splits if s != "train" and await _same_for_seeds(drawer, s)]
    if small:
        raise NotApplicable(
            f"the task space is too small to be split ({len(drawn['train'])} different tasks in "
            f"{made['train'][1]} seeds)"
        )
    for one, two, keys in shared:
        if keys:
            key = min(keys)
            pair = f"{name_of(drawn[one][key])} is the same as {name_of(drawn[two][key])}"
            raise Faulty(f"{pair}; keep the tasks of {one!r} and {two!r} apart: {_remedy(one, two)}")
    if ignored:
        raise Faulty(f"split {ignored[0]!r} draws the tasks of 'train' for equal seeds; {_remedy(*ignored)}")
    return ", ".join(f"{len(k)} of {s!r}" for s, k in drawn.items()) + " are all different"


async def _same_for_seeds(drawer: Drawer, split: Split) -> bool:
    """Whether a split makes of most equal seeds the same tasks as train does; train may draw some anew."""
    level = drawer.bench.levels[0]
    if not isinstance(drawer.bench.spec.tasks("train", level=level), SeededTasks):
        return False
    same = []
    drawer.budget.extend(SECONDS)
    for number in range(MANY):
        if number >= 4 and drawer.late:
            break
        seed = derive_seed("equal", number)
        tasks = [Task(id="x", split=s, level=level, seed=seed) for s in ("train", split)]
        one, two = [await drawer.key(task) for task in tasks]
        same.append(one == two)
    return sum(same) >= len(same) / 2


def _remedy(*splits: str) -> str:
    if "ood" in splits:
        return "read self.split in task() and draw other families (templates, names, sizes) for 'ood'"
    return "decide by a hash of the task itself, or let ToolEnv do it"


async def levels_differ(bench: Bench) -> str:
    """Every declared level starts, and makes other tasks than the level below."""
    if len(bench.levels) < 2:
        raise NotApplicable("it has one level")
    async with bench.open() as table:
        drawer = Drawer(bench, table)
        drawer.budget.extend(SECONDS)
        await drawer.prepare()
        keys = {n: [await drawer.key(_at(n, seed)) for seed in (1, 2, 3, 4)] for n in bench.levels}
        for level, drawn in keys.items():
            if len(set(drawn)) == 1:
                raise Faulty(f"4 seeds gave 1 task at level {level}; draw it from the rng or seed given")
        for one, two in zip(bench.levels, bench.levels[1:], strict=False):
            if keys[one] == keys[two]:
                raise Faulty(
                    f"level {two} gives the same tasks as level {one}; "
                    "read self.level (options['level']) in task()"
                )
    return f"levels {', '.join(map(str, bench.levels))} give different tasks"


def _at(level: int, seed: int) -> Task:
    return Task(id="x", split="train", level=level, seed=seed)


async def upwards(bench: Bench) -> list[dict[str, Any]]:
    """Play tasks of every level and split in order; the checker compares with the other order."""
    return await _episodes(bench, 1)


async def downwards(bench: Bench) -> list[dict[str, Any]]:
    """Play the same tasks in reverse."""
    return await _episodes(bench, -1)


async def _episodes(bench: Bench, way: int) -> list[dict[str, Any]]:
    need_deterministic(bench)
    first, *others = bench.spec.splits
    levels = dict.fromkeys([*bench.levels[:2], bench.levels[-1]])
    places = [*((level, first) for level in levels), *((bench.levels[0], split) for split in others)]
    tasks = [bench.task(0, split=split, level=level) for level, split in places]
    tasks += [bench.task(i, split=first) for i in (1, 2, 3)]
    found = []
    async with bench.open() as table:
        for task in tasks[::way]:
            solved = await expert_game(bench, table, task)
            game = await table.new().play(task, variant=5)
            lines = [*(solved.lines if solved is not None else ()), *game.lines]
            found.append({"task": name_of(task), "lines": lines})
            await game.close()
        return found + await _starts(bench, table, way)


async def _starts(bench: Bench, table: Table, way: int) -> list[dict[str, Any]]:
    """Start many tasks, block by block, each block in this order; larger blocks as long as there is time.

    A cache whose key is too coarse shows among many tasks only, and a start is cheap.
    """
    budget, begin = Budget(SECONDS), 4
    found: list[dict[str, Any]] = []
    for size in BLOCKS:
        if budget.spent:
            break
        for position in range(begin, begin + size)[::way]:
            task, game = bench.task(position, split=bench.spec.splits[0]), table.new()
            await game.start(task)
            found.append({"task": f"the start of {name_of(task)}", "lines": [game.first.text]})
            await game.close()
            table.games.remove(game)
        begin += size
    return found


async def task_source(bench: Bench) -> str:
    """Where tasks come from can be continued at any position, and ids are unique."""
    mend = "at(position) must be a pure function, and take must follow it"
    for split in bench.spec.splits:
        one, two = [bench.spec.tasks(split, level=bench.levels[0], seed=bench.seed) for _ in range(2)]
        taken = [*one.take(3), *one.take(3)]
        again = [two.at(i) for i in reversed(range(6))][::-1]
        for position, (first, second) in enumerate(zip(taken, again, strict=True)):
            if first != second:
                fault = f"tasks({split!r}).at({position}) is {second.id!r}, but take gave {first.id!r}"
                raise Faulty(f"{fault}; {mend}")
        if one.position != 6:
            raise Faulty(f"tasks({split!r}).position is {one.position} after taking 6 tasks; {mend}")
        if len({t.id for t in taken}) < min(6, len(two)):
            raise Faulty(
                f"tasks({split!r}) gives the id {taken[0].id!r} to different tasks: ids must be unique"
            )
        if any(t.split != split for t in taken):
            raise Faulty(f"tasks({split!r}) gives tasks of split {taken[0].split!r}: set it to {split!r}")
    return "positions can be saved and continued"
