"""What the model reads: clean text that only grows at its end."""

from __future__ import annotations

import copy
import os
import re
import sys
import sysconfig
from collections.abc import AsyncIterator
from typing import Any

from agentrl.check import shift
from agentrl.check.bench import Bench, Game, Table
from agentrl.check.experts import expert_game
from agentrl.check.report import Faulty
from agentrl.check.wording import name_of, own_source, shown
from agentrl.message import ToolResult
from agentrl.toolenv import ToolEnv

MOST_CHARACTERS = 1_000_000
CONTROL = re.compile(
    r"<\|[\w .:-]{1,40}\|>"  # Qwen, Llama 3, Phi, gpt-oss
    r"|<｜[^｜]{1,40}｜>"  # DeepSeek
    r"|\[/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|SYSTEM_PROMPT)\]|<</?SYS>>"  # Mistral, Llama 2
    r"|</?(?:tool_call|tool_calls|tool_response|tools|think|function_call|start_of_turn|end_of_turn)>"
    r"|<(?:function|parameter)=[\w.-]{1,64}>|</(?:function|parameter)>"  # Qwen3-Coder
    r"|<(?:bos|eos|pad|unk|mask)>|</?s>|<image>|<(?:start_of_image|image_soft_token)>"
)
ANSWER_TAGS = re.compile(r"</?(?:answer|search|result|python|information)>")
ADDRESS = re.compile(r"<[^<>]{1,200} at 0x[0-9a-fA-F]{6,}>")


async def played(bench: Bench, table: Table) -> AsyncIterator[tuple[Game, int, str]]:
    """Give every text of some episodes, with its place: -1 is the system text and the tools, 0 the task."""
    for position in bench.positions(6):
        game = await table.play(position, variant=position)
        if position == 0:
            yield game, -1, game.env.system
            for spec in game.env.tools:
                yield game, -1, f"{spec.name}: {spec.description}"
        for turn, text in enumerate(game.texts):
            yield game, turn, text
    for position in bench.positions(2, 0.3):
        solved = await expert_game(bench, table, bench.task(position))
        if solved is not None:
            for turn, text in enumerate(solved.texts):
                yield solved, turn, text


def place(game: Game, turn: int) -> str:
    """Name a place in an episode."""
    assert game.task is not None
    if turn < 0:
        return "the system text or a tool's docstring"
    return f"{name_of(game.task)}, " + (
        f"after {shown(game.turns[turn - 1][0])}" if turn else "the task's text"
    )


async def observation_text(bench: Bench) -> str:
    """Observations are text that can be stored and encoded, and of a sensible size."""
    longest, said = 0, dict[str, list[str]]()
    async with bench.open() as table:
        async for game, turn, text in played(bench, table):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                found = f"a lone surrogate {text[error.start]!r}"
                raise Faulty(f"{place(game, turn)}: {found}; decode with errors='replace'") from error
            if "\x00" in text:
                raise Faulty(f"{place(game, turn)}: a NUL character; remove it")
            if len(text) > MOST_CHARACTERS:
                raise Faulty(f"{place(game, turn)}: {len(text)} characters; cut it to what a model can read")
            longest = max(longest, len(text))
            if turn == len(game.turns):
                _note_results(game, said)
    for name, texts in said.items():
        if len(texts) >= 2 and set(texts) == {"None"}:
            raise Faulty(
                f"tool {name!r} returned None in all of {len(texts)} calls: return what the model reads"
            )
    return f"the longest text has {longest} characters"


def _note_results(game: Game, said: dict[str, list[str]]) -> None:
    for _, result in game.turns:
        for part in result.observation.parts:
            if isinstance(part, ToolResult) and not part.error:
                said.setdefault(part.name, []).append(part.text)


async def control_tokens(bench: Bench) -> str:
    """No text looks like a control token of a known model family or like the framework's own tags."""
    async with bench.open() as table:
        async for game, turn, text in played(bench, table):
            found = CONTROL.search(text)
            mark = found.group() if found else lone_tag(text, turn)
            if mark and not any(mark in a.text or mark in repr(a.calls) for a in game.actions):
                mend = "leave it out: the dialect of the model writes such marks, an environment never does"
                raise Faulty(f"{place(game, turn)}: contains the control token {mark!r}; {mend}")
    return "no control tokens in what the model reads"


