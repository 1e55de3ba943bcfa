"""Secrets that are mounted as files: the database's URL, its password, and what a config refers to (R8)."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconcile.catalog import DatabaseOptions
from reconcile.catalog.database_url import target_of
from reconcile.config import load_config
from reconcile.errors import ConfigError
from reconcile.secret import Secret
from tests.archives import new_sqlite
from tests.cli.desk import filled, planned
from tests.cli.runner import here
from tests.world import World

CONFIG = """services:
  catalog:
    object_store:
      storage_driver:
        name: s3
        config: {bucket: b, url: http://s3.test, access_key: '${ANCHORE_KEY}', secret_key: '${ANCHORE_SECRET}'}
credentials:
  database: {user: u, password: '${ANCHORE_DB_PASSWORD}', host: db, port: 5432, name: anchore}
"""


@pytest.fixture
def lite(folder: Path) -> World:
    return filled(World(folder, new_sqlite(folder)))


@pytest.fixture
def mounted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config whose three secrets are in files, each with the end of its line."""
    (folder / "config.yaml").write_text(CONFIG)
    for name in ("KEY", "SECRET", "DB_PASSWORD"):
        (folder / name).write_text(f"canary-{name}\n")
        monkeypatch.setenv(f"ANCHORE_{name}_FILE", str(folder / name))
    return folder / "config.yaml"


def test_what_a_config_refers_to(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(mounted)
    assert config.object_store.settings["secret_key"].reveal() == "canary-SECRET"
    assert target_of(DatabaseOptions(), config).arguments["password"] == "canary-DB_PASSWORD"
    origins = config.provenance()["object_store"]
    assert (origins["access_key"], origins["secret_key"]) == (
        "variable ANCHORE_KEY_FILE",
        "variable ANCHORE_SECRET_FILE",
    )
    assert "canary" not in str(origins)
    monkeypatch.setenv("ANCHORE_SECRET", "from the environment")  # which wins, as it does for the services
    assert load_config(mounted).object_store.settings["secret_key"].reveal() == "from the environment"


def test_a_file_that_is_not_mounted_is_named(mounted: Path) -> None:
    (mounted.parent / "SECRET").unlink()
    with pytest.raises(ConfigError, match=r"environment variable ANCHORE_SECRET is not set") as error:
        load_config(mounted)
    file = mounted.parent / "SECRET"
    assert (
        error.value.hint == f"{file}, which ANCHORE_SECRET_FILE names, does not exist: check that the secret is mounted"
    )
    mounted.write_text(CONFIG.replace("${ANCHORE_SECRET}", "written down") + "# not ${ANCHORE_SECRET}\n")
    assert load_config(mounted).object_store.settings["secret_key"].reveal() == "written down"  # nothing reads it


def test_the_password_alone_wins_over_the_one_that_is_written_down(mounted: Path) -> None:
    options = DatabaseOptions(password=Secret("canary-rotated"))
    assert target_of(options, load_config(mounted)).now()["password"] == "canary-rotated"
    by_url = DatabaseOptions(url=Secret("postgresql://u:old@db/anchore"), password=Secret("canary-rotated"))
    assert target_of(by_url, None).now()["password"] == "canary-rotated"
    assert "canary" not in repr(target_of(by_url, None))


def test_the_url_of_the_database(lite: World) -> None:
    planned(lite)
    file = lite.folder / "url"
    file.write_text(f"{lite.url}\n")
    done = here("apply", "p.json", "--yes", "--db-connect-file", file, cwd=lite.folder)
    assert done.code == 0, done.all
    seen = here("status", cwd=lite.folder, RECONCILE_DB_CONNECT_FILE=str(file))
    assert (seen.code, "done; the catalog is switched" in seen.out) == (0, True)
    both = here("status", "--db-connect", lite.url, "--db-connect-file", file, cwd=lite.folder)
    assert (both.code, "--db-connect and --db-connect-file are mutually exclusive" in both.err) == (64, True)
    gone = here("status", "--db-connect-file", "nowhere", cwd=lite.folder)
    assert (gone.code, "nowhere: the file of a secret cannot be read" in gone.err) == (78, True)


def test_a_file_with_something_else_in_it_is_not_shown(lite: World) -> None:
    file = lite.folder / "url"
    file.write_text("canary that is no URL\n")
    said = here("status", "--db-connect-file", file, cwd=lite.folder)
    assert (said.code, "canary" in said.all) == (78, False)
