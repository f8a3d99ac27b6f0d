"""Tokenizers in the manner of published ones, trained on the spot on a few lines."""

from __future__ import annotations

import functools
import json
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from agentrl.dialect.tiny import CONTROL, END, PAD

CORPUS = [
    "What is the price of a pear, times 7? It is 84.\nprint(price('pear') * 7)\nsystem user assistant",
    '{"name": "price", "arguments": {"item": "pear", "amount": 12, "deep": [1, 2.5, null, true, false]}}',
    '{"name": "search", "parameters": {"query": "Who wrote \\"Faust\\"?"}}',
    "<tool_response>\n12\n</tool_response>",
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n<tools>\n</tools>",
    "<think>Let me see.</think><python>print(1)</python> <result>\n1\n</result><answer>one</answer>",
    "<|im_start|> <|im_end|> <tool_call> </tool_call> <|eot_id|> <|end_header_id|> <s> </s> [INST] <0x0A>",
] * 3
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_SPLIT = QWEN_SPLIT.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
QWEN_VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *QWEN_VISION)
QWEN_ADDED = ("<tool_call>", "</tool_call>", "<|fim_prefix|>")
QWEN3_ADDED = ("<tool_response>", "</tool_response>", "<think>", "</think>")
LLAMA_SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|python_tag|>",
)


def _byte_level(split: str, size: int = 512) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def fast(**settings: Any) -> PreTrainedTokenizerFast:
    """Make a tokenizer; the constructor of the class has no types."""
    make: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = make(**settings)
    return tokenizer


@functools.cache
def qwen_style() -> PreTrainedTokenizerFast:
    """Byte-level BPE, NFC; control tokens added behind the base vocabulary, some of them not special."""
    backend = _byte_level(QWEN_SPLIT)
    backend.normalizer = normalizers.NFC()
    tokenizer = fast(
        tokenizer_object=backend, eos_token="<|im_end|>", additional_special_tokens=list(QWEN_SPECIAL)
    )
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in QWEN_ADDED])
    return tokenizer


@functools.cache
def qwen3_style() -> PreTrainedTokenizerFast:
    """The same with Qwen3's further tokens for results and thinking."""
    backend = qwen_style().backend_tokenizer
    tokenizer = fast(tokenizer_object=type(backend).from_str(backend.to_str()), eos_token="<|im_end|>")
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in QWEN3_ADDED])
    return tokenizer


@functools.cache
def llama_style() -> PreTrainedTokenizerFast:
    """Llama 3: byte-level BPE that looks whole words up first; `encode` puts the BOS in front."""
    backend = _byte_level(LLAMA_SPLIT)
    backend.model.ignore_merges = True
    tokenizer = fast(
        tokenizer_object=backend,
        bos_token=LLAMA_SPECIAL[0],
        eos_token="<|eot_id|>",
        additional_special_tokens=list(LLAMA_SPECIAL),
    )
    bos = LLAMA_SPECIAL[0]
    template = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.convert_tokens_to_ids(bos))]
    )
    tokenizer.backend_tokenizer.post_processor = template
    return tokenizer


@functools.cache
def sentencepiece_style(scheme: str = "always") -> PreTrainedTokenizerFast:
    """Llama 2 and Mistral: Metaspace BPE with byte pieces; control tokens stand in the base vocabulary."""
    controls = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    backend.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme), decoders.Fuse()]
    )
    pieces = [*controls, *(f"<0x{b:02X}>" for b in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=pieces, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    # Real ones register the controls alone; the byte pieces are ordinary vocabulary.
    spec = json.loads(backend.to_str())
    spec["added_tokens"] = [t for t in spec["added_tokens"] if t["content"] in controls[:3]]
    backend = Tokenizer.from_str(json.dumps(spec))
    return fast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@functools.cache
def tiny_style() -> PreTrainedTokenizerFast:
    """What tiny models get: a byte-level BPE with the tiny dialect's control tokens."""
    backend = _byte_level(QWEN_SPLIT, 400)
    return fast(
        tokenizer_object=backend, pad_token=PAD, eos_token=END, additional_special_tokens=list(CONTROL)
    )
