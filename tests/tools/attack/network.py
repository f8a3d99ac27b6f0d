"""Attacks by sockets: one family, protocol or way of addressing each."""

from tests.tools.attack.kinds import Attack

ATTACKS = {
    "TCP": Attack("""
import socket
with socket.create_connection(("127.0.0.1", PORT), timeout=2) as s:
    if s.recv(100) == b"secret": emit("escaped")
"""),
    "TCP over IPv6": Attack("""
import socket
with socket.create_connection(("::1", PORT), timeout=2) as s:
    if s.recv(100) == b"secret": emit("escaped")
"""),
    "multipath TCP": Attack("""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as s:
    s.settimeout(2); s.connect(("127.0.0.1", PORT))
    if s.recv(100) == b"secret": emit("escaped")
"""),
    "UDP": Attack("""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.settimeout(2); s.sendto(b"x", ("127.0.0.1", PORT))
    if s.recv(100) == b"secret": emit("escaped")
"""),
    "UDP over IPv6": Attack("""
import socket
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
    s.settimeout(2); s.sendto(b"x", ("::1", PORT))
    if s.recv(100) == b"secret": emit("escaped")
"""),
    "ping": Attack(
        """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as s:
    s.settimeout(2); s.sendto(bytes([8, 0, 0xf7, 0xff, 0, 0, 0, 0]), ("127.0.0.1", 0))
    if s.recv(100): emit("escaped")
""",
        root=True,
    ),
    "raw IPv6": Attack(
        """
import socket
socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW); emit("escaped")
""",
        root=True,
    ),
    "every packet of a card": Attack(
        """
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(("lo", 0)); emit("escaped")
""",
        root=True,
    ),
    "netlink: the routes": Attack("""
import socket
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
    s.bind((0, 0)); s.send(bytes([20, 0, 0, 0, 18, 0, 1, 3]) + bytes(12))
    if s.recv(100): emit("escaped")
"""),
    "netlink: the kernel's events": Attack("""
import socket
s = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15); s.bind((0, 1)); emit("escaped")
"""),
    "the virtual machine's host": Attack("""
import socket
socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); emit("escaped")
"""),
    "listening": Attack("""
import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
socket.create_connection(s.getsockname(), timeout=2); emit("escaped")
"""),
    "an abstract Unix socket": Attack(r"""
import socket
s = socket.socket(socket.AF_UNIX); s.connect("\0" + ABSTRACT)
if s.recv(100) == b"secret": emit("escaped")
"""),
    "a Unix socket that has a path": Attack("""
import socket
s = socket.socket(socket.AF_UNIX); s.connect(FOLDER + "/socket")
if s.recv(100) == b"secret": emit("escaped")
"""),
    "an abstract Unix socket of one's own": Attack(r"""
import socket
s = socket.socket(socket.AF_UNIX); s.bind("\0" + ABSTRACT + "-own"); emit("escaped")
"""),
    "a pair of datagram sockets, one turned to another address": Attack(r"""
import socket
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
a.sendto(b"hello", "\0" + ABSTRACT + "-datagram"); emit("escaped")
"""),
    "a pair of sequenced sockets": Attack("""
import socket
socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET); emit("escaped")
"""),
    "a socket by a 32-bit call": Attack("""
import ctypes, mmap
code = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
# socket(AF_INET, SOCK_STREAM, 0): eax 359, ebx 2, ecx 1, edx 0; ebx is the caller's
code.write(bytes.fromhex("53 b867010000 bb02000000 b901000000 31d2 cd80 5b c3"))
if os.uname().machine != "x86_64": emit("absent")
elif ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))() > 2: emit("escaped")
"""),
}
