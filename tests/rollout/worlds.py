"""Real episodes, watched from inside the model: what it is fed, and which of its draws were steered.

A random model never writes a call. So the logit of the token that a script asks for is raised, by the least
that lets the request's own random number fall on it. The engine draws it through its sampler, and its
log-probability still depends on everything that the model has seen; the bias is kept for the comparison.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from agentrl.dialect.hermes import HermesDialect
from agentrl.dialect.llama3 import Llama3Dialect
from agentrl.dialect.protocol import Dialect
from agentrl.dialect.published import RenderersDialect
from agentrl.dialect.tags import TagDialect
from agentrl.dialect.tiny import TinyDialect
from agentrl.engine.protocol import Chunk, Sampling
from agentrl.engine.sampling import signed64, uniform
from agentrl.engine.torch_engine import TorchEngine
from agentrl.episode import Ids
from agentrl.errors import ConfigError, ToolError
from agentrl.message import Action, Call, Text
from agentrl.plaintext import plain_text_of
from agentrl.toolenv import ToolEnv, tools_of
from agentrl.toolkit import tool
from tests.dialect.strategies import arguments, hostile, words
from tests.dialect.tokenizers import llama_style, qwen3_style, qwen_style, sentencepiece_style, tiny_style

CONTEXT = 4096
UNKNOWN_IDS = 5
"""Ids of the model that no token has, as in most published models."""


class World(ToolEnv):
    """Shows and tells what it was given; its tools answer, repeat, refuse and end the episode."""

    def __init__(self, system: str = "", shown: Sequence[str] = ("x",), told: Sequence[str] = ("y",)) -> None:
        vars(self)["system"] = system
        self.shown, self.told, self.used = shown, told, 0

    def task(self, rng: np.random.Generator) -> Any:
        return [Text(text) for text in self.shown]

    def reward(self, answer: str) -> float:
        return 0.5

    def say(self) -> str:
        self.used += 1
        return self.told[self.used % len(self.told)]

    @tool
    def look(self) -> str:
        """Look around."""
        return self.say()

    @tool
    def repeat(self, words: str) -> str:
        """Say it again."""
        return words + self.say()

    @tool
    def order(self, notes: list[Any], item: str, count: int = 1) -> str:
        """Order something."""
        return f"{count} {item} {notes}{self.say()}"

    @tool
    def refuse(self, why: str) -> str:
        """Fail."""
        raise ToolError(why + self.say())

    @tool
    def stop(self, value: float) -> str:
        """End it."""
        self.end(0.25)
        return self.say()


TOOLS = tools_of(World())
NAMES = tuple(t.name for t in TOOLS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """A dialect over a tokenizer, and a model of the tokenizer's size."""

    tokenizer: PreTrainedTokenizerFast
    dialect: Dialect
    bos: int | None = None
    """The id that opens every context, once."""

    @property
    def controls(self) -> frozenset[int]:
        """Ids that no word from outside may become."""
        return plain_text_of(self.tokenizer).forbidden

    def model(self) -> Any:
        return model_of(len(self.tokenizer) + UNKNOWN_IDS)

    def exact_model(self) -> Any:
        """The same weights in float64: its log-probs are exact as far as float32 can tell."""
        return exact_model_of(len(self.tokenizer) + UNKNOWN_IDS)


def _opened(tokenizer: PreTrainedTokenizerFast, dialect: Dialect) -> Kit:
    return Kit(tokenizer=tokenizer, dialect=dialect, bos=tokenizer.bos_token_id)


KITS: dict[str, Callable[[], Kit]] = {
    "tiny": lambda: Kit(tokenizer=tiny_style(), dialect=TinyDialect(tiny_style(), describe_tools=True)),
    "hermes": lambda: Kit(tokenizer=qwen3_style(), dialect=HermesDialect(qwen3_style())),
    "hermes of qwen2": lambda: Kit(tokenizer=qwen_style(), dialect=HermesDialect(qwen_style())),
    "llama3": lambda: _opened(llama_style(), Llama3Dialect(llama_style())),
    "tags": lambda: _opened(llama_style(), TagDialect(llama_style(), tags=NAMES)),
    "tags bare": lambda: Kit(
        tokenizer=sentencepiece_style(), dialect=TagDialect(sentencepiece_style(), tags=NAMES)
    ),
    "published": lambda: Kit(tokenizer=qwen3_style(), dialect=RenderersDialect(qwen3_style(), "qwen3")),
}


