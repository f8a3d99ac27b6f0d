"""The answer must be found: what makes no sense must not bring it to light."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from agentrl.check.bench import Bench, Table
from agentrl.check.checks.answers import LEAST, Right, right_answers
from agentrl.check.report import Faulty, NotApplicable
from agentrl.errors import InfrastructureError
from agentrl.message import Action, call

JUNK: dict[type, Any] = {str: "zqx", int: 918273, float: 918273.25}
"""Arguments that no task means."""


async def given_away(bench: Bench) -> str:
    """Senseless actions do not bring the answer to light."""
    async with bench.open() as table:
        rights = await right_answers(bench, table)
        values = {r.value for r in rights}
        if len(values) < LEAST:
            raise NotApplicable("fewer than three different right answers of one word are known")
        shown_by, asked = defaultdict[str, list[str]](list), 0
        for right in rights:
            if _stands(right.value, right.game.first.text):
                continue
            asked += 1
            for what, text in (await _senseless(table, right)).items():
                others = [v for v in values - {right.value} if _stands(v, text)]
                if _stands(right.value, text) and 2 * len(others) < len(values):
                    shown_by[what].append(f"{right.value!r} in {_around(right.value, text)!r}")
    for what, examples in shown_by.items():
        if len(examples) >= LEAST and 5 * len(examples) >= 4 * asked:
            mend = "show only what an action brings to light"
            raise Faulty(
                f"{what} is answered with the right answer in {len(examples)} of {asked} tasks "
                f"({examples[0]}); {mend}"
            )
    return f"senseless actions reveal none of {asked} answers"


def _stands(value: str, text: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(value)}(?!\w)", text) is not None


def _around(value: str, text: str) -> str:
    place = text.index(value)
    return text[max(0, place - 30) : place + 30]


async def _senseless(table: Table, right: Right) -> dict[str, str]:
    """Do what cannot help, three times over; give what came of it while the episode went on."""
    assert right.game.task is not None
    found = {}
    for what, action in senseless(right).items():
        try:
            game = await table.new().repeat(right.game.task, [action] * 3)
        except InfrastructureError:
            continue  # another check judges what it raises
        await game.close()
        found[what] = "\n".join(r.observation.text for _, r in game.turns if not r.done)
    return found


def senseless(right: Right) -> dict[str, Action]:
    """Give actions that no task asks for."""
    tools = right.game.env.tools
    if not tools:
        return {"an answer without sense": Right(game=right.game, value="zqx", tag=right.tag).ending("zqx")}
    found = {"a broken call": Action(malformed=("no call",)), "a call of an unknown tool": call("zqx")}
    for spec in tools:
        required = [p for p in spec.parameters if p.required]
        if required and all(p.type in JUNK and not p.choices for p in required):
            junk = {p.name: JUNK[p.type] for p in required}
            found[f"{spec.name}({', '.join(map(repr, junk.values()))})"] = call(spec.name, **junk)
    return found
