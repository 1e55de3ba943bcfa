"""The table of keys in docs/configuration.md, key by key: what it says is what happens."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconcile.catalog import DatabaseOptions
from reconcile.catalog.database_url import target_of
from reconcile.config import Config, load_config
from reconcile.errors import ConfigError
from reconcile.secret import Secret
from reconcile.stores import address_of
from reconcile.stores.s3_client import S3Settings

TABLE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
ROWS = TABLE.partition("### Every key")[2].partition("The vendor's current documentation")[0]
KEYS = re.findall(r"^\| `([^`]+)` \|", ROWS, re.MULTILINE)
S3 = {"bucket": "b", "access_key": "a", "secret_key": "s"}
OFF = {"compression": {"enabled": False}}

Look = Callable[[Config], Any]


def driver(name: str, **settings: Any) -> dict[str, Any]:
    return {"storage_driver": {"name": name, "config": settings}}


def s3(**settings: Any) -> dict[str, Any]:
    return {"object_store": driver("s3", **(S3 | settings))}


def swift(**settings: Any) -> dict[str, Any]:
    return {"object_store": driver("swift", container="c", **settings)}


def without(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    return {"object_store": driver("s3", **{key: value for key, value in settings.items() if key not in names})}


def database(arguments: dict[str, Any] | None = None, **section: Any) -> dict[str, Any]:
    section = section or {"host": "h", "name": "n"}
    return {"credentials": {"database": section | {"db_connect_args": arguments or {}}}}


def name(config: Config) -> str:
    return config.object_store.driver


def url(config: Config) -> str:
    return address_of(config.object_store).url(("u", "l", "a"))


def enabled(config: Config) -> bool:
    return config.object_store.compression.enabled


def keys(config: Config) -> Any:
    settings = S3Settings.of(config.object_store)
    return settings.access_key, settings.secret_key


def setting(key: str) -> Look:
    def look(config: Config) -> Any:
        value = config.object_store.settings.get(key)
        return value.reveal() if isinstance(value, Secret) else value

    return look


def argument(key: str) -> Look:
    return lambda config: target_of(DatabaseOptions(), config).arguments.get(key)


def noted(text: str) -> Look:
    return lambda config: any(text in doubt for doubt in config.doubts)


REFUSED = "refused"
# By key: a catalog section, with ``credentials`` and ``root`` for what stands above it; what to look at; what is there.
CASES: dict[str, list[tuple[dict[str, Any], Look, Any]]] = {
    "services.catalog.enabled": [({}, noted("no key enabled"), True), ({"enabled": 0}, noted("no key enabled"), False)],
    "services.catalog.object_store": [
        ({"object_store": driver("db2"), "archive": driver("db")}, name, "db2"),
        ({"object_store": {}, "archive": driver("db2")}, name, "db2"),
    ],
    "services.catalog.archive": [({"archive": driver("db2")}, name, "db2")],
    "services.catalog.archive_driver": [({"archive_driver": "db2", "compression": {"enabled": True}}, enabled, False)],
    "services.catalog.use_db": [({"archive_driver": "db2", "use_db": True}, name, "db")],
    "services.catalog.archive_data_dir": [
        ({"archive_driver": "localfs", "archive_data_dir": "/a"}, setting("archive_data_dir"), "/a")
    ],
    "services.catalog.storage_driver": [(driver("db2"), name, "db2")],
    "services.catalog.compression": [({"compression": {"enabled": True}}, enabled, True)],
    "services.catalog.analysis_archive": [
        ({"analysis_archive": driver("db2") | OFF}, lambda c: c.in_charge("analysis_archive").driver, "db2"),
        ({"analysis_archive": {}}, lambda c: c.in_charge("analysis_archive").driver, "db"),
    ],
    "analysis_archive.enabled": [
        ({"analysis_archive": driver("db2") | OFF | {"enabled": False}}, lambda c: len(c.backends()), 2)
    ],
    "analysis_archive.storage_driver.config": [
        ({"analysis_archive": {"storage_driver": {"name": "db"}} | OFF}, lambda c: None, REFUSED)
    ],
    "storage_driver.name": [
        ({"object_store": {"storage_driver": {}}}, name, "db"),
        ({"object_store": driver("tape")}, name, REFUSED),
        ({"analysis_archive": {"storage_driver": {"config": {}}} | OFF}, name, REFUSED),
    ],
    "compression.enabled": [
        ({"object_store": driver("db2") | {"compression": {"enabled": True}}}, enabled, True),
        ({"object_store": driver("db2") | {"compression": {"enabled": "true"}}}, enabled, False),
        ({"object_store": driver("db2") | {"compression": {"enabled": 1}}}, noted("do not compress"), True),
    ],
    "compression.min_size_kbytes": [
        ({"object_store": driver("db2")}, lambda c: c.object_store.compression.min_size, 102400),
        (
            {"object_store": driver("db2") | {"compression": {"enabled": True, "min_size_kbytes": 0.5}}},
            lambda c: c.object_store.compression.min_size,
            512,
        ),
        ({"object_store": driver("db") | {"compression": {"enabled": True, "min_size_kbytes": "9"}}}, name, "db"),
        ({"object_store": driver("db2") | {"compression": {"enabled": True, "min_size_kbytes": "9"}}}, name, REFUSED),
    ],
    "verify_content_digests": [({"object_store": driver("db2") | {"verify_content_digests": False}}, name, "db2")],
    "object_store.direct_access": [
        ({"root": {"object_store": {"direct_access": True}}}, noted("direct_access is true"), True),
        ({"root": {"object_store": {"direct_access": False}}}, noted("direct_access is true"), False),
    ],
    "archive_data_dir": [
        ({"object_store": driver("localfs", archive_data_dir="/a/")}, setting("archive_data_dir"), "/a/"),
        ({"object_store": driver("localfs", archive_data_dir="a")}, name, REFUSED),
    ],
    "bucket": [(s3(), url, "s3://b/u/l/a"), (s3(bucket="tenant:b"), url, REFUSED), (s3(bucket=5), url, REFUSED)],
    "access_key": [
        (s3(), keys, ("a", "s")),
        (s3(access_key="", secret_key=""), keys, (None, None)),
        (s3(access_key=None, secret_key=None), noted("standard AWS credential chain"), True),
        (without(S3, "access_key"), keys, REFUSED),
    ],
    "secret_key": [(s3(iamauto=True), keys, ("a", "s")), (without(S3, "secret_key"), keys, REFUSED)],
    "iamauto": [
        (without(S3 | {"iamauto": "yes"}, "access_key"), keys, (None, None)),
        (without(S3 | {"iamauto": ""}, "access_key", "secret_key"), keys, REFUSED),
    ],
    "url": [
        (s3(url="http://h:9000", region=None), setting("url"), "http://h:9000"),
        (s3(url=False), name, REFUSED),
        (s3(url="h:9000"), name, REFUSED),
    ],
    "region": [(s3(region="eu-west-1"), setting("region"), "eu-west-1"), (s3(region=None), name, REFUSED)],
    "prefix": [
        (s3(prefix="p/"), url, "s3://b/p/u/l/a"),
        (s3(prefix=5), url, "s3://b/5u/l/a"),
        (s3(prefix=None), url, "s3://b/Noneu/l/a"),
        (s3(prefix=None), noted("text None"), True),
    ],
    "create_bucket": [
        (s3(create_bucket="true"), setting("create_bucket"), True),
        (s3(create_bucket="false"), setting("create_bucket"), True),
        (s3(create_bucket="false"), noted("read as true"), True),
        (s3(create_bucket=None), setting("create_bucket"), False),
    ],
    "container": [(swift(), url, "swift://c/u/l/a")],
    "create_container": [(swift(create_container=1), setting("create_container"), True)],
    "anchore_key_prefix": [(swift(anchore_key_prefix=5), url, "swift://c/5u/l/a")],
    "os_auth_url": [
        (swift(os_auth_url="http://k/v3"), setting("os_auth_url"), "http://k/v3"),
        (swift(any_option="x"), setting("any_option"), "x"),
    ],
    "credentials.database.db_connect": [
        (database(db_connect="postgresql://u:p%40@h:1/n", host="other"), argument("password"), "p@"),
        (database(db_connect="postgresql://u:p@h:1/n", host="other"), argument("host"), "h"),
    ],
    "credentials.database.user": [(database(user="u", name="n"), argument("user"), "u")],
    "credentials.database.password": [
        (database(password="p@/:%25#", name="n"), argument("password"), "p@/:%25#"),
        (database(password=1234, name="n"), argument("password"), "1234"),
    ],
    "credentials.database.host": [(database(host="h"), argument("host"), "h")],
    "credentials.database.port": [(database(host="h", port=5432), argument("port"), "5432")],
    "credentials.database.name": [(database(name="n"), argument("dbname"), "n")],
    "db_connect_args.timeout": [
        (database({"timeout": "120"}), argument("connect_timeout"), 120),
        (database({"timeout": "30s"}), argument("connect_timeout"), REFUSED),
        (database({}), argument("connect_timeout"), 30),
    ],
    "db_connect_args.ssl": [
        (database({"ssl": "false"}), argument("sslmode"), "require"),
        (database({"ssl": False}), argument("sslmode"), None),
        (database({"ssl": True, "sslmode": "disable"}), argument("sslmode"), "require"),
    ],
    "db_connect_args.sslmode": [
        (database({"sslmode": "require"}), argument("sslmode"), "require"),
        (database({"keepalives_idle": 60}), argument("keepalives_idle"), "60"),
        (database({"no_such": 1}), argument("no_such"), REFUSED),
    ],
    "credentials.database.db_pool_size": [(database(host="h", db_pool_size="many"), argument("db_pool_size"), None)],
}


def test_every_key_of_the_table_has_its_case() -> None:
    assert sorted(KEYS) == sorted(CASES)


@pytest.mark.parametrize("key", KEYS)
def test_a_key(tmp_path: Path, key: str) -> None:
    for given, look, expected in CASES[key]:
        rest = dict(given)
        document = rest.pop("root", {}) | {name: rest.pop(name) for name in ("credentials",) if name in rest}
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(document | {"services": {"catalog": rest}}))
        if expected == REFUSED:
            with pytest.raises(ConfigError):
                look(load_config(path, destination=True))
        else:
            found = look(load_config(path, destination=True))
            assert found == expected, (key, given)
