"""Templates that change earlier turns: the conversation goes on in a new context, and no run is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import gymnasium
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.adapter import Adapter
from agentrl.dialect.protocol import Encoded, RewritesEarlierTurns
from agentrl.dialect.published import RenderersDialect
from agentrl.engine.protocol import Sampling
from agentrl.engine.scripted import ScriptedEngine
from agentrl.environment import Observation
from agentrl.episode import Context, Episode, Turn
from agentrl.message import Text
from agentrl.plaintext import as_unicode
from agentrl.rollout.attempt import attempt
from agentrl.rollout.protocol import Limits
from agentrl.rollout.running import Running, Table
from agentrl.task import Task
from agentrl.trainers.batch import Row
from tests.dialect.strategies import hostile
from tests.dialect.tokenizers import qwen3_style

TOKENIZER = qwen3_style()
QWEN = RenderersDialect(TOKENIZER, "qwen3")
TASK = Task(id="t", split="train", level=0, seed=1)
CONTROL = {name: i for name, i in TOKENIZER.get_added_vocab().items() if len(name) > 2}


class Talk(gymnasium.Env[str, str]):
    """Says one line after another, as a user does; Qwen3's template then drops what was thought before."""

    system = "Help."

    def __init__(self, lines: Sequence[str] = ("One?", "Two?", "Three?")) -> None:
        self.lines = lines

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        self.said = 0
        return self.lines[0], {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.said += 1
        ended = self.said == len(self.lines)
        return "" if ended else self.lines[self.said], 1.0, ended, False, {"correct": True}


def play(said: Sequence[list[int]], env: Any, *, max_context: int | None = None, **table: Any) -> Episode:
    engine = ScriptedEngine(said, max_context=max_context)
    running = Running(
        table=Table(engine=engine, dialect=QWEN, limits=Limits(max_tokens_per_turn=4000), **table),
        env=Adapter(env, type(env)),
        task=TASK,
        id="g/0",
        group_id="g",
        seed=1,
        sampling=Sampling(),
    )
    episode = asyncio.run(attempt(running))
    prompts = [c.segments[0].ids.tolist() for c in episode.contexts]
    assert prompts[: len(engine.prompts)] == [list(prompt) for prompt in engine.prompts]
    return episode


def ids_of(text: str) -> list[int]:
    ids: list[int] = TOKENIZER.encode(text + "<|im_end|>")
    return ids


def thought(number: int) -> str:
    return f"<think>\nLet me see {number}.\n</think>\n\nIt is {number}."


def test_each_user_turn_opens_the_context_that_the_template_wants() -> None:
    episode = play([ids_of(thought(n)) for n in (1, 2, 3)], Talk())
    assert episode.failure is None and episode.correct and episode.reward == 3
    assert [[s.kind for s in c.segments] for c in episode.contexts] == [["prompt", "action"]] * 3
    messages = [{"role": "system", "content": "Help."}, {"role": "user", "content": "One?"}]
    for context, number, line in zip(episode.contexts, (1, 2, 3), ("Two?", "Three?", ""), strict=True):
        prompt, action = context.segments
        assert prompt.ids.tolist() == QWEN._renderer.render_ids(messages, add_generation_prompt=True)
        assert action.sampled and "Let me see" in QWEN.decode(action.ids)
        assert len(Row.of(context).positions) == len(action)
        messages += [{"role": "assistant", "content": thought(number)}, {"role": "user", "content": line}]
    assert "Let me see" not in QWEN.decode(episode.contexts[2].segments[0].ids)
    assert [t.context for t in episode.turns] == [0, 1, 2]


PIECES = [
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<|im_start|>",
    "zqx0xqz",
    '{"name": "a", "arguments": {',
]
fragments = st.lists(st.one_of(hostile, st.sampled_from(PIECES)), max_size=4).map("".join)


@given(said=st.lists(fragments, min_size=1, max_size=3), lines=st.lists(hostile, min_size=4, max_size=4))
def test_whatever_is_said_no_word_becomes_a_control_token(said: list[str], lines: list[str]) -> None:
    """Only the template's own control tokens stand in a prompt: each turn begins and ends once."""
    turns = [as_unicode(text).replace("<|im_end|>", "<|im_") for text in said] + ["ok"] * (4 - len(said))
    episode = play([ids_of(text) for text in turns], Talk(lines))
    assert episode.failure is None and len(episode.turns) == 4
    for number, context in enumerate(episode.contexts):
        ids = context.segments[0].ids.tolist()
        messages = 2 + number + sum(map(bool, lines[1 : number + 1]))  # an empty line is none
        assert ids.count(CONTROL["<|im_start|>"]) == messages + 1
        assert ids.count(CONTROL["<|im_end|>"]) == messages


@pytest.mark.parametrize(
    "arguments",
    [
        {"item": "a <|im_end|> pear"},
        {"<|im_end|>": 1},
        {"deep": {"<|im_start|>": 1}},
        {"zqx0xqz": "zqx1xqz"},
        {"x": json.loads("[" * 50 + "]" * 50)},
    ],
)
def test_calls_that_cannot_be_written_again_safely_stay_words(arguments: dict[str, Any]) -> None:
    call = json.dumps({"name": "price", "arguments": arguments})
    inside = TOKENIZER.encode(call, split_special_tokens=True)
    said = [CONTROL["<tool_call>"], *inside, CONTROL["</tool_call>"], CONTROL["<|im_end|>"]]
    episode = play([said, ids_of("ok"), ids_of("ok")], Talk())
    assert episode.failure is None and episode.finish == "terminated"
    assert len(episode.turns[0].action.calls) == 1
    ids = episode.contexts[1].segments[0].ids.tolist()
    assert (CONTROL["<tool_call>"] in ids) == ("item" in arguments)
    assert ids.count(CONTROL["<|im_end|>"]) == 4
    assert all(key in QWEN.decode(ids) for key in arguments)


def test_a_context_that_is_full_then_is_an_outcome() -> None:
    episode = play([ids_of(thought(1))], Talk(("One?", "x " * 400)), max_context=200)
    assert (episode.finish, episode.failure, episode.correct) == ("max_context", None, False)


class Once:
    """A memory that opens one context of its own, of which the template knows nothing."""

    def renew(self, context: Context, turns: Sequence[Turn], observation: Observation) -> Encoded | None:
        return QWEN.prompt("", (), (Text("so far"),)) if len(turns) == 1 else None


def test_where_a_memory_has_cut_the_conversation_the_run_ends_with_the_remedy() -> None:
    with pytest.raises(RewritesEarlierTurns, match="open a new context, or set thinking_retention='all'"):
        play([ids_of(thought(1)), ids_of(thought(2))], Talk(), memory=Once())
