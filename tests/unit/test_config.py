"""Config files are read as the services read them (object store reference, section 5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from reconcile.config import load_config
from reconcile.errors import ConfigError
from reconcile.secret import Secret


def write(folder: Path, catalog: dict[str, Any], **more: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"services": {"catalog": catalog}} | more))
    return path


def section(driver: str, **settings: Any) -> dict[str, Any]:
    return {"storage_driver": {"name": driver, "config": settings}}


@pytest.mark.parametrize(
    ("catalog", "driver"),
    [
        ({"object_store": section("db2"), "archive": section("db")}, "db2"),
        ({"archive": section("db2")}, "db2"),
        ({"object_store": {}, "archive": section("db2")}, "db2"),
        ({"object_store": None, "archive": section("db2")}, "db2"),
        ({"object_store": {"compression": {"enabled": True}}}, "db"),
        ({}, "db"),
        ({"archive_driver": "db"}, "db"),
        ({"archive_driver": "localfs", "archive_data_dir": "/a"}, "localfs"),
        ({"archive_driver": "localfs", "archive_data_dir": "/a", "use_db": True}, "db"),
        ({"use_db": True, "archive_data_dir": "/a"}, "db"),
        ({"object_store": section("db2"), "archive_driver": "localfs", "archive_data_dir": "/a"}, "db2"),
    ],
)
def test_which_section_counts(tmp_path: Path, catalog: dict[str, Any], driver: str) -> None:
    assert load_config(write(tmp_path, catalog)).object_store.driver == driver


@pytest.mark.parametrize(
    ("archive", "is_used"), [(None, False), ({}, False), ({"enabled": False} | section("db2"), True)]
)
def test_analysis_archive_is_used_if_present_and_not_empty(tmp_path: Path, archive: Any, is_used: bool) -> None:
    config = load_config(write(tmp_path, {"analysis_archive": archive}))
    assert (config.analysis_archive is not None) == is_used
    assert config.in_charge("analysis_archive").driver == ("db2" if is_used else "db")
    assert config.in_charge("policy_bundles").driver == "db"


def test_defaults_and_unknown_keys(tmp_path: Path) -> None:
    catalog = {"object_store": section("db2") | {"verify_content_digests": True, "compression": {"enabled": True}}}
    compression = load_config(write(tmp_path, catalog | {"other": 1}, log_level="INFO")).object_store.compression
    assert (compression.enabled, compression.min_size) == (True, 100 * 1024)


def test_keys_that_look_misspelt_are_pointed_out(tmp_path: Path) -> None:
    """They are accepted, as the services accept them, and said in the plan's notes."""
    catalog = {"object_stor": section("s3"), "analysis_archive": section("s3", bucket="b", prefx="p", region="x")}
    catalog["analysis_archive"] |= {"compression": {"enabld": True}}
    doubts = load_config(write(tmp_path, catalog)).doubts
    assert [doubt.partition("; ")[2] for doubt in doubts] == [
        "is object_store meant?",
        "is enabled meant?",
        "is prefix meant?",
    ]


def test_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "env").write_text("ANCHORE_DIR='/from/file'\nANCHORE_DB=\"postgresql://u:p@h/file\"\n# x=y\n")
    monkeypatch.setenv("ANCHORE_ENV_FILE", str(tmp_path / "env"))
    monkeypatch.setenv("ANCHORE_DB", "postgresql://u:p@h/environment")
    path = tmp_path / "config.yaml"
    path.write_text(
        "credentials: {database: {db_connect: '${ANCHORE_DB}', db_connect_args: {timeout: 7, ssl: true}}}\n"
        "services: {catalog: {object_store: {storage_driver: {name: localfs, config:"
        " {archive_data_dir: '${ANCHORE_DIR}/${HOME}'}}}}}\n"
    )
    config = load_config(path)
    assert config.object_store.settings["archive_data_dir"] == "/from/file/${HOME}"
    assert config.database is not None
    assert config.database.url.reveal() == "postgresql://u:p@h/environment"
    assert (config.database.timeout, config.database.ssl) == (7, True)


def test_a_snippet_of_broken_yaml_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("secret_key: canary-of-yaml\n  bad: [\n")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert "canary" not in str(error.value)
    assert "line 2" in str(error.value)


def test_a_value_that_may_be_secret_is_not_shown(tmp_path: Path) -> None:
    catalog = {"object_store": section("s3", bucket="b", secret_key=["canary-value"])}
    with pytest.raises(ConfigError) as error:
        load_config(write(tmp_path, catalog))
    assert "canary" not in str(error.value)
    assert "secret_key" in str(error.value)


def test_credentials_do_not_print(tmp_path: Path) -> None:
    catalog = {"object_store": section("s3", bucket="b", access_key="AK-canary", secret_key="SK-canary", other="x")}
    config = load_config(write(tmp_path, catalog))
    for text in (repr(config), str(config.describe()), str(config.object_store.as_config()), f"{config}"):
        assert "canary" not in text
    secret = config.object_store.settings["secret_key"]
    assert isinstance(secret, Secret)
    assert secret.reveal() == "SK-canary"
    assert config.object_store.as_config()["storage_driver"]["config"]["secret_key"] == "***"


def test_the_fingerprint_leaves_credentials_out(tmp_path: Path) -> None:
    def fingerprint(**settings: Any) -> str:
        return load_config(write(tmp_path, {"object_store": section("s3", **settings)})).fingerprint()

    first = fingerprint(bucket="b", access_key="a", secret_key="s")
    assert fingerprint(bucket="b", access_key="other", secret_key="rotated") == first
    assert fingerprint(bucket="c", access_key="a", secret_key="s") != first
