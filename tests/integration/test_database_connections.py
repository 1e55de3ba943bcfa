"""How the catalog's database is reached: TLS as safely as the config says, passwords that change, odd servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import frozen

from reconcile import verbs
from reconcile.catalog import DatabaseOptions, connect
from reconcile.catalog.database_url import target_of
from reconcile.config import load_config
from reconcile.errors import CatalogError, ConfigError
from reconcile.running.phases.stage_part import PartStager
from reconcile.secret import Secret
from tests.servers.certificates import make_certificates, make_client_certificate
from tests.servers.postgresql import SCHEMA, PostgresServer
from tests.world import DB, DB2, World, localfs

SECRET = "canary-of-database"


@frozen
class Tls:
    """A server with TLS, whose certificate is for 127.0.0.1 and not for localhost."""

    server: PostgresServer
    database: str
    root: Path
    other_root: Path
    client: tuple[Path, Path]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    ours, others = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("others")
    root, pair = make_certificates(ours)
    other_root, _pair = make_certificates(others, by="another")
    clients, certificate, key = make_client_certificate(ours, "certified")
    server = PostgresServer()
    database = server.database().rpartition("/")[2]
    server.run(
        "postgres",
        f"CREATE ROLE guarded SUPERUSER LOGIN PASSWORD '{SECRET}'; CREATE ROLE certified SUPERUSER LOGIN;"
        f"CREATE ROLE open SUPERUSER LOGIN",
    )
    server.let_in(
        "host all open,ghost all trust",
        "hostssl all certified all cert",
        "hostssl all guarded all scram-sha-256",
    )
    server.offer_tls(pair, pair, clients)
    yield Tls(server, database, root, other_root, (certificate, key))
    server.close()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without certificates."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


def config_of(folder: Path, tls: Tls, arguments: dict[str, Any] | None = None, **parts: Any) -> Path:
    database = {"user": "open", "host": "127.0.0.1", "port": tls.server.port, "name": tls.database} | parts
    path = folder / "config.yaml"
    content = {
        "credentials": {"database": database | {"db_connect_args": arguments or {}}},
        "services": {"catalog": {"enabled": True}},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def session(path: Path | None, **options: Any) -> tuple[bool, str]:
    """Connect; return whether the session has TLS, and its user."""
    with (
        closing(connect(DatabaseOptions(retries=1, **options), load_config(path) if path else None)) as catalog,
        catalog.read() as connection,
    ):
        query = "SELECT ssl, current_user FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return tuple(connection.exec_driver_sql(query).one())  # type: ignore[return-value]


def test_arguments_reach_the_client_library(folder: Path, tls: Tls) -> None:
    full = {"sslmode": "verify-full", "sslrootcert": str(tls.root)}
    assert session(config_of(folder, tls, full)) == (True, "open")
    assert session(config_of(folder, tls, {"sslmode": "disable"})) == (False, "open")
    assert session(config_of(folder, tls, full, user="guarded", password=SECRET)) == (True, "guarded")
    certified = full | {"sslcert": str(tls.client[0]), "sslkey": str(tls.client[1])}
    assert session(config_of(folder, tls, certified, user="certified")) == (True, "certified")
    path = config_of(folder, tls, {"options": "-c search_path=public,elsewhere", "timeout": "7"})
    with closing(connect(DatabaseOptions(), load_config(path))) as catalog, catalog.read() as connection:
        assert connection.exec_driver_sql("SHOW search_path").scalar_one() == "public,elsewhere"


@pytest.mark.parametrize(
    ("arguments", "parts", "said", "next_"),
    [
        (
            {"sslmode": "verify-full"},
            {"host": "localhost"},
            "does not match host name",
            "a host name that is in the server's",
        ),
        ({"sslmode": "verify-full", "root": "other"}, {}, "certificate verify failed", "set sslrootcert to"),
        ({"sslmode": "verify-ca", "root": "other"}, {"host": "localhost"}, "certificate verify failed", "sslrootcert"),
        ({"ssl": True, "root": "other"}, {}, "certificate verify failed", "set sslrootcert to"),
        ({"sslmode": "disable"}, {"user": "guarded", "password": SECRET}, "no encryption", "--db-use-ssl"),
        ({}, {"user": "guarded", "password": "canary-wrong"}, "password authentication failed", "check user and"),
        ({}, {"user": "guarded"}, "no password supplied", "PGPASSFILE"),
        ({}, {"user": "certified"}, "client certificate", "sslcert and sslkey"),
        ({}, {"user": "ghost"}, 'role "ghost" does not exist', "check the user"),
        ({}, {"user": "nobody"}, "no pg_hba.conf entry", "pg_hba.conf"),
        ({}, {"name": "no_such"}, 'database "no_such" does not exist', "name of the database"),
    ],
)
def test_an_answer_is_final(
    folder: Path,
    tls: Tls,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
    parts: dict[str, Any],
    said: str,
    next_: str,
) -> None:
    """A wrong certificate, host, password, role or database: said at once, and not tried again."""
    import psycopg2

    root = {"sslrootcert": str(tls.other_root if arguments.get("root") else tls.root)} if "s" in str(arguments) else {}
    given = {name: value for name, value in arguments.items() if name != "root"}
    tried: list[dict[str, Any]] = []
    real = psycopg2.connect
    monkeypatch.setattr(psycopg2, "connect", lambda **given: (tried.append(given), real(**given))[1])
    with pytest.raises(CatalogError) as error:
        connect(DatabaseOptions(), load_config(config_of(folder, tls, root | given, **parts)))
    assert said in error.value.message
    assert next_ in str(error.value.hint)
    assert "canary" not in f"{error.value.message} {error.value.hint}"
    assert len(tried) == 1


def test_a_way_that_fails_is_tried_again(folder: Path, tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    import psycopg2

    tried: list[int] = []
    monkeypatch.setattr(
        psycopg2, "connect", lambda _real=psycopg2.connect, **given: (tried.append(1), _real(**given))[1]
    )
    with pytest.raises(CatalogError, match="Connection refused"):
        connect(DatabaseOptions(), load_config(config_of(folder, tls, port=9)))
    assert len(tried) == 3


URL = "postgresql://open@127.0.0.1:{port}/{name}"


@pytest.mark.parametrize(
    ("url", "arguments", "options", "environment", "mode"),
    [
        ("", {}, {}, {}, None),
        ("", {"ssl": True}, {}, {}, "require"),
        ("", {"ssl": "false"}, {}, {}, "require"),
        ("", {"ssl": ""}, {}, {}, None),
        ("", {"ssl": True, "sslmode": "verify-full"}, {}, {}, "verify-full"),
        ("", {"ssl": True, "sslmode": "prefer"}, {}, {}, "require"),
        ("?sslmode=verify-full", {"ssl": True}, {}, {}, "verify-full"),
        ("?sslmode=disable", {"sslmode": "verify-ca"}, {}, {}, "verify-ca"),
        ("?sslmode=verify-full", {"sslmode": "require"}, {"ssl": True}, {}, "verify-full"),
        ("?sslmode=disable", {}, {"ssl": True}, {}, "require"),
        ("?ssl=true", {}, {}, {}, "require"),
        ("?ssl=verify-full", {}, {}, {}, "verify-full"),
        ("", {}, {"ssl": True}, {"PGSSLMODE": "verify-full"}, "verify-full"),
        ("", {"ssl": True}, {}, {"PGSSLMODE": "disable"}, "require"),
        ("?sslmode=require", {}, {"ssl": True}, {"PGSSLMODE": "verify-full"}, "require"),
        ("", {}, {}, {"PGSSLMODE": "verify-full"}, None),
    ],
)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["in the config", "named by an option"])
def test_the_strictest_mode_holds(  # noqa: PLR0917
    folder: Path,
    tls: Tls,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    arguments: dict[str, Any],
    options: dict[str, Any],
    environment: dict[str, str],
    mode: str | None,
    elsewhere: bool,
) -> None:
    """Whoever asks for it; None leaves it to libpq, which has ``PGSSLMODE`` and its own default."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    root = {"sslrootcert": str(tls.root)}
    text = URL.format(port=tls.server.port, name=tls.database) + url
    path = config_of(folder, tls, arguments | root, **({} if elsewhere else {"db_connect": text}))
    given = DatabaseOptions(url=Secret(text) if elsewhere else None, **options)
    found = target_of(given, load_config(path)).arguments
    assert found.get("sslmode") == mode
    assert found["sslrootcert"] == str(tls.root)


