"""A checkpoint folder whose model writes turns of a set length that end in a call, without steering.

Every turn is a chain: filler words of the stages n, n-1, ..., 1, then the tokens of a call, one argument
among several. The embedding of a token points in the direction of its stage, and the output head of a token
looks for the direction of the stage before. So whoever samples from this model, by whatever code, gets turns
of one length: no library needs a hook, a forced token or a stop rule of its own, and each draws among equally
many words. All layers are computed as in any other model; what they add is random and small.

Shape letters: V vocabulary, D width, S stages.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

VOCABULARY = 1024
MERGES = 360
"""Learnt from the texts, so that prompts are about as many tokens as with a real tokenizer."""
ALTERNATIVES = 3
"""Filler words of one stage; the model draws one of them."""
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


def turn_tokens(filler: int) -> int:
    """How many tokens a turn of so many filler words has: the call's five and the end beside them.

    >>> turn_tokens(58)
    64
    """
    return filler + 6


def stages(filler: int, *, tool: str, argument: str) -> list[list[str]]:
    """Give the words of each stage of a turn, the last token of the prompt as the first stage.

    >>> [words[0] for words in stages(2, tool="look", argument="word")][1:4]
    [' f2a', ' f1a', '<tool_call>']
    """
    opening = f'\n{{"name": {json.dumps(tool)}, "arguments": {{{json.dumps(argument)}: "'
    words = [[f" f{n}{chr(97 + i)}" for i in range(ALTERNATIVES)] for n in range(filler, 0, -1)]
    asked = [f"w{i:02}" for i in range(ARGUMENTS)]
    return [["\n"], *words, [CALL], [opening], asked, ['"}}\n'], [CALL_END], [END]]


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


def make_tokenizer(texts: Sequence[str], chain: Sequence[Sequence[str]]) -> PreTrainedTokenizerFast:
    """Make a tokenizer in the manner of Qwen's; no text is cut into the tokens of the chain."""
    from tokenizers import AddedToken, Tokenizer, decoders
    from transformers import PreTrainedTokenizerFast

    data = learnt(texts)
    vocabulary = data["model"]["vocab"]
    for word in itertools.chain.from_iterable(chain):
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
def write_chain(model: Qwen2ForCausalLM, chain: Sequence[Sequence[int]]) -> None:
    """Set embeddings and output head so that the tokens of a stage follow those of the stage before."""
    embedding_VD: Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    head_VD: Tensor = model.lm_head.weight
    width = embedding_VD.shape[1]
    generator = torch.Generator().manual_seed(0)
    direction_SD = torch.randn(len(chain), width, generator=generator)
    direction_SD /= direction_SD.norm(dim=1, keepdim=True)
    embedding_VD.copy_(NOISE * torch.randn(embedding_VD.shape, generator=generator))
    head_VD.copy_(NOISE / width**0.5 * torch.randn(head_VD.shape, generator=generator))
    for stage, ids in enumerate(chain):
        embedding_VD[list(ids)] += width**0.5 * direction_SD[stage]
        if stage:
            head_VD[list(ids)] += SHARPNESS / width**0.5 * direction_SD[stage - 1]


def save_policy(folder: Path, texts: Sequence[str], shape: Shape, chain: Sequence[Sequence[str]]) -> int:
    """Write a checkpoint folder; gives the number of parameters."""
    from agentrl.quiet import no_bars

    tokenizer = make_tokenizer(texts, chain)
    model = make_model(tokenizer, shape)
    known = tokenizer.get_vocab()
    write_chain(model, [[known[token_of(word)] for word in words] for words in chain])
    with no_bars():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())
