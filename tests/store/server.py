"""A PostgreSQL server of our own."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def postgres_server() -> Iterator[str]:
    """Start one on a socket, as a user without rights; gives its address."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"))
    folder = Path(tempfile.mkdtemp(prefix="agentrl-pg-", dir="/tmp"))
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    shutil.chown(folder, user)
    data = folder / "data"
    init = (binaries / "initdb", "-D", data, "-A", "trust", "-U", "agentrl", "--no-sync", "-E", "UTF8")
    subprocess.run([*map(str, init)], user=user, cwd=folder, check=True, capture_output=True)
    command = (binaries / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-F")
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([*map(str, command)], user=user, cwd=folder, stdout=log, stderr=log)
    url = f"postgresql://agentrl@/postgres?host={folder}"
    ready = [str(binaries / "pg_isready"), "-q", "-h", str(folder)]
    while subprocess.run(ready).returncode:
        assert server.poll() is None, (folder / "log").read_text()
        time.sleep(0.05)
    yield url
    server.terminate()
    server.wait(30)
    shutil.rmtree(folder)
