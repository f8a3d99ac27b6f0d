"""One file holds a whole state, and a torn one is recognised."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save_file

from agentrl.errors import ConfigError
from agentrl.store.errors import StoreError
from agentrl.trainers.batch import Row
from agentrl.trainers.checkpoints import Checkpoints, TornError, digest, load_weights, pack, unpack
from agentrl.trainers.optimiser import OptimiserSettings
from agentrl.trainers.updater import Updater
from tests.trainers.making import context, small_model

STATE: dict[str, Any] = {
    "weights": {"a.b": torch.arange(6.0).reshape(2, 3), "c": torch.tensor(3.5, dtype=torch.bfloat16)},
    "parts": {"mine": {"task": [1, 2.5, None]}, 3: (True, "é\ud800")},
    "nested": [(torch.tensor([2**40]),), {}],
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"".join(pack(STATE)))
    assert same(unpack(tmp_path / "x"), STATE)


def test_a_file_is_written_straight_from_the_tensors() -> None:
    tensor = torch.arange(5.0)
    head, *rest = pack({"a": tensor, "b": torch.tensor(True), "c": torch.empty(0, 3)})
    assert len(head) % 8 == 0 and load(b"".join([head, *rest])).keys() == {"a", "b", "c"}
    assert np.frombuffer(rest[0], dtype=np.float32).ctypes.data == tensor.data_ptr()


def test_a_file_of_the_library_itself_is_read(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(3), "b": torch.ones(2, dtype=torch.bfloat16)}
    plain = '{"a": {"$tensor": "a"}, "b": {"$tensor": "b"}}'
    save_file(tensors, tmp_path / "x", metadata={"state": plain, "sha256": digest(plain, tensors)})
    assert same(unpack(tmp_path / "x"), tensors)


@pytest.mark.parametrize("how", ["empty", "cut", "zeros", "a bit of a tensor", "a word of the state", "text"])
def test_a_torn_file_is_recognised(how: str, tmp_path: Path) -> None:
    data = b"".join(pack(STATE))
    torn = {
        "empty": b"",
        "cut": data[: len(data) // 2],
        "zeros": data[:-9] + bytes(9),
        "a bit of a tensor": data[:-1] + bytes([data[-1] ^ 1]),
        "a word of the state": data.replace(b"mine", b"nine"),
        "text": b"no checkpoint",
    }[how]
    assert torn != data
    (tmp_path / "x").write_bytes(torn)
    with pytest.raises(TornError, match="x is torn"):
        unpack(tmp_path / "x")


def test_the_last_ones_and_the_start_are_kept(tmp_path: Path) -> None:
    kept = Checkpoints(folder=tmp_path / "deep", run="r", keep=2)
    for step in range(5):
        kept.save(step, {"value": step})
    assert kept.steps() == [4, 3, 0]
    state, torn = kept.latest()
    assert state is not None and state["value"] == 4 and torn == []
    (tmp_path / "deep/step-000004.safetensors").write_bytes(b"")
    state, torn = kept.latest()
    assert state is not None and state["value"] == 3 and "step-000004.safetensors is torn" in torn[0]
    kept.discard_after(3)
    assert kept.steps() == [3, 0]


def test_checkpoints_of_another_run_are_none(tmp_path: Path) -> None:
    Checkpoints(folder=tmp_path, run="old").save(7, {})
    new = Checkpoints(folder=tmp_path, run="new")
    assert new.latest() == (None, [])
    new.discard_after(-1)
    assert new.steps() == []


def test_without_a_whole_one_nothing_is_made_up(tmp_path: Path) -> None:
    kept = Checkpoints(folder=tmp_path, run="r")
    kept.save(3, {})
    (tmp_path / "step-000003.safetensors").write_bytes(b"torn")
    with pytest.raises(StoreError, match="start anew with --fresh"):
        kept.latest()


def test_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    rows = [Row.of(context(seed, [2, 3])) for seed in range(4)]
    settings = OptimiserSettings(learning_rate=0.01, weight_decay=0.1)

    def updater(seed: int) -> Updater:
        return Updater(small_model(seed=seed), settings, total_steps=6)

    whole = updater(1)
    for _ in range(3):
        whole.sft_step(rows)
    state = {"weights": whole.named_tensors(), "updater": whole.state_dict()}
    (tmp_path / "x").write_bytes(b"".join(pack(state)))
    again = updater(2)
    found = unpack(tmp_path / "x")
    load_weights(again.named_tensors(), found["weights"])
    again.load_state_dict(found["updater"])
    stats = [(whole.sft_step(rows), again.sft_step(rows)) for _ in range(3)]
    assert all(a == b for a, b in stats) and whole.version == again.version == 6
    for name, tensor in whole.named_tensors().items():
        assert torch.equal(tensor, again.named_tensors()[name]), name


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(ConfigError, match="another model's: tensor 'b'"):
        load_weights({"a": torch.zeros(1)}, {"a": torch.zeros(1), "b": torch.zeros(1)})
