"""Attacks on what the machine has to share out: processes, memory, disk, processors, output."""

from tests.tools.attack.kinds import Attack

ATTACKS = {
    "fork bomb": Attack("""
import time
children = 0
for _ in range(40):
    if os.fork() == 0: time.sleep(60)
    children += 1
    if children > 20: emit("escaped"); break
"""),
    "threads without end": Attack("""
import threading, time
threading.stack_size(32768)
for _ in range(300):
    threading.Thread(target=time.sleep, args=(3,), daemon=True).start(); time.sleep(0.002)
time.sleep(0.5)
emit("escaped")
"""),
    "memory: one process": Attack("""
blocks = [bytearray(16 << 20) for _ in range(20)]
emit("escaped")
"""),
    "memory: the tree": Attack("""
import time
done = os.pipe()
for _ in range(5):
    if os.fork() == 0:
        block = bytearray(80 << 20); os.write(done[1], b"x"); time.sleep(60)
for _ in range(5): os.read(done[0], 1)
time.sleep(1)
emit("escaped")
"""),
    "memory: shared": Attack("""
import mmap
maps = [mmap.mmap(-1, 40 << 20) for _ in range(10)]
for m in maps: m.write(b"x" * (40 << 20))
emit("escaped")
"""),
    "memory: shared and dropped": Attack("""
import mmap
def fill():
    block = mmap.mmap(-1, 60 << 20)
    for at in range(0, 60 << 20, 4096): block[at] = 1
    block.madvise(mmap.MADV_DONTNEED)
    return block
exec(HOLD)
"""),
    "memory: shared through a device": Attack("""
import mmap
def fill():
    block = mmap.mmap(os.open("/dev/zero", os.O_RDWR), 60 << 20)
    for at in range(0, 60 << 20, 4096): block[at] = 1
    block.madvise(mmap.MADV_DONTNEED)
    return block
exec(HOLD)
"""),
    "memory: behind a first thread that has ended": Attack("""
import threading, time
blocks, ready = [], threading.Event()
exit_thread = {"x86_64": 60, "aarch64": 93}[os.uname().machine]
def keep():
    blocks.append(bytearray(b"x") * (60 << 20)); time.sleep(0.1); os.write(done[1], b"x"); time.sleep(60)
done = os.pipe()
for _ in range(3):
    if os.fork() == 0:
        threading.Thread(target=keep).start(); ctypes.CDLL(None).syscall(exit_thread, 0)
for _ in range(3): os.read(done[0], 1)
time.sleep(1)
emit("escaped")
"""),
    "memory: files without a name": Attack("""
for n in range(20):
    fd = os.memfd_create(str(n)); os.write(fd, b"x" * (8 << 20))
emit("escaped")
"""),
    "disk: one file": Attack("""
with open("big", "wb") as file:
    for _ in range(12): file.write(b"x" * (1 << 20)); file.flush()
emit("escaped")
"""),
    "disk: deleted files": Attack("""
import time
held = []
for n in range(30):
    held.append(open(f"f{n}", "wb")); held[-1].write(b"x" * (4 << 20))
    held[-1].flush(); os.unlink(f"f{n}")
    time.sleep(0.02)
emit("escaped")
"""),
    "disk: deleted files that are only mapped": Attack("""
import time
map_file = ctypes.CDLL(None).mmap
map_file.restype, map_file.argtypes = ctypes.c_void_p, (ctypes.c_void_p, *[ctypes.c_size_t] * 5)
for n in range(10):
    with open(f"f{n}", "w+b") as file:
        file.write(b"x" * (4 << 20)); file.flush()
        assert map_file(None, 4096, 1, 2, file.fileno(), 0) != ctypes.c_void_p(-1).value
        os.unlink(f"f{n}")
    time.sleep(0.03)
time.sleep(0.5)
emit("escaped")
"""),
    "disk: many files": Attack("""
import time
for n in range(500):
    open(f"f{n}", "w").close()
    if n % 100 == 0: time.sleep(0.03)
time.sleep(1); emit("escaped")
"""),
    "disk: out of the watchdog's sight": Attack("""
import time
for _ in range(20): os.mkdir("d" * 250); os.chdir("d" * 250)
os.mkdir("hidden", 0o300); os.chdir("hidden")
for n in range(10):
    with open(f"f{n}", "wb") as file: file.write(b"x" * (4 << 20))
    time.sleep(0.1)
emit("escaped")
"""),
    "CPU": Attack("""
while sum(os.times()[:2]) < 2: sum(range(100000))
emit("escaped")
"""),
    "CPU: children that nobody waits for": Attack("""
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
r, w = os.pipe()
for _ in range(8):
    if os.fork() == 0:
        while sum(os.times()[:2]) < 0.25: sum(range(10000))
        os.write(w, b"x"); os._exit(0)
    os.read(r, 1)
emit("escaped")
"""),
    "zombies": Attack("""
import time
for _ in range(40):
    if os.fork() == 0: os._exit(0)
time.sleep(0.5); emit("escaped")
"""),
    "memory: threads": Attack("""
import threading, time
held = []
threads = [threading.Thread(target=lambda: held.append(bytearray(b"x") * (50 << 20))) for _ in range(6)]
for t in threads: t.start()
for t in threads: t.join()
time.sleep(0.5)
if len(held) == 6: emit("escaped")
"""),
    "memory: reserved": Attack("""
import mmap
mmap.mmap(-1, 64 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000); emit("escaped")
"""),
    "memory: the folder for shared memory": Attack("""
import time
with open("/dev/shm/" + ABSTRACT + "-flood", "wb") as file:
    os.unlink(file.name)
    for _ in range(20): file.write(b"x" * (1 << 20))
emit("escaped")
"""),
    "disk: a sparse terabyte": Attack("""
with open("sparse", "wb") as file: file.truncate(1 << 40)
emit("escaped")
"""),
    "disk: reserved": Attack("""
fd = os.open("reserved", os.O_CREAT | os.O_RDWR)
os.posix_fallocate(fd, 0, 64 << 20); emit("escaped")
"""),
    "disk: several files at once": Attack("""
import threading, time
def fill(name):
    with open(name, "wb") as file:
        for _ in range(6): file.write(b"x" * (1 << 20)); file.flush(); time.sleep(0.05)
    done.append(name)
done, threads = [], [threading.Thread(target=fill, args=(f"f{n}",)) for n in range(5)]
for t in threads: t.start()
for t in threads: t.join()
time.sleep(1.5)
if len(done) == 5: emit("escaped")
"""),
    "disk: folders 10,000 deep": Attack("""
import time
for n in range(10000):
    os.mkdir("d"); os.chdir("d")
    if n % 100 == 0: time.sleep(0.05)
    if n == 400: time.sleep(1); emit("escaped"); break
"""),
    "disk: many links": Attack("""
import time
for n in range(500):
    os.symlink("/", f"l{n}")
    if n % 100 == 0: time.sleep(0.03)
time.sleep(1); emit("escaped")
"""),
    "disk: many names of one file": Attack("""
import time
open("one", "w").close()
for n in range(500):
    os.link("one", f"l{n}")
    if n % 100 == 0: time.sleep(0.03)
time.sleep(1); emit("escaped")
"""),
    "disk: many pipes with names": Attack("""
import time
for n in range(500):
    os.mkfifo(f"p{n}")
    if n % 100 == 0: time.sleep(0.03)
time.sleep(1); emit("escaped")
"""),
}
