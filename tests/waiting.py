"""Waiting for what happens soon, but not at once."""

import time
from collections.abc import Callable


def soon(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether `holds()` becomes true within `seconds`, looked at every hundredth of one."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