@functools.cache
def kit(name: str) -> Kit:
    """Give the kit of a name, the same object every time."""
    return KITS[name]()


@functools.cache
def model_of(vocabulary: int) -> Any:
    """A model of one layer with opinions: wide weights, so that another prompt means other numbers."""
    torch.manual_seed(0)
    config, kind = ((Qwen2Config, Qwen2ForCausalLM), (LlamaConfig, LlamaForCausalLM))[vocabulary % 2]
    settings: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.1,  # one token long ago still moves a log-prob by 100 times 1e-5
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    make: Any = kind
    return make(config(**settings)).eval()


@functools.cache
def exact_model_of(vocabulary: int) -> Any:
    return copy.deepcopy(model_of(vocabulary)).double()


# ------------------------------------------------------------------ what the policy writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What the policy writes in one turn; behind it, it babbles until it stops."""

    action: Action = field(default_factory=Action)
    ids: tuple[int, ...] | None = None
    """Any ids, written instead of an action."""
    drop: tuple[int, int] = (0, 0)
    """Tokens of the action that are left out: (from, how many)."""
    shredded: bool = False
    """Written in more tokens than the tokenizer would take."""
    babble: int | None = 0
    """Random tokens behind an action that lost its end; None: to the limit."""

    def written(self, kit: Kit) -> list[int]:
        """Give the ids, without the babble."""
        size = len(kit.tokenizer) + UNKNOWN_IDS
        ids = rendered(kit, self.action) if self.ids is None else [i % size for i in self.ids]
        begin, count = self.drop
        del ids[begin : begin + count]
        return shred(kit.tokenizer, ids) if self.shredded else ids

    def after(self, kit: Kit, count: int) -> Move:
        """Give what is left of it behind `count` tokens."""
        ids = self.written(kit)
        left = None if self.babble is None else max(0, self.babble - max(0, count - len(ids)))
        return Move(ids=tuple(ids[count:]), babble=left)


def rendered(kit: Kit, action: Action) -> list[int]:
    """Write an action; what the dialect cannot write becomes one call, or words without an end."""
    for attempt in (action, Action(calls=action.calls[:1])):
        try:
            return [int(i) for i in kit.dialect.render(attempt, TOOLS)]
        except ConfigError:
            continue
    return plain_text_of(kit.tokenizer).encode(action.text)


