"""Attacks on other processes: signals, tracing, memory, descriptors, limits; and on other episodes."""

from tests.tools.attack.kinds import Attack

ATTACKS = {
    "signal": Attack("""
os.kill(HOST_PID, 0); emit("escaped")
"""),
    "signal to all": Attack("""
os.kill(-1, 0); emit("escaped")
"""),
    "signal to a group": Attack("""
os.killpg(HOST_GROUP, 0); emit("escaped")
"""),
    "signal to a thread": Attack("""
call((234, 131), HOST_PID, HOST_PID, 0); emit("escaped")
"""),
    "signal to a thread, the old way": Attack("""
call((200, 130), HOST_PID, 0); emit("escaped")
"""),
    "signal with data": Attack("""
info = (ctypes.c_int * 32)(0, 0, -1)
call((129, 138), HOST_PID, 0, info); emit("escaped")
"""),
    "signal by a descriptor": Attack("""
import signal
signal.pidfd_send_signal(os.pidfd_open(HOST_PID), 0); emit("escaped")
"""),
    "signal by a ready descriptor": Attack("""
import fcntl
r, w = os.pipe()
fcntl.fcntl(r, fcntl.F_SETOWN, HOST_PID)
if fcntl.fcntl(r, fcntl.F_GETOWN) == HOST_PID: emit("escaped")
"""),
    "trace itself": Attack("""
if LIBC.ptrace(0, 0, 0, 0) == 0: emit("escaped")
"""),
    "trace": Attack(
        """
call((101, 117), 0x4206, HOST_PID, 0, 0); call((101, 117), 0x4207, HOST_PID, 0, 0)
os.waitpid(HOST_PID, 0x40000000); call((101, 117), 17, HOST_PID, 0, 0); emit("escaped")
""",
        root=True,
    ),
    "read memory": Attack(
        """
mine = ctypes.create_string_buffer(6)
vector = lambda address: (ctypes.c_size_t * 2)(address, 6)
call((310, 270), HOST_PID, vector(ctypes.addressof(mine)), 1, vector(ADDRESS), 1, 0)
if mine.raw == b"secret": emit("escaped")
""",
        root=True,
    ),
    "write memory": Attack(
        """
mine = ctypes.create_string_buffer(b"secret", 6)
vector = lambda address: (ctypes.c_size_t * 2)(address, 6)
if call((311, 271), HOST_PID, vector(ctypes.addressof(mine)), 1, vector(ADDRESS), 1, 0) == 6: emit("escaped")
""",
        root=True,
    ),
    "take a descriptor": Attack(
        """
call((438, 438), os.pidfd_open(HOST_PID), 1, 0); emit("escaped")
""",
        root=True,
    ),
    "compare": Attack(
        """
call((312, 272), os.getpid(), HOST_PID, 2, 0, 0); emit("escaped")
""",
        root=True,
    ),
    "advise": Attack(
        """
one = (ctypes.c_size_t * 2)(ADDRESS & -4096, 4096)
call((440, 440), os.pidfd_open(HOST_PID), one, 1, 20, 0); emit("escaped")
""",
        root=True,
    ),
    "limits": Attack("""
import resource
now = resource.prlimit(HOST_PID, resource.RLIMIT_CORE); emit("escaped")
"""),
    "processors": Attack("""
os.sched_setaffinity(HOST_PID, os.sched_getaffinity(HOST_PID)); emit("escaped")
"""),
    "priority": Attack("""
os.setpriority(os.PRIO_PROCESS, HOST_PID, os.getpriority(os.PRIO_PROCESS, HOST_PID)); emit("escaped")
"""),
    "scheduling": Attack("""
os.sched_setscheduler(HOST_PID, os.SCHED_OTHER, os.sched_param(0)); emit("escaped")
"""),
    "locks": Attack("""
head, size = ctypes.c_void_p(), ctypes.c_size_t()
call((274, 100), HOST_PID, ctypes.byref(head), ctypes.byref(size)); emit("escaped")
"""),
    "one's own limits": Attack("""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (65, 65)); emit("escaped")
"""),
    "one's own priority": Attack(
        """
os.nice(-5); emit("escaped")
""",
        root=True,
    ),
    "before all others": Attack(
        """
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)); emit("escaped")
""",
        root=True,
    ),
    "rights of root": Attack(
        """
os.setresuid(0, 0, 0)
rights = (ctypes.c_uint32 * 6)()
call((125, 90), (ctypes.c_uint32 * 2)(0x20080522, 0), rights)
if any(rights): emit("escaped")
""",
        root=True,
    ),
    "outlive the parent": Attack("""
if LIBC.prctl(1, 0, 0, 0, 0) == 0: emit("escaped")
"""),
    "hide from /proc": Attack("""
if LIBC.prctl(4, 0, 0, 0, 0) == 0: emit("escaped")
"""),
    "a session, so a share of the processors": Attack("""
if os.fork() == 0:
    try: os.setsid()
    finally: os._exit(7 if os.getsid(0) == os.getpid() else 0)
if os.waitstatus_to_exitcode(os.wait()[1]) == 7: emit("escaped")
"""),
    "episodes: files": Attack("""
above, name = os.path.dirname(os.getcwd()), "from-another-episode"
for place in [os.getcwd(), *(os.path.join(above, other) for other in os.listdir(above))]:
    if os.path.exists(os.path.join(place, name)): emit("escaped")
"""),
    "episodes: processes": Attack("""
others = [p for p in os.listdir("/proc") if p.isdigit() and p != str(os.getpid())]
if others: emit("escaped")
"""),
    "episodes: shared memory that has a name": Attack("""
if os.path.exists("/dev/shm/" + EPISODE): emit("escaped")
"""),
    "episodes: a name in the kernel": Attack(r"""
import socket
s = socket.socket(socket.AF_UNIX)
try: s.bind("\0" + EPISODE)
except OSError as error:
    if error.errno == errno.EADDRINUSE: emit("escaped")
"""),
}
