"""Opening a Hugging Face checkpoint folder, with one clear line for everything that can be wrong with it."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from agentrl.errors import ConfigError
from agentrl.quiet import no_bars

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
PLAIN_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")
PICKLED = (".bin", ".pt", ".pth", ".ckpt")


def load_model(
    path_or_name: str | Path, *, device: str | None = None, dtype: torch.dtype = torch.float32
) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer.

    Args:
        path_or_name: A checkpoint folder, or a hub name ('owner/model') that stands in the local hub cache.
        device: None: the GPU if there is one, else the CPU.
        dtype: Of the weights; training wants float32.

    Raises:
        ConfigError: No such folder, a missing file, remote code, pickled weights, no stop id.
    """
    folder = model_folder(path_or_name)
    _check_config(folder)
    _check_files(folder)
    tokenizer = _tokenizer(folder)
    model = _model(folder, dtype)
    if len(tokenizer) > model.config.vocab_size:
        raise ConfigError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model {model.config.vocab_size}:"
            " they do not belong together"
        )
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")), tokenizer


def load_tokenizer(path_or_name: str | Path) -> Any:
    """Load the tokenizer of a checkpoint folder alone, for a model that is served elsewhere.

    Raises:
        ConfigError: No such folder, no tokenizer in it, no stop id.
    """
    return _tokenizer(model_folder(path_or_name))


def model_folder(path_or_name: str | Path) -> Path:
    """Find the checkpoint folder of a path, or of a hub name in the local hub cache.

    Raises:
        ConfigError: There is none; names the nearest folder, or how to fetch it.
    """
    path = Path(path_or_name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ConfigError(f"{path} is a file: give the checkpoint folder that holds config.json")
    name = str(path_or_name)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and not path.parent.is_dir():
        return _cached(name)
    raise ConfigError(f"no model folder {name!r}{_nearest(path)}")


def _cached(name: str) -> Path:
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise ConfigError(
            f"no model {name!r}: there is no such folder, and the local hub cache does not hold it; "
            f"`hf download {name}` fetches it where there is a network, or give a checkpoint folder"
        ) from error


def _nearest(path: Path) -> str:
    """Name the existing folder that was probably meant."""
    parent = path.parent
    while not parent.is_dir():
        path, parent = parent, parent.parent
    folders = [p.name for p in parent.iterdir() if p.is_dir()]
    near = difflib.get_close_matches(path.name, folders, n=1)
    return f"; did you mean {str(parent / near[0])!r}?" if near else f"; {str(parent)!r} holds no such folder"


def _check_config(folder: Path) -> None:
    path = folder / "config.json"
    if not path.is_file():
        raise ConfigError(f"{folder} has no config.json: give a Hugging Face checkpoint folder")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in CONFIG_MAPPING:
        code = " and brings its own code, which is refused" if "auto_map" in (config or {}) else ""
        raise ConfigError(f"{path}: transformers does not know model_type {kind!r}{code}")


def _check_files(folder: Path) -> None:
    files = [p for p in folder.iterdir() if p.is_file()]
    if not any(p.name in TOKENIZER_FILES for p in files):
        raise ConfigError(f"{folder} has no tokenizer: need one of {', '.join(TOKENIZER_FILES)}")
    if any(p.suffix == ".safetensors" for p in files):
        return
    pickled = [p.name for p in files if p.suffix in PICKLED]
    if pickled:
        raise ConfigError(
            f"{folder} has only pickled weights ({pickled[0]}), which can run code when opened:"
            " save them as safetensors, model.save_pretrained(folder)"
        )
    raise ConfigError(f"{folder} has no weights: need model.safetensors")


def _tokenizer(folder: Path) -> Any:
    # AutoTokenizer goes by the model's family and adds that family's tokens to a tokenizer of another kind.
    loader: Any = PreTrainedTokenizerFast if _is_plain(folder) else AutoTokenizer
    try:
        tokenizer = loader.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder}: the tokenizer does not load: {_line(error)}") from error
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            f"{folder}: the tokenizer has no stop id: set eos_token in tokenizer_config.json"
            " to the token that ends a turn, such as '<|im_end|>'"
        )
    return tokenizer


def _is_plain(folder: Path) -> bool:
    """Whether the folder says that tokenizer.json alone describes its tokenizer."""
    path = folder / "tokenizer_config.json"
    try:
        named = json.loads(path.read_text(encoding="utf-8")).get("tokenizer_class")
    except (OSError, ValueError, AttributeError):
        return False  # the tokenizer's own loading will say what is wrong
    return named in PLAIN_TOKENIZERS and (folder / "tokenizer.json").is_file()


def _model(folder: Path, dtype: torch.dtype) -> Any:
    try:
        with no_bars():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
                attn_implementation="sdpa",
                output_loading_info=True,
            )
    except Exception as error:  # safetensors and torch raise types of their own for broken files
        raise ConfigError(f"{folder}: the model does not load: {_line(error)}") from error
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise ConfigError(f"{folder}: the weights lack {len(missing)} tensors, {missing[0]!r} first")
    return model


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
