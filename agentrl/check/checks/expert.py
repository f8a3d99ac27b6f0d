"""The expert proves that the tasks can be solved from what the model sees."""

from __future__ import annotations

from collections.abc import Sequence

from agentrl.check.actions import WORD
from agentrl.check.bench import Bench, Game, Table
from agentrl.check.budget import Budget
from agentrl.check.experts import Ask, ExpertProcess, expert_actor
from agentrl.check.report import Faulty, NotApplicable
from agentrl.check.wording import name_of, shown
from agentrl.errors import ToolError, unknown
from agentrl.message import Action
from agentrl.task import Split, Task
from agentrl.toolkit import ToolSpec

SOLVED = 0.9
MOST_TURNS = 100


def cases(bench: Bench) -> list[Task]:
    """Give tasks of every level and split."""
    per_place = max(4, bench.seeds // 2)
    places: list[tuple[int, Split]] = [
        (level, split) for level in bench.levels for split in bench.spec.splits
    ]
    return [bench.task(i, split=s, level=n) for i in range(per_place) for n, s in places[:12]]


async def expert_solves(bench: Bench) -> str:
    """The expert, seeing observations only, solves tasks of every split and level."""
    if not bench.has_expert:
        raise NotApplicable("it has no expert(observations)")
    blind, tasks, wrong = ExpertProcess(bench), cases(bench), list[tuple[Task, str]]()
    longest, places, end = 0, len(bench.levels) * len(bench.spec.splits), Budget(3.0)
    async with bench.open() as table:
        for number, task in enumerate(tasks):
            if number >= places and end.spent:
                tasks = tasks[:number]
                break
            correct, story, turns = await _attempt(bench, table, task, blind.ask)
            longest = max(longest, turns)
            if not correct:
                wrong.append((task, story))
        if len(wrong) > (1 - SOLVED) * len(tasks):
            task, story = wrong[0]
            share = f"{len(tasks) - len(wrong)} of {len(tasks)} tasks"
            why = await _why(bench, table, task)
            raise Faulty(f"expert() solves {share}; {name_of(task)}: {story}; {why}")
    return f"the expert solves {len(tasks) - len(wrong)} of {len(tasks)} tasks in at most {longest} actions"


async def _attempt(bench: Bench, table: Table, task: Task, ask: Ask) -> tuple[bool, str, int]:
    game = table.new()
    await game.start(task)
    while not game.done and len(game.turns) < MOST_TURNS:
        action = await ask(game.texts)
        _must_fit(game.env.tools, action)
        await game.act(action)
    action, last = game.turns[-1]
    await game.close()
    return (
        bool(last.correct),
        f"after {shown(action)} correct={last.correct}, reward {last.reward:g}{_cut_off(game)}",
        len(game.turns),
    )


def _cut_off(game: Game) -> str:
    """Say when it was the limit on actions that ended an episode."""
    if not game.turns[-1][1].truncated:
        return ""
    return f", cut off after {len(game.turns)} actions: raise max_turns if the task needs more"


def _must_fit(tools: Sequence[ToolSpec], action: Action) -> None:
    """See that an expert acts within what the model is told of the tools."""
    if action.malformed:
        raise Faulty(f"expert() gives a malformed action {action.malformed}: use call(name, …) or answer(…)")
    known = {spec.name: spec for spec in tools}
    for one in action.calls:
        try:
            if one.name not in known:
                raise ToolError(unknown("tool", one.name, known))
            known[one.name].bind(one.arguments)
        except ToolError as error:
            raise Faulty(
                f"expert() gives {shown(action)}, which no model could: {error}; mark the method with @tool, "
                "or let the expert call what its schema allows"
            ) from error


async def _why(bench: Bench, table: Table, task: Task) -> str:
    """See whether it succeeds when asked on the instance that plays, which means that it peeks."""
    game = table.new()
    ask = expert_actor(bench)
    try:
        await game.start(task)
        while not game.done and len(game.turns) < MOST_TURNS:
            given = game.raw.expert(list(game.texts))
            await game.act(given if isinstance(given, Action) else Action(text=str(given)))
        if game.turns[-1][1].correct:
            return "asked on the playing instance it solves it: it peeks; read only the observations"
        correct, _, _ = await _attempt(bench, table, task, ask)
        if correct:
            return "it solves it when asked in the same process: it peeks at class or module state"
    except Exception as error:
        return f"on the playing instance it raised {type(error).__name__}: {error}"
    return "mend the expert, or the task that cannot be solved"


async def answer_in_prompt(bench: Bench) -> str:
    """The answer does not simply stand in the task's text where tools exist to find it."""
    if not bench.has_expert:
        raise NotApplicable("without an expert the answers are not known")
    rules = {"the last number or word": -1, "the first number or word": 0}
    hits, tasks = dict.fromkeys(rules, 0), [bench.task(i) for i in range(max(12, bench.seeds))]
    end = Budget(1.5)
    answers, numbers = set[str](), dict.fromkeys(("first", "last"), 0)
    async with bench.open() as table:
        for number, task in enumerate(tasks):
            if number >= 6 and end.spent:
                tasks = tasks[:number]
                break
            game = table.new()
            text = (await game.start(task)).text
            ask, last = expert_actor(bench), ""
            while not game.done and len(game.turns) < MOST_TURNS:
                action = await ask(game.texts)
                last = action.text if action.is_answer else ""
                await game.act(action)
            answers.add(last)
            words, digits = WORD.findall(text), [w for w in WORD.findall(text) if w.lstrip("-").isdigit()]
            hits = {r: n + bool(words and words[rules[r]] == last.strip()) for r, n in hits.items()}
            numbers["first"] += bool(digits and digits[0] == last.strip())
            numbers["last"] += bool(digits and digits[-1] == last.strip())
            tools = bool(game.env.tools)
            await game.close()
    found = [r for r, n in hits.items() if n == len(tasks)]
    found += [f"the {k} number" for k, n in numbers.items() if n == len(tasks)]
    return _verdict(found, answers, len(tasks), tools)


def _verdict(found: list[str], answers: set[str], count: int, tools: bool) -> str:
    if found and tools and len(answers) > 1:
        raise Faulty(
            f"in {count} of {count} tasks the answer is {found[0]} of the task's text: let a tool reveal it"
        )
    if found:
        return f"warning: in {count} of {count} tasks the answer is {found[0]} of the task's text"
    if len(answers) == 1 and answers != {""}:
        return f"warning: the answer was {answers.pop()!r} in all of {count} tasks"
    return f"the answer has no fixed place in the texts of {count} tasks"
