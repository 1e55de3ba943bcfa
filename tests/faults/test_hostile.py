"""Documents, names, plans and configs by somebody who means harm."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconcile.catalog import Scope
from reconcile.config import load_config
from reconcile.errors import ConfigError, PlanFileError, ReconcileError
from reconcile.planning.planfile import open_plan
from reconcile.stores.addresses import FileAddress, ObjectAddress, TableAddress
from tests.archives import md5, new_sqlite
from tests.cli.runner import reconcile
from tests.world import COMPRESSED, DB, DB2, World, localfs

EXAMPLES = int(os.environ.get("SOAK_EXAMPLES", "100"))
FIXED = "SOAK_EXAMPLES" not in os.environ  # the same examples every time, but for make soak
ESCAPES = "\x1b]0;owned\x07\x1b[31mred\x9b2J\u202e"
SQL = "'; DROP TABLE archive_metadata; --"


@pytest.fixture
def lite(folder: Path) -> World:
    return World(folder, new_sqlite(folder))


@pytest.mark.parametrize(
    "name",
    [
        ESCAPES,
        "a\nerror: all is lost\n",
        *(pytest.param(name, marks=pytest.mark.matrix) for name in (SQL, "%s%(x)s{}", "\\x1b", "x" * 5000)),
    ],
)
def test_names_reach_no_terminal_raw(lite: World, name: str) -> None:
    """Moved or named, and escaped wherever people read."""
    lite.add(name, b"fine")
    lite.add(name + "-missing", b"x")
    lite.sql('DELETE FROM archive_document WHERE "archiveId" = %s', name + "-missing")
    lite.config("config", DB)
    dest = lite.config("dest", localfs(lite.folder / "archive"))
    said = []
    for arguments in (
        ("plan", "config.yaml", "dest.yaml", "--out", "p.json"),
        ("show", "p.json", "--moves"),
        ("--log-level", "debug", "--log-format", "console", "apply", "p.json", "--yes"),
        ("--log-level", "debug", "--log-format", "json", "apply", "p.json", "--yes", "--leave-failed"),
        ("status",),
        ("diff", "p.json"),
    ):
        result = reconcile(*arguments, cwd=lite.folder)
        said.append(result.all)
    text = "".join(said)
    assert not [c for c in text if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c == "\u202e"], repr(text)
    assert "\nerror: all is lost" not in text
    assert lite.read(dest)[name] == b"fine"
    assert lite.sql("SELECT count(*) FROM archive_metadata") == [(2,)]


def test_a_zlib_bomb_is_bounded(lite: World) -> None:
    """A thousand times its stored size: refused as soon as it passes the limit, the others move."""
    bomb = zlib.compress(b"\0" * (64 << 20), 9)
    assert len(bomb) < 70_000
    content = {"object_metadata": None, "created_at": 1, "last_updated": 1, "version": ""}
    for name, data in (("bomb", bomb), ("fine", zlib.compress(b"fine" * 500, 3))):
        key = {"userId": "admin", "bucket": "policy_bundles", "key": name}
        lite.insert("object_storage", key | content | {"content": data})
        lite.row(name, data, content_url=f"db2://admin/policy_bundles/{name}", is_compressed=True)
    lite.config("config", COMPRESSED | DB2)
    lite.config("dest", localfs(lite.folder / "archive"))
    assert reconcile("plan", "config.yaml", "dest.yaml", "--out", "p.json", cwd=lite.folder).code == 0
    result = reconcile("apply", "p.json", "--yes", "--leave-failed", "--max-document-size", "1MiB", cwd=lite.folder)
    assert result.code == 3, result.all
    states = dict(lite.sql("SELECT archive_id, coalesce(reason, state) FROM reconcile_moves"))
    assert states == {"bomb": "too_big", "fine": "staged"}


@pytest.mark.parametrize("size", ["0.5G", "lots", "-1", "1T"])
def test_a_size_that_is_none(lite: World, size: str) -> None:
    result = reconcile("apply", "p.json", f"--max-document-size={size}", cwd=lite.folder)
    assert result.code == 64
    assert "is not a size" in result.err


def forge(path: Path, change: Any) -> None:
    """Change a plan's text and give it the digest that fits: somebody who knows the format."""
    lines = path.read_bytes().splitlines(keepends=True)
    body = change(b"".join(lines[:-2]))
    digest = hashlib.sha256(body).hexdigest()
    path.write_bytes(body + b'"digest": "sha256:' + digest.encode() + b'"\n}\n')


