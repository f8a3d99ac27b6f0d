"""A checkpoint's dialect and the length of its turns can be chosen, in training and in a benchmark."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from agentrl import evaluate, tool, train
from agentrl.checkpoint import Manner, read_manner
from agentrl.contestants import contestant
from agentrl.errors import ConfigError
from agentrl.registry import EnvSpec
from agentrl.rollout.protocol import Limits
from agentrl.store.inventory import find_run
from agentrl.store.store import TRAIN, rows_of
from agentrl.trainers.run.saving import save_folder
from tests.dialect.tokenizers import sentencepiece_style
from tests.remote.serving import Shop

SMALL = {"groups_per_step": 1, "group_size": 2, "minibatches": 1, "eval.tasks": 2}
SHOP = EnvSpec(name="shop", kind=Shop)


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained model whose tokenizer has no control tokens of a chat."""
    tokenizer = sentencepiece_style()
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
    )
    return str(save_folder(tmp_path_factory.mktemp("hf") / "model", Qwen2ForCausalLM(config), tokenizer))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_base_model_is_trained_in_the_dialect_that_is_named(base_model: str) -> None:
    with pytest.raises(ConfigError, match=r"name its dialect \(rollout.dialect in training"):
        train(Shop, model=base_model, steps=1, settings=SMALL)
    settings = SMALL | {"rollout.dialect": "tags", "rollout.max_tokens_per_turn": 300}
    result = train(Shop, model=base_model, steps=1, run="named", settings=settings)
    manner = json.loads(Path(result["run"], "model/agentrl.json").read_text())
    assert manner["dialect"] == "tags" and manner["limits"]["max_tokens_per_turn"] == 300
    again = evaluate(SHOP, policies=[f"{result['run']}/model"], tasks=2)
    assert again["results"][0]["failures"] == {}


def test_turns_of_a_run_are_as_long_as_they_may_be(base_model: str) -> None:
    chosen = {"rollout.dialect": "tags", "rollout.max_tokens_per_turn": 300, "rollout.max_turns": 1}
    train(Shop, model=base_model, steps=1, run="long", settings=SMALL | chosen | {"group_size": 16})
    assert 256 < max(lengths("long")) <= 300


def lengths(run: str) -> list[int]:
    """Tokens of each turn of the first step."""
    found = find_run(run)
    with rows_of(found.path, json.loads((found.path / "config.json").read_text())) as store:
        assert store is not None
        episodes = [e for group in store.groups(phase=TRAIN, step=1).values() for e in group]
    return [len(s) for e in episodes for c in e.contexts for s in c.segments if s.sampled]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m: contestant(SHOP, m, {"dialect": "hermse"}), "no dialect 'hermse'; did you mean 'hermes'"),
        (lambda m: contestant(SHOP, m, {"max_tokens": 0}), "max_tokens=0: need a number of 1 or more"),
        (lambda m: contestant(SHOP, m, {"max_tokens": "x"}), "max_tokens='x': need a number"),
        (lambda m: contestant(SHOP, m, {"temperature": -1.0}), "temperature=-1.0: need a number of 0"),
        (lambda m: contestant(SHOP, m, {"top_p": 2}), "top_p=2: need a value in"),
        (lambda m: contestant(SHOP, m, {"max_tokens": 1.5}), "policy.max_tokens=1.5: need a whole number"),
        (lambda m: contestant(SHOP, m, {}, {"turn_second": 9}), "did you mean 'turn_seconds'"),
        (lambda m: contestant(SHOP, m, {}, {"max_turns": 1.5}), "rollout.max_turns=1.5: need a number above"),
        (lambda m: contestant(SHOP, "random", {}, {"turn_seconds": "x"}), "rollout.turn_seconds='x': need a"),
        (lambda m: contestant(SHOP, "random", {}, {"turn_seconds": 0}), "turn_seconds=0: need more than 0"),
        (lambda m: evaluate(SHOP, policies=[m], settings={"attempts": 2}), "attempts is for a model behind"),
        (lambda m: evaluate(SHOP, policies=["random"], settings={"top_p": 0.5}), "or for a model folder"),
        (lambda m: train(Shop, model=m, settings={"rollout.dialect": "tgas"}), "did you mean 'tags'"),
        (lambda m: train(Shop, settings={"rollout.dialect": "tags"}), "rollout.dialect: without use here"),
    ],
)
def test_what_cannot_be_chosen_is_refused(ask: Callable[[str], Any], message: str, base_model: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        ask(base_model)
    assert "\n" not in str(caught.value)


def test_what_a_folder_says_of_itself_must_make_sense(here: Path) -> None:
    assert read_manner(here) == Manner()
    for said in (
        "{",
        "[]",
        '{"limits": null}',
        '{"limits": {"max_turns": 0}}',
        '{"limits": {"max_turns": "x"}}',
    ):
        (here / "agentrl.json").write_text(said)
        with pytest.raises(ConfigError, match="agentrl.json cannot be read .*: mend or remove it"):
            read_manner(here)
    (here / "agentrl.json").write_text('{"limits": {"max_turns": 3, "of a later version": 1}}')
    assert read_manner(here) == Manner(limits=Limits(max_turns=3))


class Slow(Shop):
    """Its tool takes a while."""

    @tool
    def price(self, item: str) -> int:
        """Look up a price."""
        time.sleep(0.4)
        return 1


def test_deadlines_of_a_measurement_can_be_set(base_model: str) -> None:
    slow = EnvSpec(name="slow", kind=Slow)

    def failures(seconds: float) -> dict[str, int]:
        limits = {"turn_seconds": seconds, "max_turns": 2}
        (row,) = evaluate(slow, policies=["valid-random"], tasks=4, limits=limits)["results"]
        assert row["turns"] <= 2
        return dict(row["failures"])

    assert failures(0.1).get("timeout", 0) > 0 and failures(30.0) == {}


def test_a_model_folder_is_measured_as_it_is_asked_to(base_model: str) -> None:
    settings = {"dialect": "tags", "max_tokens": 7, "temperature": 0.0}
    rows = [evaluate(SHOP, policies=[base_model], tasks=2, settings=settings)["results"][0] for _ in "ab"]
    assert rows[0] == rows[1] and rows[0]["failures"] == {}
