"""The code environment through Gymnasium."""

import subprocess
import sys
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

from tests.envs.test_code_env import children

ORDERS = {
    "agentrl first": "import agentrl, sys; assert 'gymnasium' not in sys.modules; import gymnasium",
    "gymnasium first": "import gymnasium, agentrl",
    "gymnasium by a submodule": "import agentrl; import gymnasium.spaces; import gymnasium",
    "twice": "from agentrl.gym_hook import register_when_loaded as r; r(); r(); import gymnasium; r()",
    "looked for before": "import agentrl, importlib.util as u; u.find_spec('gymnasium'); import gymnasium",
    "in two threads": "import agentrl, threading\n"
    "def load(): import gymnasium\n"
    "threads = [threading.Thread(target=load) for _ in range(2)]\n"
    "[t.start() for t in threads]; [t.join() for t in threads]; import gymnasium",
}
MADE = "\nenv = gymnasium.make('agentrl/Code-v0'); assert env.reset(seed=1)[0]; env.close()"
GONE = "\nimport sys; assert not [f for f in sys.meta_path if 'agentrl' in type(f).__module__]"


@pytest.mark.parametrize("code", ORDERS.values(), ids=ORDERS.keys())
def test_the_id_is_known_in_either_order(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code + MADE + GONE], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_failing_import_leaves_the_hook_in_place(tmp_path: Any) -> None:
    (tmp_path / "gymnasium.py").write_text("raise ImportError('broken')")
    code = (
        f"import sys, agentrl; sys.path.insert(0, {str(tmp_path)!r})\n"
        "try: import gymnasium\n"
        "except ImportError as error: assert 'broken' in str(error)\n"
        "sys.path.pop(0); sys.path_importer_cache.clear(); import gymnasium"
    )
    done = subprocess.run([sys.executable, "-c", code + MADE + GONE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_gymnasiums_own_checker_passes() -> None:
    before = children()
    env = gymnasium.make("agentrl/Code-v0")
    check_env(env.unwrapped)
    env.close()
    assert children() == before


def test_an_episode_through_gymnasium() -> None:
    before = children()
    env = gymnasium.make("agentrl/Code-v0", level=2)
    text, _ = env.reset(seed=3)
    assert text.startswith("Write a Python function")
    shown, reward, terminated, truncated, info = env.step(
        '{"name": "python", "arguments": {"code": "print(6*7)"}}'
    )
    assert (shown, reward, terminated, truncated, info["correct"]) == ("42", 0.0, False, False, None)
    expert: Any = env.unwrapped
    done = env.step(expert.expert([text, shown]).text)
    assert done[1:3] == (1.0, True) and done[4]["correct"]
    env.close()
    env.close()
    assert children() == before


def test_the_same_task_whoever_makes_the_instance() -> None:
    from agentrl.envs.code.env import CodeEnv

    made = gymnasium.make("agentrl/Code-v0")
    for seed in range(20):
        assert made.reset(seed=seed)[0] == CodeEnv().reset(seed=seed)[0]
    made.close()