FORGERIES = {
    "another path": lambda body: body.replace(b"/archive/", b"/../etc/"),
    "a path outside": lambda body: body.replace(
        b'"after":{"content_url":"file://', b'"after":{"content_url":"file:///etc'
    ),
    "another tenant": lambda body: body.replace(b'"userId":"admin"', b'"userId":"victim"'),
    "another backend": lambda body: body.replace(b'"dest":"dest.object_store"', b'"dest":"catalog.db2"'),
    "an unknown backend": lambda body: body.replace(b'"dest":"dest.object_store"', b'"dest":"dest.nowhere"'),
    "another source": lambda body: body.replace(b"db://admin", b"db2://admin"),
    "a huge size": lambda body: body.replace(b'"size":', b'"size":999999999999999999999999'),
    "a size as text": lambda body: body.replace(b'"size":', b'"size":"x","was":'),
    "a size that is no number": lambda body: body.replace(b'"size":', b'"size":NaN,"was":'),
    "fields twice": lambda body: body.replace(
        b'"after":{', b'"after":{"content_url":"file:///etc/passwd","compressed":false},"after":{"x":'
    ),
    "pinned columns": lambda body: body.replace(
        b'"pinned":null', b'"pinned":{"is_compressed":true,"digest":"0","size":1}'
    ),
    "a move too many": lambda body: body.replace(
        b'"moves": [\n', b'"moves": [\n' + body.split(b'"moves": [\n')[1].splitlines()[0].rstrip(b",") + b",\n"
    ),
    "nesting": lambda body: body.replace(b'"notes":[', b'"notes":[' + b"[" * 100_000),
    "no moves": lambda body: body.replace(b'"moves": [', b'"movez": ['),
    "another undo": lambda body: body.replace(b'"undo_of": null', b'"undo_of": "20260101-000000-00000000"'),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_plan_by_somebody_else(lite: World, forgery: str) -> None:
    """It cannot make the tool do what the configs would not; nothing is changed, nothing outside is touched."""
    lite.fill(4)
    lite.add("x", b"x", user="victim")
    source, dest = lite.config("config", DB), lite.config("dest", localfs(lite.folder / "archive"))
    plan = lite.plan(source, dest)
    body = plan.path.read_bytes()
    forge(plan.path, FORGERIES[forgery])
    assert plan.path.read_bytes() != body, "the forgery changed nothing"
    before = lite.tables()
    result = reconcile("apply", "p.json", "--yes", cwd=lite.folder)
    assert result.code == 1, result.all
    assert "error: " in result.err
    assert "Traceback" not in result.all
    assert lite.tables() == before
    assert not list((lite.folder / "archive").rglob("*.json"))


def test_a_forged_before_stops_the_switch(lite: World) -> None:
    """What a plan says of a row is compared with the row."""
    lite.fill(3)
    plan = lite.plan(lite.config("config", DB), lite.config("dest", localfs(lite.folder / "archive")))
    forge(plan.path, lambda body: body.replace(b'"last_updated":17', b'"last_updated":16'))
    before = lite.tables()
    result = reconcile("apply", "p.json", "--yes", cwd=lite.folder)
    assert result.code == 4
    assert lite.tables()["archive_metadata"] == before["archive_metadata"]


def bomb(levels: int = 40) -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        bomb() + "\nservices: {catalog: {object_store: {storage_driver: {name: db, config: {x: *a39}}}}}",
        bomb() + "\nservices: {catalog: {object_store: {storage_driver: {name: s3, config: {bucket: *a39}}}}}",
        bomb() + "\nservices: {catalog: {object_store: *a39}}",
        bomb() + "\nservices: *a39",
        "services: &a {catalog: *a}",
        "services: {catalog: &a {object_store: *a}}",
        "services: {catalog: {object_store: &a {storage_driver: {name: db, config: *a}}}}",
        "services: !!python/object/apply:os.system ['touch owned']",
        "services: {catalog: {object_store: {storage_driver: {name: !!python/name:os.system , config: {}}}}}",
        "? [a, b]\n: c\nservices: {}",
        "services: {catalog: {object_store: {compression: {min_size_kbytes: 9999999999999999999999999999}}}}",
        "[" * 3000,
        "services: {catalog: {object_store: {storage_driver: {name: localfs, config: {archive_data_dir: '/a\\0b'}}}}}",
        "\ufeffservices: {catalog: {object_store: {storage_driver: {name: db}}}}",
        "services: {catalog: {object_store: {storage_driver: {name: db}}}}\n---\nservices: {}",
    ],
    ids=lambda text: text[-60:],
)
def test_yaml_that_means_harm(lite: World, text: str) -> None:
    """Taken or refused at once, in plain words; never expanded, never executed."""
    lite.fill(2)
    (lite.folder / "evil.yaml").write_text(text)
    lite.config("dest", DB2)
    result = reconcile(
        "plan", "evil.yaml", "dest.yaml", "--out", "p.json", cwd=lite.folder, RECONCILE_DB_CONNECT=lite.url
    )
    assert result.code in (0, 78), result.all
    assert "Traceback" not in result.all
    assert len(result.all) < 10_000
    assert not (lite.folder / "owned").exists()


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_known = st.sampled_from(
    (
        *(
            "storage_driver",
            "compression",
            "name",
            "config",
            "enabled",
            "min_size_kbytes",
            "bucket",
            "url",
            "container",
        ),
        *("archive_data_dir", "prefix", "region", "access_key", "secret_key", "auth", "anchore_key_prefix"),
    )
)
_settings = st.dictionaries(_known | st.text(max_size=8), _values, max_size=6)
_driver = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["db", "db2", "localfs", "s3", "swift"]) | _values,
        "config": _settings | _values,
    },
)
_section = (
    st.fixed_dictionaries({}, optional={"storage_driver": _driver | _values, "compression": _settings | _values})
    | _values
)
_catalog = st.dictionaries(
    st.sampled_from(["object_store", "archive", "analysis_archive", "archive_driver", "use_db", "archive_data_dir"]),
    _section,
)
_credentials = st.fixed_dictionaries(
    {}, optional={"database": _settings | st.fixed_dictionaries({"db_connect": _values})}
)


