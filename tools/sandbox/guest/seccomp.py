"""Which system calls the code in a sandbox may make, as BPF programs for x86-64 and 64-bit ARM.

What is known to be harmful is denied, and every call newer than `NEWEST`: a kernel update opens nothing.
"""

import errno
import struct
from collections.abc import Iterable, Sequence

NEWEST = 451
"""cachestat, Linux 6.5; the x32 calls of x86-64 lie above it too."""

_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LOAD, _JUMP, _EQUAL, _GREATER, _AT_LEAST, _MASK, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x35, 0x54, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_DENIED = _ERROR | errno.EPERM
_NUMBER, _ARCH = 0, 4

_EVERYWHERE = """
ptrace:101,117 process_vm_readv:310,270 process_vm_writev:311,271 kcmp:312,272 pidfd_getfd:438,438
process_madvise:440,440 process_mrelease:448,448 bpf:321,280 perf_event_open:298,241 userfaultfd:323,282
io_uring_setup:425,425 io_uring_enter:426,426 io_uring_register:427,427 add_key:248,217 request_key:249,218
keyctl:250,219 mount:165,40 umount2:166,39 pivot_root:155,41 chroot:161,51 setns:308,268 unshare:272,97
move_mount:429,429 open_tree:428,428 fsopen:430,430 fsconfig:431,431 fsmount:432,432 fspick:433,433
mount_setattr:442,442 open_by_handle_at:304,265 name_to_handle_at:303,264 init_module:175,105
finit_module:313,273 delete_module:176,106 kexec_load:246,104 kexec_file_load:320,294 reboot:169,142
swapon:167,224 swapoff:168,225 acct:163,89 quotactl:179,60 quotactl_fd:443,443 syslog:103,116
settimeofday:164,170 clock_settime:227,112 adjtimex:159,171 clock_adjtime:305,266 sethostname:170,161
setdomainname:171,162 iopl:172,- ioperm:173,- modify_ldt:154,- vhangup:153,58 nfsservctl:180,42
personality:135,92 fanotify_init:300,262 fanotify_mark:301,263 lookup_dcookie:212,18 uselib:134,-
sysfs:139,- _sysctl:156,- memfd_create:319,279 memfd_secret:447,447 shmget:29,194 shmat:30,196 shmctl:31,195
semget:64,190 semop:65,193 semctl:66,191 semtimedop:220,192 msgget:68,186 msgsnd:69,189 msgrcv:70,188
msgctl:71,187 mq_open:240,180 mq_unlink:241,181 migrate_pages:256,238 move_pages:279,239 socket:41,198
connect:42,203 bind:49,200 listen:50,201 accept:43,202 accept4:288,242 sendmsg:46,211
sendmmsg:307,269 seccomp:317,277 inotify_init:253,- inotify_init1:294,26 sync:162,81 syncfs:306,267
io_setup:206,0 io_destroy:207,1 io_getevents:208,4 io_submit:209,2 io_cancel:210,3
io_pgetevents:333,292 setsockopt:54,208 setsid:112,157
"""
"""name:x86-64,ARM of calls that no level allows; '-' where the machine has no such call.

Among them are calls that use up what one user may have of something, in all namespaces together:
messages in flight with descriptors, inotify, asynchronous input and output. `setsockopt` would let a socket
pair keep more in the kernel, where no limit counts it. The scheduler gives each session the same share of the
processors, so a sandbox has one and no more; groups of processes (`setpgid`) are its own affair.
"""

_ONE_PROCESS = """
execve:59,221 execveat:322,281 fork:57,- vfork:58,- tkill:200,130 rt_sigqueueinfo:129,138
rt_tgsigqueueinfo:297,240 pidfd_open:434,434 pidfd_send_signal:424,424 truncate:76,45
setpriority:141,140 sched_setattr:314,274 sched_setparam:142,118 sched_setscheduler:144,119
ioprio_set:251,30 get_robust_list:274,100
"""
"""Denied besides where the process shares its user and its process numbers with the host."""

