"""The tiny model: small, the same for the same seed, with number tokens in order."""

import torch
from torch.nn import functional

from agentrl.trainers.tiny.model import TinyShape, make_model
from agentrl.trainers.tiny.tokenizer import make_tokenizer

TOKENIZER = make_tokenizer(["from 0 to 99"] * 9)
NUMBERS = tuple(range(100))


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before() -> None:
    one = make_model(TOKENIZER, seed=3, numbers=NUMBERS)
    torch.rand(7)
    same, other = (make_model(TOKENIZER, seed=s, numbers=NUMBERS) for s in (3, 4))
    pairs = list(zip(one.parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)
    assert sum(p.numel() for p in one.parameters()) < 500_000


def test_it_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    make_model(TOKENIZER, seed=0)
    torch.testing.assert_close(torch.rand(3), expected)


def test_near_numbers_start_nearer_than_far_ones() -> None:
    weight = make_model(TOKENIZER, seed=0, numbers=NUMBERS).model.embed_tokens.weight
    places = TOKENIZER.convert_tokens_to_ids([str(n) for n in NUMBERS])
    row = functional.normalize(weight[places].detach(), dim=-1)
    like = row @ row.T
    near = torch.stack([like.diagonal(offset=k).mean() for k in (1, 2)]).mean()
    far = torch.stack([like.diagonal(offset=k).mean() for k in (60, 80)]).mean()
    assert near > far + 0.2


def test_its_shape_can_be_chosen() -> None:
    model = make_model(
        TOKENIZER, seed=0, shape=TinyShape(layers=1, width=64, feed_forward=96, max_context=64)
    )
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (1, 64)
    assert model.config.max_position_embeddings == 64
