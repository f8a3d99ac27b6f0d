"""Where a warm start has been, so that an interrupted one goes on from there."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentrl.runs import writable
from agentrl.store.files import write_whole
from agentrl.trainers.checkpoints import TornError, load_weights, pack, unpack
from agentrl.trainers.tiny.stock import Stock
from agentrl.trainers.updater import Updater


@dataclass(slots=True, kw_only=True)
class Milestones:
    """One file with the latest state, and how many demonstrations were promised at each milestone before.

    Everything else that a warm start decides follows from its demonstrations and measurements, which its
    journal keeps; so it is run again from the beginning and passes by what it has trained already.
    """

    file: Path | None = None
    """None: nothing is kept."""
    run: str = ""
    """The run that the file must belong to."""
    _promised: dict[str, list[int]] = field(default_factory=dict)
    _state: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.file is not None and self.file.is_file():
            with contextlib.suppress(TornError):
                state = unpack(self.file)
                if state["run"] == self.run:
                    self._state, self._promised = state, state["promised"]

    def save(self, taken: int, updater: Updater, stocks: Sequence[Stock]) -> None:
        """Write down where the training stands after so many steps."""
        if self.file is None:
            return
        self._promised[str(taken)] = [stock.promised for stock in stocks]
        state = {
            "run": self.run,
            "taken": taken,
            "promised": self._promised,
            "weights": updater.named_tensors(),
            "updater": updater.state_dict(),
        }
        with writable(self.file.parent):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.file, pack(state))

    async def pass_by(self, taken: int, updater: Updater, stocks: Sequence[Stock]) -> bool:
        """Go to the milestone behind so many steps without training; gives whether that is possible."""
        promised = self._promised.get(str(taken))
        if promised is None or self._state is None:
            return False
        for stock, count in zip(stocks, promised, strict=True):
            await stock.ready(fresh=count - stock.promised)
        if taken == self._state["taken"]:
            load_weights(updater.named_tensors(), self._state["weights"])
            updater.load_state_dict(self._state["updater"])
        return True

    def forget(self) -> None:
        """Remove the file."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)