_NOT_OWNED = """
chmod:90,- fchmod:91,52 fchmodat:268,53 chown:92,- fchown:93,55 lchown:94,- fchownat:260,54 utime:132,-
utimes:235,- utimensat:280,88 futimesat:261,- setxattr:188,5 lsetxattr:189,6 fsetxattr:190,7
removexattr:197,14 lremovexattr:198,15 fremovexattr:199,16
"""
"""Changes of a file's attributes, which Landlock does not cover: they do nothing and report success."""

_SOCKETPAIR, _IOCTL, _FCNTL, _PRCTL = (53, 199), (16, 29), (72, 25), (157, 167)
_CLONE, _CLONE3, _OPENAT2, _OPEN, _OPENAT = (56, 220), (435, 435), (437, 437), (2, None), (257, 56)
_KILL_CALL, _TGKILL, _PRLIMIT, _AFFINITY = (62, 129), (234, 131), (302, 261), (203, 122)
_TERMINAL_SIZE_AND_PLAIN = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
_OWNER_LEASE_NOTIFY_PIPE_SIZE = (8, 10, 15, 1024, 1026, 1031)
_DEATH_SIGNAL_AND_DUMPABLE = (1, 4)
_NEW_NAMESPACES, _THREAD, _SAME_FILES = 0x7E020080, 0x00010000, 0x00000400
_MMAP, _SHARED_ANONYMOUS = (9, 222), 0x21
_TRUNCATE, _TRUNCATE_OR_WRITE = 0o1000, 0o1003

_THIS_PROCESS = 0x7EADBEEF
"""Stands for a process number that is not known yet; larger than any."""

Instruction = tuple[int, int, int, int]


def _ret(action: int) -> Instruction:
    return (_RETURN, 0, 0, action)


def _error(number: int) -> int:
    return _ERROR | number


def _argument(index: int) -> Instruction:
    """Load the low half of an argument: flags, descriptors and process numbers are 32 bits wide."""
    return (_LOAD, 0, 0, 16 + 8 * index)


class _Program:
    """Rules by call number, each a block that always returns; calls without a rule are allowed."""

    def __init__(self, machine: str) -> None:
        self._machine, self._column = machine, list(_ARCHITECTURE).index(machine)
        self._blocks: dict[int, list[Instruction]] = {}

    def answer(self, table: str, number: int) -> None:
        """Let every call of the table fail with an error number; 0 is a success that does nothing."""
        for entry in table.split():
            known = entry.partition(":")[2].split(",")[self._column]
            if known != "-":
                self._blocks[int(known)] = [_ret(_error(number))]

    def rule(self, call: Sequence[int | None], *block: Instruction) -> None:
        """Let a block decide about one call."""
        number = call[self._column]
        if number is not None:
            self._blocks[number] = list(block)

    def only(self, call: Sequence[int | None], argument: int, allowed: Iterable[int], error: int) -> None:
        """Allow a call with these values of an argument."""
        tests = [step for value in allowed for step in ((_EQUAL, 0, 1, value), _ret(_ALLOW))]
        self.rule(call, _argument(argument), *tests, _ret(_error(error)))

    def never(self, call: Sequence[int | None], argument: int, denied: Iterable[int]) -> None:
        """Deny a call with these values of an argument."""
        tests = [step for value in denied for step in ((_EQUAL, 0, 1, value), _ret(_DENIED))]
        self.rule(call, _argument(argument), *tests, _ret(_ALLOW))

    def masked(
        self, call: Sequence[int | None], argument: int, mask: int, value: int, *, allow: bool
    ) -> None:
        """Decide by whether argument & mask == value."""
        hit, miss = (_ALLOW, _DENIED) if allow else (_DENIED, _ALLOW)
        test = (_EQUAL, 0, 1, value)
        self.rule(call, _argument(argument), (_MASK, 0, 0, mask), test, _ret(hit), _ret(miss))

    def assemble(self) -> bytes:
        code = [
            (_LOAD, 0, 0, _ARCH),
            (_EQUAL, 1, 0, _ARCHITECTURE[self._machine]),
            _ret(_KILL),
            (_LOAD, 0, 0, _NUMBER),
            (_GREATER, 0, 1, NEWEST),
            _ret(_error(errno.ENOSYS)),
            *_search(sorted(self._blocks.items())),
        ]
        return b"".join(struct.pack("=HBBI", *step) for step in code)


