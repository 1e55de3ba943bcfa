"""pgbouncer with transaction pooling before a PostgreSQL server: the system's, else Debian's package, unpacked."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

PACKAGES = ("pgbouncer", "libevent-2.1-7", "libc-ares2")


class PgBouncer:
    """``url`` leads to a database through the pool. Raises `FileNotFoundError` where there is no pgbouncer."""

    def __init__(self, database: str, mode: str = "transaction") -> None:
        from tests.servers.ports import free_port, wait_for

        self._folder = Path(tempfile.mkdtemp(prefix="reconcile-pool-"))
        self._folder.chmod(0o755)
        program, libraries = _program(self._folder)
        parts = urlsplit(database)
        name, port = parts.path.removeprefix("/"), free_port()
        (self._folder / "users").write_text('"anchore" ""\n')
        settings = self._folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n{name} = host=127.0.0.1 port={parts.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {self._folder}/users\n"
            f"pool_mode = {mode}\ndefault_pool_size = 10\nignore_startup_parameters = extra_float_digits\n"
            f"logfile = {self._folder}/log\n"
        )
        (self._folder / "log").touch(0o666)
        (self._folder / "log").chmod(0o666)
        self._process = subprocess.Popen(
            [program, settings],
            user="nobody" if os.geteuid() == 0 else None,
            env=os.environ | {"LD_LIBRARY_PATH": libraries},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(port)
        time.sleep(0.1)
        self.url = f"postgresql://anchore@127.0.0.1:{port}/{name}"

    def close(self) -> None:
        """Stop the pool."""
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _program(folder: Path) -> tuple[str, str]:
    """Return the path of pgbouncer, and where its libraries are."""
    installed = shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin")
    if installed:
        return installed, ""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise FileNotFoundError("pgbouncer")
    got = subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, check=False, capture_output=True, timeout=300)
    if got.returncode:
        raise FileNotFoundError("pgbouncer")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder / "root"], check=True, capture_output=True)
    libraries = {str(path.parent) for path in (folder / "root").rglob("lib*.so*")}
    return str(folder / "root/usr/sbin/pgbouncer"), ":".join(sorted(libraries))
