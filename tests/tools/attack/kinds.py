"""What an attack is, and what its code finds when it starts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attack:
    """Code that calls `emit("escaped")` with evidence in hand, or "absent" if the kernel lacks the means."""

    code: str
    root: bool = False
    """Without walls it succeeds for root alone."""


PREAMBLE = """
import ctypes, errno, os
LIBC = ctypes.CDLL(None, use_errno=True)
def call(numbers, *arguments):
    x86, arm = numbers
    number = {"x86_64": x86, "aarch64": arm}[os.uname().machine]
    if number is None: emit("absent"); raise SystemExit
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    done = LIBC.syscall(ctypes.c_long(number), *wide)
    if done >= 0: return done
    if ctypes.get_errno() == errno.ENOSYS: emit("absent")
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
"""
"""Beside it stand the facts about the host: see `facts`."""
HOLD = """
import time
done = os.pipe()
for _ in range(5):
    if os.fork() == 0:
        os.close(done[0])
        block = fill(); os.write(done[1], b"x"); time.sleep(60)
os.close(done[1])
for _ in range(5): assert os.read(done[0], 1)
time.sleep(1)
emit("escaped")
"""
"""Five processes that keep what `fill` gives."""
