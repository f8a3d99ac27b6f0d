"""A checkpoint folder whose model writes turns of set lengths that end in a call, without any steering.

A turn is an opening, filler words of the stages n, n-1, ..., 1, and the tokens of a call, one argument among
several. The embedding of a token points in the direction of its stage, and the output head of a token looks
for the direction of the stage before; an opening points to the stage that it says. So whoever samples from
this model, by whatever code, gets turns of these lengths: no library needs a hook, a forced token or a stop
rule of its own. All layers are computed as in any other model; what they add is random and small.

Shape letters: V vocabulary, D width, S stages.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from agentrl.quiet import no_bars

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

VOCABULARY = 1024
MERGES = 360
"""Learnt from the texts, so that prompts are about as many tokens as with a real tokenizer."""
LETTERS = "ab"
"""Words of one stage differ in them; the model draws one."""
FRAME = 7
"""Tokens of a turn beside its filler words."""
BEFORE = "\n"
"""The last token of a prompt."""
ARGUMENTS = 16
"""Words that a call may ask for."""
START, END, PAD, CALL, CALL_END = "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>", "</tool_call>"
ADDED = (PAD, START, END, CALL, CALL_END)
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SHARPNESS = 40.0
"""Logit of the right stage over that of any other, at a perfect match."""
NOISE = 0.3
"""Standard deviation of what is random: in an entry of an embedding, and in a logit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The size of a model; 4 heads on 2 key-value heads."""

    width: int
    layers: int
    feed_forward: int
    context: int


SHAPES = {
    "0.5M": {"width": 96, "layers": 3, "feed_forward": 264},
    "5M": {"width": 256, "layers": 6, "feed_forward": 704},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """What the policy writes: one of the lengths, each as likely as the others, and a call of a tool.

    >>> turns = Turns(filler=(2, 5), tool="look", argument="word")
    >>> turns.tokens, [words[0] for words in turns.stages()[4:7]]
    ([9, 12], [' f2a', ' f1a', '<tool_call>'])
    """

    filler: Sequence[int]
    """How many filler words a turn may have."""
    tool: str
    argument: str

    @property
    def tokens(self) -> list[int]:
        """How many tokens a turn has then: opening, call and end stand beside the filler."""
        return [count + FRAME for count in self.filler]

    def openings(self) -> list[list[str]]:
        """Give the first words of a turn, for each length."""
        return [[f" o{n}{c}" for c in LETTERS] for n in self.filler]

    def stages(self) -> list[list[str]]:
        """Give the words of each stage behind the opening; the first stage only says what comes next."""
        call = f'\n{{"name": {json.dumps(self.tool)}, "arguments": {{{json.dumps(self.argument)}: "'
        words = [[f" f{n}{c}" for c in LETTERS] for n in range(max(self.filler) + 1, 0, -1)]
        asked = [f"w{i:02}" for i in range(ARGUMENTS)]
        return [*words, [CALL], [call], asked, ['"}}\n'], [CALL_END], [END]]

    def words(self) -> list[str]:
        """Give all words of turns."""
        return [*itertools.chain.from_iterable([*self.openings(), *self.stages()])]


def pieces() -> Any:
    """Give what spells a text in the characters that stand for bytes."""
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def token_of(word: str) -> str:
    """Give a word as it stands in the vocabulary."""
    return word if word in ADDED else "".join(piece for piece, _ in pieces().pre_tokenize_str(word))


def learnt(texts: Sequence[str]) -> dict[str, Any]:
    """Learn the merges of a byte-level BPE; gives the model as data."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend: Any = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pieces()]
    )
    trainer: Any = trainers.BpeTrainer
    size = len(alphabet) + MERGES
    backend.train_from_iterator(
        texts, trainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    data: dict[str, Any] = json.loads(backend.to_str())
    return data


def make_tokenizer(texts: Sequence[str], turns: Turns) -> PreTrainedTokenizerFast:
    """Make a tokenizer in the manner of Qwen's; no text is cut into the words of turns."""
    from tokenizers import AddedToken, Tokenizer, decoders
    from transformers import PreTrainedTokenizerFast

    data = learnt(texts)
    vocabulary = data["model"]["vocab"]
    for word in turns.words():
        if word not in ADDED:
            vocabulary.setdefault(token_of(word), len(vocabulary))
    backend: Any = Tokenizer.from_str(json.dumps(data))
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens([AddedToken(t, special=t in (PAD, START, END), normalized=False) for t in ADDED])
    make: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = make(
        tokenizer_object=backend, pad_token=PAD, eos_token=END, clean_up_tokenization_spaces=False
    )
    return tokenizer


def make_model(tokenizer: PreTrainedTokenizerFast, shape: Shape) -> Qwen2ForCausalLM:
    """Make a Qwen2 with random layers."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    if len(tokenizer) > VOCABULARY:
        raise ValueError(f"{len(tokenizer)} tokens: the model has {VOCABULARY}; take fewer filler words")
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=shape.context,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    return Qwen2ForCausalLM(config)


@torch.no_grad()
def write_turns(model: Qwen2ForCausalLM, known: Mapping[str, int], turns: Turns) -> None:
    """Set embeddings and output head so that the model writes such turns; `known` gives the ids of tokens."""

    def ids(words: Sequence[str]) -> list[int]:
        return [known[token_of(word)] for word in words]

    embedding_VD: Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    head_VD: Tensor = model.lm_head.weight
    width, chain = embedding_VD.shape[1], turns.stages()
    generator = torch.Generator().manual_seed(0)
    direction_SD = torch.randn(1 + len(chain), width, generator=generator)
    direction_SD *= width**0.5 / direction_SD.norm(dim=1, keepdim=True)
    before_D, stage_SD = direction_SD[0], direction_SD[1:]
    sharpness = SHARPNESS / width
    embedding_VD.copy_(NOISE * torch.randn(embedding_VD.shape, generator=generator))
    head_VD.copy_(NOISE / width**0.5 * torch.randn(head_VD.shape, generator=generator))
    embedding_VD[ids([BEFORE])] += before_D
    for count, words in zip(turns.filler, turns.openings(), strict=True):
        head_VD[ids(words)] += sharpness * before_D
        embedding_VD[ids(words)] += stage_SD[max(turns.filler) - count]
    for stage, words in enumerate(chain):
        embedding_VD[ids(words)] += stage_SD[stage]
        if stage:
            head_VD[ids(words)] += sharpness * stage_SD[stage - 1]


def save_policy(folder: Path, texts: Sequence[str], shape: Shape, turns: Turns) -> int:
    """Write a checkpoint folder; gives the number of parameters."""
    tokenizer = make_tokenizer(texts, turns)
    model = make_model(tokenizer, shape)
    write_turns(model, tokenizer.get_vocab(), turns)
    with no_bars():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())
