"""Attacks on the host's files, devices, /proc and /sys."""

from tests.tools.attack.kinds import Attack

ATTACKS = {
    "read": Attack("""
if "secret" in open(SECRET).read(): emit("escaped")
"""),
    "read through the shell": Attack("""
import subprocess
if "secret" in subprocess.run(["cat", SECRET], capture_output=True, text=True).stdout: emit("escaped")
"""),
    "read by a climbing path": Attack("""
if "secret" in open("../" * 40 + SECRET).read(): emit("escaped")
"""),
    "read through a link": Attack("""
os.symlink(SECRET, "link")
if "secret" in open("link").read(): emit("escaped")
"""),
    "read through a descriptor that only names": Attack("""
fd = os.open(SECRET, os.O_PATH)
if "secret" in open(f"/proc/self/fd/{fd}").read(): emit("escaped")
"""),
    "read by another call": Attack("""
how = (ctypes.c_uint64 * 3)(os.O_RDONLY, 0, 0)
fd = call((437, 437), -100, SECRET.encode(), how, 24)
if b"secret" in os.read(fd, 100): emit("escaped")
"""),
    "read by a handle": Attack(
        """
handle, mount = (ctypes.c_uint32 * 40)(128), ctypes.c_int()
call((303, 264), -100, SECRET.encode(), handle, ctypes.byref(mount), 0)
fd = call((304, 265), os.open("/", os.O_RDONLY), handle, os.O_RDONLY)
if b"secret" in os.read(fd, 100): emit("escaped")
""",
        root=True,
    ),
    "a handle": Attack("""
handle, mount = (ctypes.c_uint32 * 40)(128), ctypes.c_int()
call((303, 264), -100, SECRET.encode(), handle, ctypes.byref(mount), 0); emit("escaped")
"""),
    "read through another process": Attack("""
for one in filter(str.isdigit, os.listdir("/proc")):
    if os.path.exists(f"/proc/{one}/root" + SECRET) and one != str(os.getpid()):
        if "secret" in open(f"/proc/{one}/root" + SECRET).read(): emit("escaped")
"""),
    "list": Attack("""
if os.listdir(FOLDER): emit("escaped")
"""),
    "write": Attack("""
open(FOLDER + "/new", "w").write("x"); emit("escaped")
"""),
    "truncate while opening to read": Attack("""
os.open(SECRET + ".empty", os.O_RDONLY | os.O_TRUNC); emit("escaped")
"""),
    "truncate by path": Attack("""
os.truncate(SECRET + ".empty", 0); emit("escaped")
"""),
    "delete": Attack("""
os.unlink(FOLDER + "/to-delete"); emit("escaped")
"""),
    "rename": Attack("""
os.rename(FOLDER + "/to-rename", FOLDER + "/renamed"); emit("escaped")
"""),
    "move in": Attack("""
os.rename(FOLDER + "/to-move", "moved"); emit("escaped")
"""),
    "a second name": Attack("""
os.link(SECRET, "linked")
if "secret" in open("linked").read(): emit("escaped")
"""),
    "a folder": Attack("""
os.mkdir(FOLDER + "/folder"); emit("escaped")
"""),
    "a pipe with a name": Attack("""
os.mkfifo(FOLDER + "/pipe"); emit("escaped")
"""),
    "mode": Attack("""
os.chmod(SECRET, 0o600)
if os.stat(SECRET).st_mode & 0o777 == 0o600: emit("escaped")
"""),
    "times": Attack("""
os.utime(SECRET, (1, 1))
if os.stat(SECRET).st_mtime == 1: emit("escaped")
"""),
    "owner": Attack(
        """
os.chown(SECRET, 12345, -1)
if os.stat(SECRET).st_uid == 12345: emit("escaped")
""",
        root=True,
    ),
    "attributes": Attack("""
os.setxattr(SECRET, "user.attack", b"x")
if os.getxattr(SECRET, "user.attack") == b"x": emit("escaped")
"""),
    "leave by chroot": Attack(
        """
os.mkdir("inner"); root = os.open("/", os.O_RDONLY); os.chroot("inner"); os.fchdir(root)
if "secret" in open(SECRET[1:]).read(): emit("escaped")
""",
        root=True,
    ),
    "Python's library": Attack(
        """
os.open(os.__file__, os.O_WRONLY); emit("escaped")
""",
        root=True,
    ),
    "users": Attack("""
if "root:" in open("/etc/passwd").read(): emit("escaped")
"""),
    "the framework": Attack("""
import agentrl.errors
emit("escaped")
"""),
    "the framework's files": Attack("""
if "class" in open(FRAMEWORK).read(): emit("escaped")
"""),
    "environment": Attack("""
text = str(os.environ)
for path in ("/proc/self/environ", "/proc/1/environ", f"/proc/{os.getppid()}/environ"):
    try: text += open(path).read()
    except OSError: pass
if "AGENTRL_SECRET" in text: emit("escaped")
"""),
    "a device of one's own": Attack(
        """
import stat
os.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(1, 0)); emit("escaped")
""",
        root=True,
    ),
    "any device but the harmless": Attack("""
for name in ("ptmx", "mem", "kvm", "fuse", "net/tun", "vda", "sda", "loop0", "nvidia0", "shm/x", "mqueue/x"):
    try: os.open("/dev/" + name, os.O_RDWR | os.O_NOCTTY); emit("escaped"); break
    except OSError: pass
"""),
    "the machine's messages": Attack(
        """
os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK); emit("escaped")
""",
        root=True,
    ),
    "a terminal's input": Attack("""
import fcntl, pty, termios
ours, theirs = pty.openpty(); fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
try: fcntl.ioctl(theirs, termios.TIOCSTI, b"\\n")
except OSError as error:
    if error.errno == errno.EIO: emit("absent")
    raise
if os.read(theirs, 1) == b"\\n": emit("escaped")
"""),
    "/sys: read": Attack("""
if os.listdir("/sys/class/net"): emit("escaped")
"""),
    "/sys: write": Attack(
        """
os.open("/sys/kernel/mm/transparent_hugepage/enabled", os.O_WRONLY); emit("escaped")
""",
        root=True,
    ),
    "/proc: the machine's settings": Attack(
        """
os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY); emit("escaped")
""",
        root=True,
    ),
    "/proc: the host's memory": Attack(
        """
with open(f"/proc/{HOST_PID}/mem", "rb", buffering=0) as file:
    file.seek(ADDRESS)
    if file.read(6) == b"secret": emit("escaped")
""",
        root=True,
    ),
    "/proc: the host's mounts": Attack("""
if open(f"/proc/{HOST_PID}/mounts").read(): emit("escaped")
"""),
    "/proc: the first to go when memory ends": Attack("""
with open("/proc/self/oom_score_adj", "w") as file: file.write("1")
emit("escaped")
"""),
}
