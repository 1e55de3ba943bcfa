"""Configs as the vendor's chart renders them: the split of its migration job, by the pods' own variables alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from attrs import frozen

from examples.service_reader import Unreadable, read_all
from reconcile.config import Config, load_config
from tests.archives import Place
from tests.cli.runner import Result, reconcile
from tests.servers.moto import MotoServer
from tests.servers.postgresql import PostgresServer
from tests.world import World

CHARTS = Path(__file__).parents[3] / "shared" / "data" / "vendor-configs"
PASSWORD = "pa%ss:w@rd/#1?&="
OWN = "own fixture"

# The keys that a chart's config has, as far as they matter; the texts are this project's.
OWN_CONFIG = """
# ${ANCHORE_IN_A_COMMENT}
service_dir: ${ANCHORE_SERVICE_DIR}
log_level: <ALLOW_API_CONFIGURATION>
credentials:
  database:
    encryption:
      keys:
        - ${ANCHORE_DB_ENCRYPTION_KEY_CURRENT}
    user: "${ANCHORE_DB_USER}"
    password: "${ANCHORE_DB_PASSWORD}"
    host: "${ANCHORE_DB_HOST}"
    port: "${ANCHORE_DB_PORT}"
    name: "${ANCHORE_DB_NAME}"
    db_connect_args:
      timeout: ${ANCHORE_DB_TIMEOUT}
      ssl: false
    db_pool_size: ${ANCHORE_DB_POOL_SIZE}
object_store:
  direct_access: false
services:
  apiext:
    enabled: true
    port: ${ANCHORE_PORT}
  catalog:
    enabled: true
    server: {ssl_enable: false}
    analysis_archive:
      %s
    object_store:
      compression: {enabled: true, min_size_kbytes: 100}
      storage_driver: {name: db, config: {}}
      verify_content_digests: true
"""
OWN_ARCHIVE = """
      compression: {enabled: true, min_size_kbytes: 100}
      enabled: true
      storage_driver:
        name: s3
        config:
          access_key: ${ANCHORE_ANALYSIS_ARCHIVE_ACCESS_KEY}
          bucket: analysisarchive
          region: null
          secret_key: ${ANCHORE_ANALYSIS_ARCHIVE_SECRET_KEY}
          url: http://minio.example.com:9000
"""
OWN_VARIABLES = {
    "ANCHORE_DB_USER": "anchore",
    "ANCHORE_DB_PASSWORD": PASSWORD,
    "ANCHORE_DB_HOST": "127.0.0.1",
    "ANCHORE_DB_PORT": "5432",
    "ANCHORE_DB_NAME": "anchore",
    "ANCHORE_ANALYSIS_ARCHIVE_ACCESS_KEY": "archive-access",
    "ANCHORE_ANALYSIS_ARCHIVE_SECRET_KEY": "archive-secret",
    "ANCHORE_DB_TIMEOUT": "120",
    "ANCHORE_DB_POOL_SIZE": "30",
    "ANCHORE_SERVICE_DIR": "/anchore_service",
    "ANCHORE_PORT": "8082",
}


@frozen
class Chart:
    """The configs of one chart version, and the variables that its pods get."""

    configs: dict[str, str]
    variables: dict[str, str]


def charts() -> list[str]:
    return [OWN, *sorted(path.name for path in CHARTS.glob("chart-*"))]


def variables_of(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)


def chart_of(name: str) -> Chart:
    if name == OWN:
        return Chart(
            {"config.yaml": OWN_CONFIG % "{}", "dest-config.yaml": OWN_CONFIG % OWN_ARCHIVE.strip()}, OWN_VARIABLES
        )
    folder = CHARTS / name
    return Chart(
        {path.name: path.read_text() for path in folder.glob("*.yaml")},
        variables_of(folder / "configmap.env") | variables_of(CHARTS / "pod.env"),
    )


@pytest.fixture
def chart(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Chart:
    """One chart's configs, written into the working directory, and its variables in the environment."""
    chart = chart_of(request.param)
    for name, text in chart.configs.items():
        (folder / name).write_text(text)
    for name, value in chart.variables.items():
        monkeypatch.setenv(name, value)
    return chart


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server that wants the role's password."""
    server = PostgresServer()
    server.run("postgres", f"ALTER ROLE anchore PASSWORD '{PASSWORD}'")
    server.let_in("local all all trust", "host all anchore 127.0.0.1/32 scram-sha-256")
    yield server
    server.close()


@pytest.mark.parametrize("chart", charts(), indirect=True)
def test_every_file_of_a_chart_is_read(chart: Chart, folder: Path) -> None:
    for name in chart.configs:
        config = load_config(folder / name, destination=True)
        assert config.object_store.driver == "db"
        assert config.database is not None
        assert config.database.parts()["password"] == PASSWORD
        assert_discreet(config)
    with_archive = [name for name in chart.configs if load_config(folder / name).analysis_archive]
    assert with_archive == (["dest-config.yaml"] if "dest-config.yaml" in chart.configs else ["config.yaml"])


def assert_discreet(config: Config) -> None:
    shown = [config, config.describe(), config.provenance(), config.doubts]
    assert PASSWORD not in str(shown)