def _search(blocks: list[tuple[int, list[Instruction]]]) -> list[Instruction]:
    """A binary search: the kernel tries every call number when a filter is installed, so long lists cost."""
    if len(blocks) <= 3:
        tests = [step for number, block in blocks for step in ((_EQUAL, 0, len(block), number), *block)]
        return [*tests, _ret(_ALLOW)]
    middle = len(blocks) // 2
    lower = _search(blocks[:middle])
    jump = (_JUMP, 0, 0, len(lower))
    return [(_AT_LEAST, 0, 1, blocks[middle][0]), jump, *lower, *_search(blocks[middle:])]


def _common(machine: str) -> _Program:
    program = _Program(machine)
    program.answer(_EVERYWHERE, errno.EPERM)
    program.rule(_CLONE3, _ret(_error(errno.ENOSYS)))
    program.rule(  # a connected pair of streams cannot be turned to another address; datagrams could
        _SOCKETPAIR,
        _argument(0),
        (_EQUAL, 0, 3, 1),
        _argument(1),
        (_MASK, 0, 0, 0xF),
        (_EQUAL, 1, 0, 1),
        _ret(_error(errno.EPERM)),
        _ret(_ALLOW),
    )
    program.only(_IOCTL, 1, _TERMINAL_SIZE_AND_PLAIN, errno.ENOTTY)
    program.never(_FCNTL, 1, _OWNER_LEASE_NOTIFY_PIPE_SIZE)
    program.never(_PRCTL, 0, _DEATH_SIGNAL_AND_DUMPABLE)
    # shared memory without a file: its pages live on where no process seems to hold them
    program.masked(_MMAP, 3, _SHARED_ANONYMOUS, _SHARED_ANONYMOUS, allow=False)
    return program


def for_namespaces(machine: str) -> bytes:
    """The program for a process in namespaces of its own: it may start others, but no namespaces."""
    program = _common(machine)
    program.masked(_CLONE, 0, _NEW_NAMESPACES, 0, allow=True)
    return program.assemble()


def for_landlock(machine: str) -> bytes:
    """The program for a process that shares the host's process numbers: it stays alone, signals only itself.

    `for_process` puts its number in.
    """
    program = _common(machine)
    thread = _THREAD | _SAME_FILES  # one table of open files, which the watchdog reads
    program.masked(_CLONE, 0, thread | _NEW_NAMESPACES, thread, allow=True)
    program.rule(_OPENAT2, _ret(_error(errno.ENOSYS)))
    for call, argument in ((_OPEN, 1), (_OPENAT, 2)):  # O_RDONLY | O_TRUNC, which Landlock 1 and 2 miss
        program.masked(call, argument, _TRUNCATE_OR_WRITE, _TRUNCATE, allow=False)
    for call in (_KILL_CALL, _TGKILL):
        program.only(call, 0, (_THIS_PROCESS,), errno.EPERM)
    for call in (_PRLIMIT, _AFFINITY):
        program.only(call, 0, (0, _THIS_PROCESS), errno.EPERM)
    program.answer(_ONE_PROCESS, errno.EPERM)
    program.answer(_NOT_OWNED, 0)
    return program.assemble()


def for_process(program: bytes, pid: int) -> bytes:
    """The program of `for_landlock` for one process."""
    return program.replace(struct.pack("=I", _THIS_PROCESS), struct.pack("=I", pid))