def test_what_libpq_finds_by_itself_counts(folder: Path, tls: Tls, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".postgresql").mkdir()
    (home / ".postgresql" / "root.crt").write_bytes(tls.other_root.read_bytes())
    with pytest.raises(CatalogError, match="certificate verify failed"):
        session(config_of(folder, tls, {"ssl": True}))
    (home / ".postgresql" / "root.crt").write_bytes(tls.root.read_bytes())
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert session(config_of(folder, tls)) == (True, "open")
    with pytest.raises(CatalogError, match="does not match host name"):
        session(config_of(folder, tls, host="localhost"))


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ({"sslmode": "require", "sslrootcert": "/no/such.pem"}, {}, "/no/such.pem: no such file, but sslrootcert"),
        ({"ssl": True, "sslcert": "/no/such.pem"}, {}, "sslcert of the database connection names it"),
        ({"sslmode": "verify-full"}, {}, r"root.crt: no such file, but sslmode=verify-full"),
        ({"sslmode": "require"}, {"PGSSLROOTCERT": "/no/such.pem"}, "/no/such.pem: no such file"),
        ({"sslmode": "verify-fool"}, {}, "expected one of disable, allow, prefer, require, verify-ca, verify-full"),
        ({"timeout": "30s"}, {}, "timeout: found text that is not a whole number"),
        ({"random_arg": 1}, {}, "knows no argument 'random_arg'"),
        ({"options": "${ANCHORE_NOT_SET}"}, {}, "ANCHORE_NOT_SET is not set"),
    ],
)
def test_what_cannot_be_meant_is_a_matter_of_the_config(
    folder: Path,
    tls: Tls,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
    environment: dict[str, str],
    said: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said) as error:
        session(config_of(folder, tls, arguments))
    assert error.value.exit_code == 78


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://open:canary@part@127.0.0.1:{port}/{name}",
        "postgresql://open:x@canary/secret@127.0.0.1/{name}",
        "postgresql://open:x@y/db?canary@127.0.0.1/{name}",
        "postgresql://x@y/canary@z",
        "postgresql://y/canary@z",
        "postgresql://open:a@b:canary@127.0.0.1/{name}",
        "open:canary@127.0.0.1/{name}",
    ],
)
@pytest.mark.parametrize("where", ["option", "config"])
def test_nothing_is_shown_of_a_url_whose_password_is_anywhere(folder: Path, tls: Tls, url: str, where: str) -> None:
    text = url.format(port=tls.server.port, name=tls.database)
    path = config_of(folder, tls, **({"db_connect": text} if where == "config" else {}))
    options = {"url": Secret(text, remembered=False)} if where == "option" else {}
    with pytest.raises(ConfigError, match="the database URL") as error:
        session(path, **options)
    shown = f"{error.value.message} {error.value.hint}"
    assert "percent-encode" in shown
    for part in ("canary", "127.0.0.1", "secret", "x@y", "y/"):
        assert part not in shown