def shred(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> list[int]:
    """Spell each token in single characters where the vocabulary has them: another tokenisation of a text."""
    added, vocabulary = tokenizer.get_added_vocab(), tokenizer.get_vocab()
    out: list[int] = []
    for i in ids:
        piece = str(tokenizer.convert_ids_to_tokens(i)) if i < len(tokenizer) else ""
        letters = [vocabulary.get(c) for c in piece] if piece not in added else []
        whole = [c for c in letters if c is not None]
        out += whole if whole and len(whole) == len(letters) else [i]
    return out


@st.composite
def calls(draw: st.DrawFn, least: int, most: int) -> tuple[Call, ...]:
    specs = draw(st.lists(st.sampled_from(TOOLS), min_size=least, max_size=most))
    return tuple(Call(id=str(n), name=s.name, arguments=draw(arguments(s))) for n, s in enumerate(specs))


actions = st.one_of(
    st.builds(Action, calls=calls(2, 3)),
    st.builds(Action, calls=calls(1, 1)),
    st.builds(Action, text=words, calls=calls(1, 2)),
    st.builds(Action, text=words),
)
babble = st.sampled_from([0, 0, 3, None])
moves = st.one_of(
    st.builds(Move, action=actions, shredded=st.booleans()),
    st.builds(Move, action=actions),
    st.builds(
        Move, action=actions, drop=st.tuples(st.integers(0, 30), st.sampled_from([1, 3, 99])), babble=babble
    ),
    st.builds(Move, ids=st.lists(st.integers(0, 2**30), min_size=1, max_size=12).map(tuple), babble=babble),
    st.just(Move(ids=(), babble=None)),
)
texts = st.one_of(
    hostile, words, st.just(""), st.builds(lambda t, n: (t + "ab ") * n, hostile, st.integers(2, 40))
)


# ------------------------------------------------------------------ what the model sees


@dataclass(slots=True, kw_only=True)
class Heard:
    """One request: what was asked, what came back, and what stood before the model at its last draw."""

    prompt: list[int]
    seed: int
    temperature: float
    script: list[int]
    babble: int | None
    stop: int | None
    ids: list[int] = field(default_factory=list)
    bias: dict[int, float] = field(default_factory=dict)
    """Added to the logit of the token at this position of the context."""
    seen: list[int] = field(default_factory=list)

    def wanted(self, position: int) -> int | None:
        """The token that the script has at a position of the context; None: any."""
        place = position - len(self.prompt)
        if 0 <= place < len(self.script):
            return self.script[place]
        ended = self.babble is not None and place >= len(self.script) + self.babble
        return self.stop if ended else None


class WatchedEngine(TorchEngine):
    """One row, one request at a time: `stream` is all that the model can see after each forward pass."""

    def __init__(self, kit: Kit, script: Sequence[Move]) -> None:
        model = kit.model()
        super().__init__(model, capacity_rows=1, decode=kit.dialect.decode)
        self.kit, self.moves = kit, list(script)
        self.heard: list[Heard] = []
        self.stream: list[int] = []
        self.num_fed = 0
        self._hooks = [
            model.register_forward_pre_hook(self._receive, with_kwargs=True),
            model.register_forward_hook(self._steer, with_kwargs=True),
        ]

    async def generate(
        self, ids: Sequence[int] | Ids, sampling: Sampling, *, seed: int
    ) -> AsyncGenerator[Chunk, None]:
        move = self.moves.pop(0) if self.moves else Move(ids=(), babble=None)
        request = Heard(
            prompt=[int(i) for i in ids],
            seed=seed,
            temperature=sampling.temperature,
            script=move.written(self.kit),
            babble=move.babble,
            stop=min(sampling.stop_ids, default=None),
        )
        self.heard.append(request)
        async for chunk in super().generate(ids, sampling, seed=seed):
            request.ids += chunk.ids.tolist()
            request.seen = list(self.stream)
            yield chunk

    async def close(self) -> None:
        await super().close()
        for hook in self._hooks:
            hook.remove()

    def _receive(self, model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        ids, positions, mask = kwargs["input_ids"], kwargs["position_ids"], kwargs["attention_mask"]
        begin = int(positions[0, 0])
        assert positions.tolist() == [list(range(begin, begin + ids.shape[1]))] and begin <= len(self.stream)
        self.stream[begin:] = ids[0].tolist()
        self.num_fed += ids.shape[1]
        visible = (mask[0, 0] == 0).sum(-1)
        assert torch.equal(visible, positions[0] + 1), "a token sees itself and all before it"

    def _steer(self, model: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        request, position = self.heard[-1], int(kwargs["position_ids"][0, -1]) + 1
        wanted = request.wanted(position)
        if wanted is None:
            return
        logits: Tensor = out.logits[0, -1]
        random = uniform(torch.tensor(signed64(request.seed)), torch.tensor(position))
        bias = least_bias(logits.double(), wanted, float(random), request.temperature)
        logits[wanted] += bias
        request.bias[position] = bias


def least_bias(logits_V: Tensor, wanted: int, random: float, temperature: float) -> float:
    """Give what to add to a logit so that `random` falls well inside its token's share of the probability."""
    probs_V = (logits_V / temperature).softmax(-1)
    own = float(probs_V[wanted])
    before = float(probs_V[:wanted].sum())
    if before + 1e-4 < random < before + own - 1e-4:
        return 0.0
    below = before / (1 - own)  # among the other tokens
    least = (random - below) / (1 - below) if random > below else 1 - random / below
    share = min(least + (1 - least) / 2, 1 - 1e-6)
    return float(np.float32(temperature * (math.log(share / (1 - share)) - math.log(own / (1 - own)))))
