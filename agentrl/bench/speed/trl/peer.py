"""Runs under a Python that has TRL, as a script: trains as it is told, one step at each word.

A line of JSON on standard input names the settings; the answer is `{"ready": true}` before each step, which a
line `go` begins, then the step's measurements, and `{"done": true}` after the last one; or `{"error": ...}`.
Everything that libraries print goes to standard error.

`Lookup` is the environment of both sides; nothing outside the standard library stands at the top.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Sequence
from typing import Any


class Lookup:
    """Explains words, and rewards how they were chosen: every episode gets another number."""

    def __init__(self) -> None:
        self._asked: list[str] = []

    def reset(self, **row: Any) -> None:
        """Begin an episode."""
        self._asked = []

    def look(self, word: str) -> str:
        """Look up a word.

        Args:
            word: The word.

        Returns:
            What it means.
        """
        self._asked.append(word)
        return f"The word {word} is number {zlib.crc32(word.encode()) % 10**6:06}."

    def get_reward(self) -> float:
        """Give a number in 0..1 that follows from the words."""
        return zlib.crc32(" ".join(self._asked).encode()) / 2**32


def digest(prompts: Iterable[Sequence[int]]) -> str:
    """Tell prompts from others, whatever their order.

    >>> digest([[1, 2], [3]]) == digest([[3], [1, 2]]) != digest([[1], [2, 3]])
    True
    """
    text = json.dumps(sorted([int(i) for i in ids] for ids in prompts))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Channel:
    """Lines of JSON between the two processes."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def say(self, data: dict[str, Any]) -> None:
        """Answer."""
        self._out.write(json.dumps(data) + "\n")
        self._out.flush()

    def hear(self) -> str:
        """Wait for the next word; ends the process where nobody is left."""
        return sys.stdin.readline() or sys.exit(0)


def tokenizer_of(folder: str, tools: list[Any]) -> Any:
    """Load the tokenizer; it writes the tools as the other side does, so that prompts are equal."""
    transformers: Any = importlib.import_module("transformers")
    templates: Any = importlib.import_module("trl.chat_template_utils")

    class Agreed(transformers.PreTrainedTokenizerFast):  # type: ignore[misc]
        def apply_chat_template(self, conversation: Any, *, tools: Any = None, **more: Any) -> Any:
            return super().apply_chat_template(conversation, tools=tools and self.agreed, **more)

    tokenizer = Agreed.from_pretrained(folder)
    tokenizer.agreed, tokenizer.chat_template = tools, templates.qwen2_5_chat_template
    return tokenizer


def trainer_class(seen: dict[str, Any]) -> Any:
    """Give TRL's trainer, timed and counted from outside of its own methods."""
    trl: Any = importlib.import_module("trl")

    class Watched(trl.GRPOTrainer):  # type: ignore[misc]
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            began = time.perf_counter()
            found = super()._generate_and_score_completions(inputs)
            seen["rollout_seconds"] = time.perf_counter() - began
            return found

        def _generate(self, prompts: Any) -> Any:
            found = super()._generate(prompts)
            prompt_ids, completion_ids, tool_mask = found[:3]
            seen["prompt_tokens"] = sum(map(len, prompt_ids))
            seen["sampled_tokens"] = sum(map(sum, tool_mask))
            seen["tokens"] = seen["prompt_tokens"] + sum(map(len, completion_ids))
            seen["prompts"] = digest(prompt_ids)
            return found

    return Watched


def paced(channel: Channel, seen: dict[str, Any]) -> Any:
    """Give the callback that waits before each step and reports after it."""
    transformers: Any = importlib.import_module("transformers")

    class Paced(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            channel.say({"ready": True})
            channel.hear()
            self.began, self.cpu = time.perf_counter(), time.process_time()

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            seconds = time.perf_counter() - self.began
            channel.say(
                seen
                | {
                    "step_seconds": seconds,
                    "train_seconds": seconds - seen["rollout_seconds"],
                    "cpu_seconds": time.process_time() - self.cpu,
                }
            )

    return Paced()


def train(channel: Channel, request: dict[str, Any]) -> None:
    """Train as a request says."""
    trl: Any = importlib.import_module("trl")
    datasets: Any = importlib.import_module("datasets")
    seen: dict[str, Any] = {}
    folder = tempfile.mkdtemp()
    try:
        trainer = trainer_class(seen)(
            model=request["model"],
            args=trl.GRPOConfig(output_dir=folder, **request["settings"]),
            train_dataset=datasets.Dataset.from_list([{"prompt": p} for p in request["prompts"]]),
            processing_class=tokenizer_of(request["model"], request["tools"]),
            environment_factory=Lookup,
            callbacks=[paced(channel, seen)],
        )
        trainer.train()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    log = trainer._metrics["train"]
    channel.say({"done": True, "tool_failures": log["tools/failure_frequency"]})


def versions() -> dict[str, str]:
    """Give the versions of what is measured."""
    metadata: Any = importlib.import_module("importlib.metadata")
    return {name: metadata.version(name) for name in ("trl", "transformers", "torch", "accelerate")}


def main() -> None:
    """Answer requests until there are no more."""
    channel = Channel()
    importlib.import_module("torch").set_num_threads(1)
    channel.say({"versions": versions()})
    while True:
        request = json.loads(channel.hear())
        try:
            train(channel, request)
        except Exception as error:  # a setting that TRL refuses is an answer, too
            channel.say({"error": f"{type(error).__name__}: {error}"[:400]})


if __name__ == "__main__":
    main()
