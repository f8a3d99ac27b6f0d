"""Settings of sampling that mean nothing are refused with their name and value."""

import math
from typing import Any

import pytest

from agentrl.engine.protocol import Sampling
from agentrl.errors import ConfigError


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", -1.0),
        ("top_p", math.nan),
        ("top_p", 0.0),
        ("top_k", -1),
        ("max_tokens", 0),
        ("stop_strings", ("</a>", "")),
    ],
)
def test_a_senseless_setting_is_refused(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Sampling(**{setting: value})
    assert str(caught.value).startswith(f"{setting}={value}")


def test_the_borders_are_allowed() -> None:
    assert Sampling(temperature=0.0, top_p=1.0, stop_strings=("</a>",)).temperature == 0.0