def check_config(catalog: Any, credentials: Any, folder: Path) -> None:
    """A config of any shape is read, or refused as a `ConfigError`; what is read can be described without secrets."""
    path = folder / "any.yaml"
    path.write_text(yaml.safe_dump({"services": {"catalog": catalog}, "credentials": credentials}), encoding="utf-8")
    for destination in (False, True):
        try:
            config = load_config(path, destination=destination)
        except ConfigError:
            continue
        config.fingerprint()
        json.dumps(config.describe())


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=FIXED, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(catalog=_catalog | _values, credentials=_credentials | _values)
def test_configs_of_every_shape(tmp_path: Path, catalog: Any, credentials: Any) -> None:
    check_config(catalog, credentials, tmp_path)


_names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30)


@settings(max_examples=2 * EXAMPLES, deadline=None, derandomize=FIXED)
@given(document=st.tuples(_names, _names, _names), other=st.tuples(_names, _names, _names))
def test_names_of_every_shape(document: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """A URL leads back to the key its columns name; two documents share a key only where their text is the same."""
    addresses = (
        TableAddress("db", "database:db", 100),
        ObjectAddress("s3", "s3:aws/b", "bucket", "pre/"),
        FileAddress("/srv/archive"),
    )
    for address in addresses:
        url = address.url(document)
        assert address.keys(url, document) == [address.key(document)]
        problem = address.problem(address.key(document))
        if document != other and problem is None and address.key(document) == address.key(other):
            assert "/".join(document) == "/".join(other) or document[1] != other[1]
        if address.services_can_read(document) and not isinstance(address, FileAddress):
            assert url.partition("://")[2].endswith("/".join(document))
        if isinstance(address, FileAddress) and problem is None:
            path = Path("/srv/archive", str(address.key(document)))
            assert Path(*path.parts[:3]) == Path("/srv/archive")
            assert ".." not in path.parts


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=FIXED, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=400) | st.text(max_size=200).map(lambda text: b"{\n" + text.encode() + b"\n}\n"))
def test_plan_files_of_every_shape(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.json"
    path.write_bytes(data)
    with pytest.raises(PlanFileError):
        open_plan(path).verify()


def test_what_is_written_is_for_its_owner_only(lite: World) -> None:
    """Plans, undo plans, logs and lock files: 0600. Spool files have no name at all."""
    lite.fill(3)
    lite.config("config", DB)
    lite.config("dest", localfs(lite.folder / "archive"))
    assert reconcile("plan", "config.yaml", "dest.yaml", "--out", "p.json.gz", cwd=lite.folder).code == 0
    assert reconcile("--log-file", "run.log", "apply", "p.json.gz", "--yes", cwd=lite.folder).code == 0
    for name in ("p.json.gz", "p.undo.json.gz", "run.log", "anchore.db.reconcile-lock"):
        assert stat.S_IMODE((lite.folder / name).stat().st_mode) == 0o600, name


def test_sql_in_every_string(world: World) -> None:
    for user, bucket, name in ((SQL, SQL, SQL), ('"; --', "x' OR '1'='1", "$$; SELECT 1; $$")):
        world.add(name, b"fine", user, bucket, documentName=SQL)
    source, dest, tables = world.config("config", DB), world.config("dest", DB2), world.tables()
    world.apply(world.plan(source, dest, probe="digest"))
    assert set(world.read(dest).values()) == {b"fine"}
    world.undo()
    assert world.tables() == tables
    assert md5(b"fine") in {row[6] for row in world.tables()["archive_metadata"]}


def test_filters_are_no_sql(lite: World) -> None:
    lite.fill(3)
    source, dest = lite.config("config", DB), lite.config("dest", DB2)
    with pytest.raises(ReconcileError, match="no document with it"):
        lite.plan(source, dest, scope=Scope(buckets=(SQL,)))
