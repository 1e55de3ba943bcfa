"""R8: with canaries for every credential, nothing that the tool prints, logs, saves or records holds one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.archives import dump, md5
from tests.cli.runner import Result, reconcile
from tests.servers.moto import MotoServer
from tests.servers.postgresql import PostgresServer
from tests.servers.swift import SwiftServer
from tests.world import DB, World, s3

PASSWORD = "canary-p%40ss/word"  # with a character that URLs spell in another way
SPELLINGS = ("canary-p@ss/word", "canary-p%40ss/word", "canary-p%40ss%2Fword")


@pytest.fixture
def guarded(folder: Path, database: str, postgresql: PostgresServer, moto: MotoServer) -> World:
    """An archive whose every credential is a canary."""
    plain = World(folder, database)
    plain.fill(12)
    plain.sql("""UPDATE archive_document SET jsondata = 'x' WHERE "archiveId" = 'sha256:0004'""")
    name = database.rpartition("/")[2]
    url = f"postgresql+pg8000://anchore:{PASSWORD.replace('/', '%2F')}@127.0.0.1:{postgresql.port}/{name}"
    world = World(folder, url)
    world.config("config", DB)
    world.config("dest", s3(moto, "discreet", url=moto.url.replace("//", "//userinfo-canary:userpass-canary@")))
    return world


def assert_discreet(world: World, moto: MotoServer, *results: Result) -> None:
    canaries = (*SPELLINGS, moto.secret_key, moto.access_key, "userpass-canary", "userinfo-canary")
    texts = {f"output {number}": result.all for number, result in enumerate(results)}
    texts |= {
        path.name: path.read_text()
        for path in world.folder.iterdir()
        if path.is_file() and path.suffix in (".json", ".log")
    }
    tables = [name for (name,) in plain_sql(world, "SELECT tablename FROM pg_tables WHERE tablename LIKE 'reconcile%'")]
    texts |= {name: repr(dump(plain_url(world), name)) for name in tables}
    assert tables
    for name, text in texts.items():
        for canary in canaries:
            assert canary not in text, f"{canary} in {name}"


def plain_url(world: World) -> str:
    return world.url.replace("+pg8000", "")


def plain_sql(world: World, text: str) -> list[tuple[str, ...]]:
    return World(world.folder, plain_url(world)).sql(text)


@pytest.mark.parametrize("level", ["debug", *(pytest.param(n, marks=pytest.mark.matrix) for n in ("info", "error"))])
def test_no_credential_leaves_the_config(guarded: World, moto: MotoServer, level: str) -> None:
    folder = guarded.folder
    options = ("--log-level", level, "--log-file", "run.log")

    def run(*arguments: str, **environment: str) -> Result:
        return reconcile(*options, *arguments, cwd=folder, **environment)

    planned = run("plan", "config.yaml", "dest.yaml", "--out", "p.json")
    assert planned.code == 0, planned.err
    failed = run("apply", "p.json", "--yes")
    assert failed.code == 1
    assert "sha256:0004" in failed.err
    applied = run("apply", "p.json", "--yes", "--leave-failed")
    assert applied.code == 3, applied.err
    results = [
        planned,
        failed,
        applied,
        run("show", "p.json", "--moves"),
        run("diff", "p.json", "--format", "json"),
        run("runs", "--source", "config.yaml", "--format", "json"),
        run("show", "p.json", "--format", "html"),
        run("report", "--source", "config.yaml", "--format", "html"),
        run("status", "--source", "config.yaml"),
        run("status", RECONCILE_DB_CONNECT=guarded.url),
        run("check", "dest.yaml", "--format", "json"),
        run("verify", "dest.yaml", "--orphans"),
        run("undo", "p.undo.json", "--yes"),
        run("plan", "config.yaml", "dest.yaml", RECONCILE_DB_CONNECT=guarded.url.replace("127.0.0.1", "127.0.0.2")),
    ]
    assert results[-2].code == 0, results[-2].err
    assert_discreet(guarded, moto, *results)
    assert (folder / "run.log").stat().st_mode & 0o777 == 0o600


def test_errors_of_backends_and_defects_are_discreet(guarded: World, moto: MotoServer) -> None:
    """Also in a traceback: a defect is reported without what the libraries know."""
    folder = guarded.folder
    config = yaml.safe_load((folder / "dest.yaml").read_text())
    driver = config["services"]["catalog"]["object_store"]["storage_driver"]
    driver["config"]["url"] = "http://userinfo-canary:userpass-canary@127.0.0.1:9"
    (folder / "dest.yaml").write_text(yaml.safe_dump(config))
    first = reconcile("--log-level", "debug", "plan", "config.yaml", "dest.yaml", "--out", "p.json", cwd=folder)
    dead = reconcile("--log-level", "debug", "apply", "p.json", "--yes", cwd=folder)
    assert dead.code == 1
    (folder / "broken.py").write_text(
        "import reconcile.running.apply as a, reconcile.cli.main as m, sys\n"
        "def fail(pool, *rest): raise RuntimeError(f'{pool.catalog.engine.url.password} {rest}')\n"
        "a.make_destinations = fail\n"
        "sys.argv = ['reconcile', 'apply', 'p.json', '--yes']\n"
        "m.main()\n"
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "broken.py"], cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 1
    assert "a bug in reconcile" in done.stderr
    assert "Traceback" in done.stderr  # in the log, as one JSON line
    assert_discreet(guarded, moto, first, dead, Result(1, done.stdout, done.stderr))


def test_rejected_credentials_are_not_shown(guarded: World, moto: MotoServer, swift: SwiftServer) -> None:
    folder = guarded.folder
    guarded.config("dest", s3(swift, "discreet", access_key=moto.access_key, secret_key=moto.secret_key))
    reconcile("plan", "config.yaml", "dest.yaml", "--out", "p.json", cwd=folder)
    result = reconcile("--log-level", "debug", "apply", "p.json", "--yes", cwd=folder)
    assert result.code == 1
    assert "access denied" in result.err
    assert_discreet(guarded, moto, result)


@pytest.mark.matrix
def test_document_names_drive_no_terminal(folder: Path, database: str) -> None:
    """Names are chosen by whoever has an account: control characters are shown, not sent."""
    world = World(folder, database)
    world.row("evil\x1b[2J\x07\r\n\x9b31m", b"gone", digest=md5(b"gone"))
    world.row("tape\x1b]0;title\x07", b"x", content_url="tape://\x1b[31m")
    world.config("config", DB)
    world.config("dest", {"storage_driver": {"name": "db2", "config": {}}})
    results = [
        reconcile("plan", "config.yaml", "dest.yaml", "--out", "p.json", cwd=folder),
        reconcile("show", "p.json", "--moves", cwd=folder),
        reconcile("--log-format", "console", "apply", "p.json", "--yes", "--leave-blocked", cwd=folder),
        reconcile("apply", "p.json", "--yes", "--leave-blocked", cwd=folder),
        reconcile("status", "--source", "config.yaml", cwd=folder),
    ]
    for result in results:
        assert not {"\x1b", "\x07", "\x9b", "\r"} & set(result.all), result.all
