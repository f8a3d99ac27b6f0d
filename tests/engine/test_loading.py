"""Every way in which a checkpoint folder can be wrong is one line that names the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from agentrl.engine.loading import load_model
from agentrl.errors import ConfigError
from tests.engine.serving import MakeModel


@pytest.fixture
def folder(tmp_path: Path, make_model: MakeModel) -> Path:
    """A complete checkpoint."""
    path = tmp_path / "checkpoints" / "good-model"
    make_model().save_pretrained(path)
    words = {"<end>": 0, "a": 1, "b": 2}
    make: Any = PreTrainedTokenizerFast
    fast = make(tokenizer_object=Tokenizer(WordLevel(words, unk_token="a")), eos_token="<end>", unk_token="a")
    fast.save_pretrained(path)
    return path


def edit(path: Path, **changes: Any) -> None:
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in data.items() if v is not None}))


def test_a_good_folder_loads(folder: Path, make_model: MakeModel) -> None:
    model, tokenizer = load_model(folder, device="cpu")
    assert tokenizer.get_vocab() == {"<end>": 0, "a": 1, "b": 2}  # nothing of the model's family was added
    assert tokenizer.eos_token_id == 0 and model.dtype == torch.float32
    want = make_model().state_dict()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, want[name])


def test_the_nearest_name_is_offered(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean '.*checkpoints/good-model'"):
        load_model(folder.parent / "god-model")
    with pytest.raises(ConfigError, match=r"did you mean '.*checkpoints'"):
        load_model(folder.parent.parent / "checkpoint" / "good-model")
    with pytest.raises(ConfigError, match="holds no such folder"):
        load_model(folder.parent / "zzz")
    with pytest.raises(ConfigError, match="is a file"):
        load_model(folder / "config.json")
    with pytest.raises(ConfigError, match="hf download nobody/no-such-model"):
        load_model("nobody/no-such-model")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "has no config.json"),
        ("tokenizer.json", "has no tokenizer: need one of tokenizer.json"),
        ("model.safetensors", "has no weights: need model.safetensors"),
    ],
)
def test_missing_files(missing: str, message: str, folder: Path) -> None:
    (folder / missing).unlink()
    with pytest.raises(ConfigError, match=message):
        load_model(folder)


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"only pickled weights \(pytorch_model.bin\).*safetensors"):
        load_model(folder)


def test_remote_code_is_refused(folder: Path) -> None:
    edit(folder / "config.json", model_type="mine", auto_map={"AutoConfig": "mine.Config"})
    (folder / "mine.py").write_text("raise SystemExit('this code ran')")
    with pytest.raises(ConfigError, match="model_type 'mine' and brings its own code, which is refused"):
        load_model(folder)


def test_broken_files(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ConfigError, match="the model does not load"):
        load_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="config.json is not JSON"):
        load_model(folder)


def test_weights_of_another_size_or_family_are_refused(folder: Path, make_model: MakeModel) -> None:
    edit(folder / "config.json", num_hidden_layers=3, layer_types=None)
    with pytest.raises(ConfigError, match="lack .* tensors"):
        load_model(folder)


def test_a_tokenizer_without_a_stop_id(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", eos_token=None)
    with pytest.raises(ConfigError, match="no stop id: set eos_token"):
        load_model(folder)


def test_a_tokenizer_of_another_model(folder: Path, make_model: MakeModel) -> None:
    make_model(vocab_size=2).save_pretrained(folder)
    with pytest.raises(ConfigError, match="the tokenizer has 3 tokens, the model 2"):
        load_model(folder)
