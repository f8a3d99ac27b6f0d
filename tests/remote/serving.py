"""A shop behind tools, a scripted model that buys in it, and an endpoint that is in a hurry."""

from typing import Any

import numpy as np

from agentrl import ToolEnv, tool
from agentrl.engine.endpoint import Endpoint
from agentrl.engine.fake_server import FakeServer
from agentrl.message import Action, Call, answer

KEY = "sk-test-0123456789abcdef"


class Shop(ToolEnv):
    """Sum two prices."""

    system = "You buy things."
    max_turns = 4

    def task(self, rng: np.random.Generator) -> str:
        self.prices = {"pear": int(rng.integers(1000, 10**6)), "plum": int(rng.integers(1000, 10**6))}
        return "What do a pear and a plum cost?"

    @tool
    def price(self, item: str) -> int:
        """Look up a price."""
        return self.prices[item]

    def reward(self, answer: str) -> float:
        return float(answer == str(sum(self.prices.values())))


def buyer(body: dict[str, Any]) -> Action:
    """Ask for both prices in one turn, then add what the two tool messages say."""
    results = [m["content"] for m in body["messages"] if m["role"] == "tool"]
    if not results:
        calls = [Call(id=f"c{n}", name="price", arguments={"item": n}) for n in ("pear", "plum")]
        return Action(text="Let me look.", calls=tuple(calls))
    return answer(sum(map(int, results)))


def hurried(server: FakeServer, **settings: Any) -> Endpoint:
    """An endpoint with short waits."""
    short: dict[str, Any] = {"backoff_seconds": 0.002, "max_wait_seconds": 0.2, "timeout_seconds": 10.0}
    return Endpoint(model="scripted", url=server.url, **(short | settings))
