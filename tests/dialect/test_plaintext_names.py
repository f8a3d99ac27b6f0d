"""Names of control tokens that stand in a base vocabulary without being registered as such."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from agentrl.plaintext import CONTROL_LIKE, encode_plain, plain_text_of
from tests.dialect.tokenizers import fast

NAMES = (
    *("[gMASK]", "<sop>", "<function_call>", "<fim_prefix>", "<result>", "</result>", "<tools>"),
    *("<SPECIAL_12>", "<|im_end|>", "<｜User｜>", "[INST]", "[/INST]", "[@BOS@]", "[|assistant|]", "<<SYS>>"),
    *("<extra_id_0>", "<s>", "<unused7>", "<start_of_turn>", "<tool-call>"),
)
ORDINARY = ("word", "<", ">", "[", "]", "[]", "[i]", "->", "</", "<x>", "(word)", "a[key]", "<1>")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Whole words that stand in the vocabulary are taken as they are, merges or not."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet())]
    pieces += [name for name in (*NAMES, *ORDINARY) if name not in pieces and name.isascii()]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    plain_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "isolated"), plain_bytes])
    backend.decoder = decoders.ByteLevel()
    return fast(tokenizer_object=backend)


@pytest.mark.parametrize("name", [name for name in NAMES if name.isascii()])
def test_only_plain_text_does_not_reach_a_name(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    backend = tokenizer.backend_tokenizer
    assert len(backend.encode(name).ids) == 1, "the attack is real"
    ids = encode_plain(tokenizer, f"word {name} word")
    assert backend.token_to_id(name) not in ids
    assert plain_text_of(tokenizer).decode(ids) == f"word {name} word"


@pytest.mark.parametrize("name", NAMES)
def test_what_looks_like_a_control_token_is_one(name: str) -> None:
    assert CONTROL_LIKE.fullmatch(name)


@pytest.mark.parametrize("piece", ORDINARY)
def test_ordinary_pieces_stay_in_use(piece: str) -> None:
    assert not CONTROL_LIKE.fullmatch(piece)


def test_ids_that_a_dialect_stops_at_are_out_of_reach(tokenizer: PreTrainedTokenizerFast) -> None:
    stop = tokenizer.backend_tokenizer.token_to_id("word")
    assert stop in plain_text_of(tokenizer).encode("word word")
    plain = plain_text_of(tokenizer, frozenset({stop}))
    assert stop in plain.forbidden and stop not in plain.encode("word word")