def lone_tag(text: str, turn: int) -> str:
    """Find a tag of the tag dialects outside of an instruction that shows both ends.

    >>> lone_tag("Reply <answer>n</answer>.", 0), lone_tag("12</answer>", 1)
    ('', '</answer>')
    """
    tags = ANSWER_TAGS.findall(text)
    opened = {t for t in tags if "/" not in t}
    pairs = turn <= 0 and all(t.replace("/", "") in opened for t in tags)
    return "" if pairs or not tags else str(tags[-1])


async def host_details(bench: Bench) -> str:
    """No text names files, user or name of the host, or addresses of objects."""
    here, home = os.getcwd(), _marked_home(bench.folder)
    shift.apply(["host"])
    async with bench.open() as table:
        raw = table.new().raw
        prefix = sys.prefix if sys.prefix != sys.base_prefix else sysconfig.get_path("purelib")
        folders = [*([here] if here.count("/") > 1 else []), home, bench.folder]
        hidden = dict.fromkeys([*own_source(raw), prefix, *folders], "path")
        hidden |= {shift.HOST: "name", shift.USER: "user"}
        async for game, turn, text in played(bench, table):
            address = ADDRESS.search(text)
            if address:
                mend = "give its class a __str__, or return text"
                raise Faulty(f"{place(game, turn)}: shows the object {address.group()[:80]!r}; {mend}")
            for value in (h for h in hidden if h in text):
                what = f"shows the host's {hidden[value]} {value!r}"
                raise Faulty(f"{place(game, turn)}: {what}; tell the model what to do instead")
    return "no host paths, names or object addresses in what the model reads"


def _marked_home(folder: str) -> str:
    """Give the user's home folder another name, under which everything is still found."""
    marked = os.path.join(folder, "home-of-agentrl-check")
    os.symlink(os.path.expanduser("~"), marked)
    os.environ["HOME"] = marked
    return marked


async def prefix_preservation(bench: Bench) -> str:
    """What was shown stays as it was, observations do not repeat it, and the tools stay the same."""
    async with bench.open() as table:
        await _keeps_objects(bench, table)
        for position in bench.positions(4):
            game = table.new()
            before = _prompt(game)
            await game.start(bench.task(position))
            started = _prompt(game)
            await game.go_on(game.actor(position))
            if not before == started == _prompt(game):
                raise Faulty(
                    f"{name_of(bench.task(position))}: the system text or the tools changed; keep them fixed"
                )
            _no_transcript(game)
            await game.close()
    return "what was shown stays, and each observation is new text"


def _prompt(game: Game) -> tuple[Any, ...]:
    tools = game.raw.tools if isinstance(game.raw, ToolEnv) else game.env.tools
    return game.env.system, [s.schema() for s in tools]


def _no_transcript(game: Game) -> None:
    """Refuse observations that carry all earlier ones."""
    assert game.task is not None
    texts = [t.strip() for t in game.texts]
    shown_so_far = texts[0]
    repeats = 0
    for text in texts[1:]:
        grown = len(shown_so_far) >= 8 and len(text) > len(shown_so_far) and text.startswith(shown_so_far)
        repeats = repeats + 1 if grown else 0
        shown_so_far = text
        if repeats == 2 or (repeats == 1 and len(texts) == 2):
            raise Faulty(
                f"{name_of(game.task)}: each observation repeats all earlier ones and adds to them "
                f"({text[:60]!r}…); return only what is new"
            )


async def _keeps_objects(bench: Bench, table: Table) -> None:
    """See that an object which `reset` or `step` returned is not changed by later steps."""
    game = table.new()
    if isinstance(game.raw, ToolEnv):
        return
    first = await game.reset_raw(bench.task(0))
    kept, actor = [(first, copy.deepcopy(first))], game.actor()
    for turn in range(6):
        action = actor.next([str(first[0])])
        given = await game.step_raw(action)
        for earlier, (now, then) in enumerate(kept):
            if repr(now[0]) != repr(then[0]) or repr(now[-1]) != repr(then[-1]):
                raise Faulty(
                    f"step {turn + 1} changed what step {earlier} had returned: "
                    f"{then[0]!r:.80} became {now[0]!r:.80}; return a copy"
                )
        if given[2] or given[3]:
            return
        kept.append((given, copy.deepcopy(given)))
