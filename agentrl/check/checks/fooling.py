"""A judge accepts the right answer alone: no constant, no part of it, and never by running it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import ClassVar

from agentrl.check.actions import TAG, WORD
from agentrl.check.bench import Bench, Game, Table
from agentrl.check.budget import Budget
from agentrl.check.checks.insiders import USUAL, insiders
from agentrl.check.experts import expert_game
from agentrl.check.report import Faulty, Hung, NotApplicable
from agentrl.check.wording import shown
from agentrl.errors import InfrastructureError
from agentrl.message import Action, call
from agentrl.task import Task
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import ToolSpec

SECONDS = 2.5
"""Time for each way of fooling a judge; slow environments are tried with fewer answers."""
MANY = 32
"""Tasks on which a constant answer is tried."""
FEW = 20
"""With fewer tasks a majority is chance: 20 of 24 has a chance of 1 in 1000 where yes and no are equal."""
MAJORITY = 0.8
PAID = 0.9
"""A reward near that of a solution, which is 1."""
EMPTY = (" ", "\n", "None", "null", "nan", "inf", "-inf", "1e999", "-1e999")
COMPARE = "compare the whole answer: ==, not `in`, startswith or a search"
FINITE = "it is no finite number: refuse it with math.isfinite before comparing, or write `<= tolerance`"


async def judge_not_fooled(bench: Bench) -> str:
    """No answer that says everything or nothing, or only a part of the truth, is judged correct."""
    async with bench.open() as table:
        tried = await _nothing_and_everything(bench, table)
        parts = await _parts(bench, table)
    return f"{tried} answers that say everything or nothing are wrong" + parts


async def _nothing_and_everything(bench: Bench, table: Table) -> int:
    fooled, paid = Counter[str](), Counter[str]()
    tasks, end = list(bench.positions(4)), Budget(SECONDS)
    firsts = [await table.new().start(bench.task(p)) for p in tasks]
    kinds = catch_alls(firsts[0].text)
    for tried, what in enumerate(kinds):
        if tried >= 3 and end.spent:
            return tried
        for position, first in zip(tasks, firsts, strict=True):
            answer = catch_alls(first.text)[what]
            correct, reward = await _best_verdict(table, bench.task(position), first.text, answer)
            fooled[what] += correct
            paid[what] += reward >= PAID
            if not correct and reward < PAID:
                break
        if paid[what] == len(tasks) != fooled[what]:
            raise Faulty(
                f"{what} earned a reward of {PAID:g} or more in {len(tasks)} of {len(tasks)} tasks without "
                "being correct: training follows the reward, so pay clearly less for what solves nothing"
            )
        if fooled[what] == len(tasks):
            number = kinds[what].strip().lstrip("-") in {"nan", "inf", "1e999"}
            count = f"{len(tasks)} of {len(tasks)} tasks"
            raise Faulty(f"{what} was judged correct in {count}; {FINITE if number else COMPARE}")
    return len(kinds)


async def _best_verdict(table: Table, task: Task, text: str, answer: str) -> tuple[bool, float]:
    """Whether an answer was correct in some form, and the most that it earned."""
    correct, reward = False, 0.0
    for action in wrapped(text, answer):
        game = await table.new().repeat(task, [action])
        await game.close()
        correct |= bool(game.turns[-1][1].correct)
        reward = max(reward, game.turns[-1][1].reward)
    return correct, reward


def wrapped(text: str, answer: str) -> list[Action]:
    """Give an answer as it is, and in the tags that the task shows."""
    tags = TAG.findall(text)[:1]
    return [Action(text=answer), *(Action(text=f"<{t}>{answer}</{t}>") for t in tags)]


def catch_alls(text: str) -> dict[str, str]:
    """Give answers that hold all answers, or none."""
    words = " ".join(dict.fromkeys(WORD.findall(text)))
    return {
        "an empty answer": "",
        "an answer that lists every number up to 5000": " ".join(map(str, range(5001))),
        "an answer that lists every word of the task": f"{words} yes no true false",
    } | {f"the answer {value!r}": value for value in EMPTY}


async def _parts(bench: Bench, table: Table) -> str:
    """Vary right answers: what lacks a part, or has one too many, is wrong."""
    accepted, seen, examples = Counter[str](), 0, dict[str, str]()
    end = Budget(SECONDS)
    for position in bench.positions(6, SECONDS):
        game = await right_episode(bench, table, position, end)
        if game is None or end.spent:
            continue
        *before, last = game.actions
        tag, inner = unwrapped(last.text)
        if len(inner.split()) > 1:
            continue  # of a sentence there may be several right ones, also without its end
        if await _judged(table, game, [*before, _again(tag, "zqx")]):
            continue  # the words of the answer do not matter: something else is judged
        seen += 1
        for what, text in variations(inner).items():
            if await _judged(table, game, [*before, _again(tag, text)]):
                accepted[what] += 1
                examples.setdefault(what, f"{text!r} for {inner!r}")
    for what, count in accepted.items():
        if count >= 2 and 2 * count >= seen:
            raise Faulty(f"{what} is judged correct too, in {count} tasks ({examples[what]}); {COMPARE}")
    return f", and so are parts of {seen} right answers" if seen else ""


async def right_episode(bench: Bench, table: Table, position: int, end: Budget) -> Game | None:
    """Play a task so that it ends with a right answer in words: with the expert, or out of the state."""
    if not bench.has_expert:
        async for game in insiders(bench, table, position=position):
            action, result = game.turns[-1]
            if result.correct and action.is_answer:
                return game
            if end.spent:
                return None
        return None
    played = await expert_game(bench, table, bench.task(position))
    assert played is not None
    action, result = played.turns[-1]
    return played if result.correct and action.is_answer else None


async def _judged(table: Table, like: Game, actions: Sequence[Action]) -> bool:
    assert like.task is not None
    game = await table.new().repeat(like.task, actions)
    await game.close()
    return bool(game.turns[-1][1].correct) and len(game.turns) == len(actions)


def unwrapped(text: str) -> tuple[str, str]:
    """Take an answer out of its tags.

    >>> unwrapped("<guess>12</guess>"), unwrapped("12")
    (('guess', '12'), ('', '12'))
    """
    found = re.fullmatch(r"\s*<(\w+)>(.*)</\1>\s*", text, re.DOTALL)
    return (found[1], found[2].strip()) if found else ("", text.strip())


def _again(tag: str, text: str) -> Action:
    return Action(text=f"<{tag}>{text}</{tag}>" if tag else text)


def variations(answer: str) -> dict[str, str]:
    """Give wrong answers near a right one; what only differs in its writing is left out.

    >>> list(variations("pear").values())
    ['p', 'pea', 'ear', 'r', 'pearzqx', 'zqxpear', '']
    >>> variations("7")
    {'the answer with more behind it': '79137', 'the answer with more before it': '91377'}
    """
    junk = "9137" if re.fullmatch(r"-?\d+(\.\d+)?", answer) else "zqx"
    parts = {
        "the beginning of an answer": answer[:1],
        "an answer without its end": answer[:-1],
        "an answer without its beginning": answer[1:],
        "the end of an answer": answer[-1:],
        "the answer with more behind it": answer + junk,
        "the answer with more before it": junk + answer,
        "no answer": "" if len(answer) > 1 else answer,
    }
    return {what: text for what, text in parts.items() if not alike(text, answer)}


def alike(one: str, two: str) -> bool:
    """Whether two answers are the same but for writing: case, marks, spaces, and how a number is written."""
    plain = [re.sub(r"[\W_]", "", t.casefold()) for t in (one, two)]
    if plain[0] == plain[1]:
        return plain[0] != "" or one == two
    try:
        return math.isclose(float(one), float(two), rel_tol=0.05, abs_tol=1e-6)
    except ValueError:
        return one.strip() == "" and len(two) < 2


async def constant_answer(bench: Bench) -> str:
    """No answer or action solves most of the tasks without reading them."""
    rights, end = Counter[str](), Budget(1.5)
    kept, tasks = dict[str, Action](), [bench.task(i) for i in range(MANY)]
    async with bench.open() as table:
        for position in range(MANY):
            action = None if end.spent else await _last_right(bench, table, position, end)
            if action is not None:
                rights[shown(action)] += 1
                kept[shown(action)] = action
        if not rights:
            raise NotApplicable("no right answer is known: write an expert(observations)")
        name = max(rights, key=lambda n: rights[n])
        hits, seen, end = 0, 0, Budget(1.5)
        for task in tasks:
            if end.spent or (seen >= 8 and hits < seen / 2):
                break
            game = await table.new().repeat(task, [kept[name]])
            hits, seen = hits + bool(game.turns[-1][1].correct), seen + 1
            await game.close()
    if seen >= FEW and hits >= MAJORITY * seen:
        mend = "draw tasks whose answers differ, each about equally often"
        raise Faulty(f"{name} alone solves {hits} of {seen} tasks, whatever they ask; {mend}")
    return f"the most frequent right end, {name}, alone solves {hits} of {seen} tasks"


async def _last_right(bench: Bench, table: Table, position: int, end: Budget) -> Action | None:
    played = await expert_game(bench, table, bench.task(position))
    if played is not None:
        return played.actions[-1] if played.turns[-1][1].correct else None
    async for game in insiders(bench, table, position=position):
        if game.turns[-1][1].correct:
            return game.actions[-1]
        if end.spent:
            return None
    return None


class Marker:
    """What an expression finds if the environment evaluates it in this process."""

    reached: ClassVar[bool] = False

    @classmethod
    def agentrl_mark(cls) -> int:
        """Note that it was found."""
        Marker.reached = True
        return 0


EXPRESSION = (
    "[c for c in ().__class__.__base__.__subclasses__() if 'agentrl_mark' in c.__dict__][0].agentrl_mark()"
)
"""Harmless: it calls `Marker.agentrl_mark`, and needs no builtins, so it shows what an attacker could do."""


async def text_as_code(bench: Bench) -> str:
    """What the model writes is never evaluated as code in the environment's own process."""
    tried, end = 0, Budget(SECONDS)
    async with bench.open() as table:
        first = await table.new().start(bench.task(0))
        tools = table.games[0].env.tools
        judge = "reward()" if isinstance(table.games[0].raw, ToolEnv) else "step()"
        actions = [(judge, action) for action in answers(first.text)]
        actions += [(f"tool {spec.name!r}", action) for spec in tools for action in code_calls(spec)]
        for who, action in actions:
            if tried >= 4 and end.spent:
                break
            await _refuse_evaluation(bench, table, who, action)
            tried += 1
    return f"{tried} texts that are code were not evaluated"


def code_calls(spec: ToolSpec) -> Iterator[Action]:
    """Give calls of a tool with code for each text."""
    usual = {p.name: (p.choices or USUAL[p.type])[0] for p in spec.parameters}
    for parameter in spec.parameters:
        if parameter.type is str and not parameter.choices:
            yield call(spec.name, **usual | {parameter.name: EXPRESSION})


def answers(text: str) -> Iterator[Action]:
    """Give answers that are code."""
    yield from wrapped(text, EXPRESSION)
    yield from wrapped(text, f"```python\n{EXPRESSION}\n```")


async def _refuse_evaluation(bench: Bench, table: Table, who: str, action: Action) -> None:
    Marker.reached = False
    game = table.new()
    await game.start(bench.task(0))
    try:
        await game.act(action)
    except Hung:
        raise
    except InfrastructureError:
        pass  # another check judges what it raises
    if Marker.reached:
        raise Faulty(
            f"{who} evaluates the model's text as code, in this process: parse it instead (int, float, "
            "json.loads, ast.literal_eval), or run it in a sandbox"
        )
    await game.close()
