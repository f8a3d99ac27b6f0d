"""Folders of trained models: whole or not at all."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from agentrl.errors import ConfigError
from agentrl.trainers.run.saving import save_folder, weights_sha256
from tests.disks import fill, small_disk
from tests.trainers.making import small_model


@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_model_is_an_ordinary_folder(tmp_path: Path, tied: bool) -> None:
    model = small_model(tied=tied)
    folder = save_folder(tmp_path / "deep" / "model", model)
    again = AutoModelForCausalLM.from_pretrained(folder)
    assert weights_sha256(again) == weights_sha256(model)
    assert {p.name for p in folder.iterdir()} >= {"config.json", "model.safetensors"}


def test_a_saved_model_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    save_folder(tmp_path / "model", small_model(seed=1))
    (tmp_path / "model" / "left_over").touch()
    new = small_model(seed=2)
    save_folder(tmp_path / "model", new)
    assert weights_sha256(AutoModelForCausalLM.from_pretrained(tmp_path / "model")) == weights_sha256(new)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "left_over").exists()


def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path) -> None:
    """Whoever saves can tell it from a bug, whatever wrote the file."""
    with small_disk(tmp_path, megabytes=1) as disk:
        filling = fill(disk)
        with pytest.raises(OSError, match="space"):
            save_folder(disk / "model", small_model())
        filling.unlink()
        assert not list(disk.iterdir())


def test_a_crash_while_writing_leaves_the_old_folder(tmp_path: Path) -> None:
    class Crashing:
        def save_pretrained(self, save_directory: str) -> None:
            (Path(save_directory) / "half").touch()
            raise OSError("no space left on device")

    old = small_model(seed=1)
    save_folder(tmp_path / "model", old)
    with pytest.raises(OSError, match="no space"):
        save_folder(tmp_path / "model", small_model(seed=2), Crashing())
    assert weights_sha256(AutoModelForCausalLM.from_pretrained(tmp_path / "model")) == weights_sha256(old)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_other_things_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to_mother.txt").write_text("dear")
    (tmp_path / "file").touch()
    for name in ("letters", "file"):
        with pytest.raises(ConfigError, match="is no model folder"):
            save_folder(tmp_path / name, small_model())
    assert (tmp_path / "letters" / "to_mother.txt").read_text() == "dear"


def test_the_fingerprint_sees_every_change() -> None:
    model = small_model()
    first = weights_sha256(model)
    assert first == weights_sha256(small_model()) != weights_sha256(small_model(seed=1))
    assert first != weights_sha256(small_model(dtype=torch.bfloat16))
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-3
    assert weights_sha256(model) != first
