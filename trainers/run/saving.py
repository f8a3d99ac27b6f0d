"""Trained weights on disk: an ordinary Hugging Face folder, written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from torch import nn

from agentrl.errors import ConfigError
from agentrl.quiet import no_bars
from agentrl.store.files import sync


class Pretrained(Protocol):
    """A model or a tokenizer that writes itself into a folder."""

    def save_pretrained(self, save_directory: str) -> object: ...


def save_folder(folder: Path, *parts: Pretrained) -> Path:
    """Write model, tokenizer and what else belongs to them into `folder`, in place of what stood there.

    Everything is written and synced beside it first; a crash leaves the old folder or the new one.

    Raises:
        ConfigError: `folder` is a file, or holds something that is no model.
        OSError: It cannot be written.
    """
    folder = folder.absolute()
    if (
        folder.exists()
        and not (folder / "config.json").is_file()
        and (folder.is_file() or any(folder.iterdir()))
    ):
        raise ConfigError(f"{folder} exists and is no model folder: give another place, or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with no_bars():
            for part in parts:
                _save(part, fresh)
        fresh.chmod(0o755)
        for path in (*fresh.rglob("*"), fresh):
            sync(path)
        _replace(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _save(part: Pretrained, folder: Path) -> None:
    try:
        part.save_pretrained(str(folder))
    except SafetensorError as error:
        if "I/O error" not in str(error):  # a full disk, in words of its own
            raise
        raise OSError(errno.EIO, str(error)) from error


def weights_sha256(model: nn.Module) -> str:
    """Give a fingerprint of all weights: names, types, shapes and bytes, tied weights once.

    >>> a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> _ = b.load_state_dict(a.state_dict())
    >>> weights_sha256(a) == weights_sha256(b)
    True
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        value = parameter.detach().cpu().contiguous()
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _replace(fresh: Path, folder: Path) -> None:
    """Put `fresh` where `folder` is; a full folder cannot be renamed over, so the old one steps aside."""
    old = folder.with_name(f".{folder.name}-old-{os.getpid()}")
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
