"""Attacks by the kernel's own calls: namespaces, mounts, keys, programs in the kernel, the machine itself."""

from tests.tools.attack.kinds import Attack

NAMESPACES = {
    "mounts": 0x00020000,
    "processes": 0x20000000,
    "network": 0x40000000,
    "IPC": 0x08000000,
    "names": 0x04000000,
    "cgroups": 0x02000000,
}

ATTACKS = {
    "new user namespace": Attack("""
if LIBC.unshare(0x10000000) == 0: emit("escaped")
"""),
    **{
        f"new namespace of {name}": Attack(
            f"""
if LIBC.unshare({flag}) == 0: emit("escaped")
""",
            root=True,
        )
        for name, flag in NAMESPACES.items()
    },
    "new user namespace by clone": Attack("""
if call((56, 220), 0x10000000 | 17, 0, 0, 0, 0) == 0: os._exit(0)
emit("escaped")
"""),
    "new user namespace by clone3": Attack("""
how = (ctypes.c_uint64 * 8)(0x10000000, 0, 0, 0, 17)
if call((435, 435), how, 64) == 0: os._exit(0)
emit("escaped")
"""),
    "enter a namespace": Attack(
        """
call((308, 268), os.open("/proc/self/ns/uts", os.O_RDONLY), 0); emit("escaped")
""",
        root=True,
    ),
    "mount": Attack(
        """
os.mkdir("place")
call((165, 40), b"none", b"place", b"tmpfs", 0, 0); call((166, 39), b"place", 0); emit("escaped")
""",
        root=True,
    ),
    "mount in the new way": Attack(
        """
call((430, 430), b"tmpfs", 0); emit("escaped")
""",
        root=True,
    ),
    "open a tree": Attack("""
call((428, 428), -100, b"/", 0); emit("escaped")
"""),
    "keys: add": Attack("""
call((248, 217), b"user", b"agentrl-attack", b"x", 1, -1); emit("escaped")
"""),
    "keys: find": Attack("""
try: call((249, 218), b"user", b"agentrl-attack-none", 0, 0)
except OSError as error:
    if error.errno == 126: emit("escaped")
"""),
    "keys: the session's": Attack("""
call((250, 219), 0, -3, 1); emit("escaped")
"""),
    "io_uring": Attack("""
call((425, 425), 4, ctypes.create_string_buffer(120)); emit("escaped")
"""),
    "BPF": Attack(
        """
how = (ctypes.c_uint32 * 18)(2, 4, 4, 1)
call((321, 280), 0, how, 72); emit("escaped")
""",
        root=True,
    ),
    "counters": Attack(
        """
how = (ctypes.c_uint32 * 32)(1, 128)
call((298, 241), how, 0, -1, -1, 0); emit("escaped")
""",
        root=True,
    ),
    "page faults": Attack("""
call((323, 282), 1); emit("escaped")
"""),
    "memory that nobody sees": Attack("""
call((447, 447), 0); emit("escaped")
"""),
    "a file without a name": Attack("""
os.memfd_create("x"); emit("escaped")
"""),
    "all changes of files": Attack(
        """
call((300, 262), 0, 0); emit("escaped")
""",
        root=True,
    ),
    "changes of files": Attack("""
if LIBC.inotify_init() >= 0: emit("escaped")
"""),
    "asynchronous input and output": Attack("""
context = ctypes.c_ulong()
call((206, 0), 10, ctypes.byref(context)); emit("escaped")
"""),
    "shared memory": Attack("""
call((31, 195), call((29, 194), 0, 4096, 0o600), 0, 0); emit("escaped")
"""),
    "semaphores": Attack("""
call((66, 191), call((64, 190), 0, 1, 0o600), 0, 0); emit("escaped")
"""),
    "messages": Attack("""
call((71, 187), call((68, 186), 0, 0o600), 0, 0); emit("escaped")
"""),
    "queues": Attack("""
name = ABSTRACT.encode()
call((240, 180), name, os.O_CREAT | os.O_RDWR, 0o600, 0); call((241, 181), name); emit("escaped")
"""),
    "personality": Attack("""
if LIBC.personality(0xFFFFFFFF) != -1: emit("escaped")
"""),
    "clock": Attack("""
call((159, 171), ctypes.create_string_buffer(400)); emit("escaped")
"""),
    "messages of the kernel": Attack(
        """
call((103, 116), 10, 0, 0); emit("escaped")
""",
        root=True,
    ),
    "name of the machine": Attack(
        """
name = os.uname().nodename.encode()
call((170, 161), name, len(name)); emit("escaped")
""",
        root=True,
    ),
    "reboot": Attack(
        """
try: call((169, 142), 1, 2, 3, 0)
except OSError as error:
    if error.errno == errno.EINVAL: emit("escaped")  # past the check of rights; no such order
""",
        root=True,
    ),
    "swap": Attack(
        """
try: call((167, 224), b"/no/such/file", 0)
except OSError as error:
    if error.errno == errno.ENOENT: emit("escaped")
""",
        root=True,
    ),
    "modules": Attack(
        """
try: call((176, 106), b"no-such-module", 0)
except OSError as error:
    if error.errno == errno.ENOENT: emit("escaped")
""",
        root=True,
    ),
    "ports of the machine": Attack(
        """
call((173, None), 0x80, 1, 1); emit("escaped")
""",
        root=True,
    ),
    "segments": Attack("""
call((154, None), 0, ctypes.create_string_buffer(16), 16); emit("escaped")
"""),
    "a call by the 32-bit door": Attack("""
import mmap
if os.uname().machine != "x86_64": emit("absent"); raise SystemExit
code = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
code.write(bytes.fromhex("b814000000 cd80 c3"))  # getpid
if ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))() == os.getpid():
    emit("escaped")
"""),
    "larger pipes": Attack("""
import fcntl
r, w = os.pipe()
fcntl.fcntl(w, 1031, 1 << 18); emit("escaped")
"""),
    "larger socket buffers": Attack("""
import socket
a, b = socket.socketpair()
a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17); emit("escaped")
"""),
    "many sockets": Attack("""
import socket
pairs = [socket.socketpair() for _ in range(40)]; emit("escaped")
"""),
    "many timers": Attack("""
for _ in range(2000):
    call((222, 107), 1, 0, ctypes.byref(ctypes.c_int()))
emit("escaped")
"""),
    "descriptors in flight": Attack("""
import socket
a, b = socket.socketpair()
for _ in range(20): socket.send_fds(a, [b"x"], [0, 1, 2])
emit("escaped")
"""),
}