def test_a_user_at_a_server_is_accepted(folder: Path, tls: Tls) -> None:
    """As some cloud providers have it; of such a URL nothing is shown."""
    text = f"postgresql://open@server:{SECRET}@127.0.0.1:{tls.server.port}/{tls.database}"
    with pytest.raises(CatalogError) as error:
        session(config_of(folder, tls, db_connect=text))
    assert "cannot connect to the database postgresql://***:" in error.value.message
    assert "open@server" not in error.value.message
    assert SECRET not in error.value.message


PASSWORDS = ["pa%ss:w@rd/#1?&=", "with ' and \\ and \" and $x", "ümläut", "1234"]


@pytest.mark.parametrize("password", PASSWORDS)
def test_any_password_by_single_keys(folder: Path, tls: Tls, password: str) -> None:
    quoted = password.replace("'", "''")
    tls.server.run("postgres", f"ALTER ROLE guarded PASSWORD '{quoted}'")
    value = int(password) if password.isdigit() else password
    assert session(config_of(folder, tls, user="guarded", password=value)) == (True, "guarded")
    tls.server.run("postgres", f"ALTER ROLE guarded PASSWORD '{SECRET}'")


@pytest.mark.parametrize("kept", ["env file", "password file", pytest.param("config", marks=pytest.mark.matrix)])
def test_a_password_that_changes_during_a_run(
    folder: Path, tls: Tls, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    """Each new connection reads it anew, wherever it is kept."""
    name = tls.server.database().rpartition("/")[2]
    world = World(folder, f"postgresql://anchore@/{name}?host={tls.server.socket}&port={tls.server.port}")
    world.fill(12)

    def keep(password: str) -> None:
        tls.server.run("postgres", f"ALTER ROLE guarded PASSWORD '{password}'")
        monkeypatch.setenv("ANCHORE_ENV_FILE", str(folder / "env"))
        (folder / "env").write_text(f'export ANCHORE_DB_PASSWORD="{password}"\n')
        given = {"env file": "${ANCHORE_DB_PASSWORD}", "config": password, "password file": None}[kept]
        if kept == "password file":
            (folder / "pgpass").write_text(f"127.0.0.1:*:*:guarded:{password}\n")
            (folder / "pgpass").chmod(0o600)
            monkeypatch.setenv("PGPASSFILE", str(folder / "pgpass"))
        path = config_of(folder, tls, user="guarded", password=given, name=name)
        content = yaml.safe_load(path.read_text())
        content["services"]["catalog"]["object_store"] = DB
        path.write_text(yaml.safe_dump(content))

    keep("canary-first")
    dest = world.config("dest", localfs(folder / "archive"))
    plan = world.plan(folder / "config.yaml", dest)
    changed: list[bool] = []
    record = PartStager._record

    def after_a_change(self: PartStager, *arguments: Any, **more: Any) -> Any:
        if not changed:
            changed.append(True)
            keep("canary-second")
            pool: Any = self.run.catalog.engine.pool
            pool.dispose()  # as if the server had ended what was idle
        return record(self, *arguments, **more)

    monkeypatch.setattr(PartStager, "_record", after_a_change)
    assert world.apply(plan).documents == 12
    assert changed
    tls.server.run("postgres", f"ALTER ROLE guarded PASSWORD '{SECRET}'")


@pytest.fixture
def odd(folder: Path, postgresql: PostgresServer) -> Iterator[World]:
    """An archive whose role has defaults of its own."""
    url = postgresql.database()
    postgresql.run("postgres", "CREATE ROLE odd SUPERUSER LOGIN")
    world = World(folder, url.replace("anchore@", "odd@"))
    world.fill(9)
    yield world
    postgresql.run(url.rpartition("/")[2], "REASSIGN OWNED BY odd TO anchore")
    postgresql.run("postgres", "DROP ROLE odd")


def test_a_role_that_reads_only_by_default(odd: World, postgresql: PostgresServer) -> None:
    postgresql.run("postgres", "ALTER ROLE odd SET default_transaction_read_only = on")
    before = dict(World(odd.folder, odd.url.replace("odd@", "anchore@")).tables())
    source, dest = odd.config("config", DB), odd.config("dest", DB2)
    assert odd.apply(odd.plan(source, dest)).documents == 9
    odd.undo()
    assert odd.tables() == before


def test_sessions_that_may_not_be_idle(odd: World, postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock's session is idle by nature; the others are made anew."""
    postgresql.run("postgres", "ALTER ROLE odd SET idle_session_timeout = '400ms'")
    source, dest = odd.config("config", DB), odd.config("dest", localfs(odd.folder / "archive"))
    plan = odd.plan(source, dest)
    record = PartStager._record
    monkeypatch.setattr(PartStager, "_record", lambda *given, **more: (time.sleep(1.2), record(*given, **more))[1])
    assert odd.apply(plan).documents == 9


TEXTS = {"plain": "plain", "umlaut": "grüße é", "euro": "5 €", "kana": "カタカナ", "smile": "😀" * 4000}


@pytest.fixture(params=["LATIN1", *(pytest.param(name, marks=pytest.mark.matrix) for name in ("SQL_ASCII", "EUC_JP"))])
def encoded(request: pytest.FixtureRequest, folder: Path, postgresql: PostgresServer) -> World:
    """An empty archive in a database of another encoding than UTF-8."""
    name = f"encoded_{request.param.lower()}_{time.time_ns()}"
    postgresql.run(
        "postgres", f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{request.param}' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    postgresql.run(name, SCHEMA.read_text())
    return World(folder, postgresql.url(name))


def test_documents_of_any_characters_in_a_database_of_another_encoding(encoded: World) -> None:
    """They come into driver db and back, and the services read them there."""
    encoded.fill(4)
    encoded.sql("UPDATE archive_metadata SET content_url = replace(content_url, 'db://', 'db2://')")
    for number, text in enumerate(TEXTS.values()):
        name = f"text-{number}"
        key = {"userId": "admin", "bucket": "policy_bundles", "key": name, "version": ""}
        times = {"object_metadata": None, "created_at": 1, "last_updated": 1}
        encoded.insert("object_storage", key | times | {"content": text.encode()})
        encoded.row(name, text.encode(), content_url=f"db2://admin/policy_bundles/{name}")
    encoded.sql(
        """INSERT INTO object_storage ("userId", bucket, key, version, content, created_at, last_updated)"""
        """ SELECT "userId", bucket, "archiveId", '', CASE WHEN b64_encoded THEN decode(jsondata, 'base64')"""
        """ ELSE jsondata::bytea END, 1, 1 FROM archive_document"""
    )
    encoded.sql("DELETE FROM archive_document")
    source, dest = encoded.config("config", DB2), encoded.config("dest", DB)
    before, truth = encoded.tables(), encoded.read(source)
    assert truth["text-2"] == "5 €".encode()
    plan = encoded.plan(source, dest, probe="digest")
    assert encoded.apply(plan).documents == len(truth)
    assert encoded.read(dest) == truth
    assert verbs.verify(dest).ok
    encoded.undo()
    assert encoded.tables() == before


def test_text_that_such_a_database_holds(encoded: World) -> None:
    """What services have stored there as text, in the database's own encoding."""
    if "sql_ascii" in encoded.url:
        pytest.skip("services cannot store such text there")
    text = "grüße é" if "latin1" in encoded.url else "カタカナ"
    encoded.add("text", text.encode())
    encoded.fill(4)
    source, dest = encoded.config("config", DB), encoded.config("dest", localfs(encoded.folder / "archive"))
    before, truth = encoded.tables(), encoded.read(source)
    assert truth["text"] == text.encode()
    assert encoded.apply(encoded.plan(source, dest, probe="digest")).documents == len(truth)
    assert encoded.read(dest) == truth
    encoded.undo()
    assert encoded.tables() == before