@pytest.mark.parametrize(
    "chart", [pytest.param(n, marks=() if n == OWN else pytest.mark.matrix) for n in charts()], indirect=True
)
def test_the_split_that_the_charts_job_does(
    chart: Chart, folder: Path, guarded: PostgresServer, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plan, check, apply and undo, with nothing but the pod's variables."""
    url = guarded.database()
    name = url.rpartition("/")[2]
    world = World(folder, f"postgresql://anchore@/{name}?host={guarded.socket}&port={guarded.port}")
    world.fill(9)
    place = Place(folder, world.url, moto)
    place.client().create_bucket(Bucket="analysisarchive")
    for variable, value in {
        "ANCHORE_DB_HOST": "127.0.0.1",
        "ANCHORE_DB_PORT": str(guarded.port),
        "ANCHORE_DB_NAME": name,
        "ANCHORE_ANALYSIS_ARCHIVE_ACCESS_KEY": moto.access_key,
        "ANCHORE_ANALYSIS_ARCHIVE_SECRET_KEY": moto.secret_key,
    }.items():
        monkeypatch.setenv(variable, value)
    if "dest-config.yaml" not in chart.configs:  # older than the job: its archive moves from db to s3 all the same
        (folder / "dest-config.yaml").write_text(OWN_CONFIG % OWN_ARCHIVE.strip())
    dest = folder / "dest-config.yaml"
    content = yaml.safe_load(dest.read_text())
    settings = content["services"]["catalog"]["analysis_archive"]["storage_driver"]["config"]
    assert settings["bucket"] == "analysisarchive"
    dest.write_text(dest.read_text().replace(settings["url"], moto.url))

    def run(*arguments: str) -> Result:
        result = reconcile(*arguments, cwd=folder)
        assert PASSWORD not in result.all
        assert moto.secret_key not in result.all
        return result

    def read(name: str) -> dict[tuple[str, str, str, str], bytes | Unreadable]:
        """Read every document as a service with this config does."""
        (folder / "read.yaml").write_text(os.path.expandvars((folder / name).read_text()))
        return read_all(folder / "read.yaml", world.url)

    before, truth = world.tables(), read("config.yaml")
    planned = run("plan", "config.yaml", "dest-config.yaml", "--out", "p.json")
    assert planned.code == 0, planned.all
    checked = run("check", "dest-config.yaml")
    assert checked.code == 0, checked.all
    applied = run("apply", "p.json", "--yes")
    assert applied.code == 0, applied.all
    assert sum(found.startswith("s3://analysisarchive/") for found in world.urls()) == 3
    assert read("dest-config.yaml") == truth
    assert "bootstrap_ng.yaml" not in applied.all  # the object store stays where it was
    undone = run("undo", "p.undo.json", "--yes", "--source", "dest-config.yaml", "--dest", "config.yaml")
    assert undone.code == 0, undone.all
    assert world.tables() == before
    place.client().delete_bucket(Bucket="analysisarchive")


@pytest.mark.parametrize("chart", [OWN], indirect=True)
@pytest.mark.matrix
def test_the_second_file_of_enterprise_6(chart: Chart, folder: Path, database: str) -> None:
    """Where the object store itself moves, the component catalog's own file names it, too."""
    world = World(folder, database)
    world.fill(3)
    text = (
        chart.configs["config.yaml"]
        .replace("name: db,", "name: db2,")
        .replace("direct_access: false", "direct_access: true")
    )
    (folder / "dest.yaml").write_text(text)
    environment = {"RECONCILE_DB_CONNECT": database, "ANCHORE_DB_HOST": "nowhere"}
    planned = reconcile("plan", "config.yaml", "dest.yaml", "--out", "p.json", cwd=folder, **environment)
    assert planned.code == 0, planned.all
    assert "every service accesses the object store itself" in planned.out
    assert "lists only db and s3" in planned.out
    applied = reconcile("apply", "p.json", "--yes", cwd=folder, **environment)
    assert applied.code == 0, applied.all
    assert "put the same object_store into bootstrap_ng.yaml" in applied.out
    checked = reconcile("check", "dest.yaml", cwd=folder, **environment)
    assert "lists only db and s3" in checked.out


@pytest.mark.skipif(not CHARTS.exists(), reason="the vendor's files are not here")
@pytest.mark.parametrize("chart", ["chart-3.25.2", "chart-4.1.4"], indirect=True)
def test_arguments_that_the_services_could_not_connect_with(chart: Chart, folder: Path, database: str) -> None:
    """The chart's example for them: refused where the database is taken from there, of no matter elsewhere."""
    refused = reconcile("status", "--source", "config-with-connect-args.yaml", cwd=folder)
    assert refused.code == 78, refused.all
    assert "random_arg" in refused.err
    given = {"RECONCILE_DB_CONNECT": f"{database}?sslmode=disable"}
    elsewhere = reconcile("status", "--source", "config-with-connect-args.yaml", cwd=folder, **given)
    assert "server does not support SSL" in elsewhere.err, elsewhere.all  # the file asks for TLS all the same
    assert os.environ["ANCHORE_DB_PASSWORD"] not in refused.all + elsewhere.all
