"""The public names."""

import subprocess
import sys

import pytest

import agentrl


def test_every_public_name_is_there() -> None:
    assert {"GRPOTrainer", "ToolEnv", "tool", "call", "answer", "check_environment", "TorchEngine"} <= set(
        dir(agentrl)
    )
    for name in dir(agentrl):
        assert getattr(agentrl, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="GRPOtrainer"):
        agentrl.GRPOtrainer  # type: ignore[attr-defined]  # noqa: B018


def test_star_import_gives_the_public_names() -> None:
    code = "from agentrl import *; assert ToolEnv and answer"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("line", ["import agentrl", "import agentrl.errors, agentrl.cli.main"])
def test_import_is_light(line: str) -> None:
    code = f"{line}; import sys; print([m for m in ('torch', 'numpy', 'gymnasium') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_environments_have_numpy_and_gymnasium_but_no_torch() -> None:
    code = "from agentrl import ToolEnv, check_environment; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
