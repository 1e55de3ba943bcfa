"""Config files are read as the services read them (object store reference, section 5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from reconcile.config import load_config
from reconcile.errors import ConfigError
from reconcile.logs import configure
from reconcile.secret import Secret
from reconcile.stores import address_of
from reconcile.stores.s3_client import S3Settings


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
        "did you mean object_store?",
        "did you mean enabled?",
        "did you mean prefix?",
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
    assert config.database.url() == "postgresql://u:p@h/environment"
    assert (config.database.timeout(), config.database.ssl()) == (7, True)


def test_variables_that_are_not_set_matter_only_where_they_are_read(tmp_path: Path) -> None:
    """In comments, in sections of others, in keys that the driver does not look at, in the database's section."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "# ${ANCHORE_NOT_SET}\n"
        "log_level: ${ANCHORE_NOT_SET}\n"
        "credentials: {database: {user: '${ANCHORE_NOT_SET}', host: h, name: n, encryption: {keys:"
        " ['${ANCHORE_NOT_SET}']}}}\n"
        "services:\n"
        "  apiext: {port: '${ANCHORE_NOT_SET}'}\n"
        "  catalog:\n"
        "    port: ${ANCHORE_NOT_SET}\n"
        "    analysis_archive:\n"
        "      compression: {enabled: false, min_size_kbytes: '${ANCHORE_NOT_SET}'}\n"
        "      storage_driver:\n"
        "        name: s3\n"
        "        config: {bucket: b, access_key: a, secret_key: s, url: 'http://h', region: '${ANCHORE_NOT_SET}',"
        " other: '${ANCHORE_NOT_SET}'}\n"
    )
    config = load_config(path, destination=True)
    assert config.analysis_archive is not None
    assert config.database is not None
    with pytest.raises(ConfigError, match=r"credentials.database.user: environment variable ANCHORE_NOT_SET is not"):
        config.database.parts()


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"storage_driver": {"name": "${ANCHORE_NOT_SET}"}}, "storage_driver.name"),
        (section("localfs", archive_data_dir="/x/${ANCHORE_NOT_SET}"), "archive_data_dir"),
        (section("s3", bucket="b", access_key="a", secret_key="${ANCHORE_NOT_SET}"), "secret_key"),
        (section("s3", bucket="b", iamauto="${ANCHORE_NOT_SET}"), "iamauto"),
        (section("s3", bucket="b", iamauto=True, region="${ANCHORE_NOT_SET}"), "region"),
        (section("swift", container="c", os_password="${ANCHORE_NOT_SET}"), "os_password"),
        ({"compression": {"enabled": "${ANCHORE_NOT_SET}"}}, "compression.enabled"),
    ],
)
def test_a_value_that_is_read_needs_its_variable(tmp_path: Path, section: dict[str, Any], key: str) -> None:
    path = write(tmp_path, {"object_store": section})
    with pytest.raises(ConfigError, match=f"{key}: environment variable ANCHORE_NOT_SET is not set") as error:
        load_config(path)
    assert error.value.hint is not None
    assert error.value.hint.startswith("export ANCHORE_NOT_SET=")


def test_an_env_file_that_is_not_there_is_ignored_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANCHORE_ENV_FILE", str(tmp_path / "nowhere"))
    configure("warning", "json")
    load_config(write(tmp_path, {"object_store": section("db2")}))
    configure("error")
    assert "ANCHORE_ENV_FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("export ANCHORE_X=plain", "plain"),
        ('export ANCHORE_X="it\'s two words"', "it's two words"),
        ('  export ANCHORE_X="a \\"quoted\\" one"', 'a "quoted" one'),
        ("export ANCHORE_X='$one' ANCHORE_Y=z", "$one"),
        ("export ANCHORE_X=it's", "it's"),
        ("ANCHORE_X='quoted'", "quoted"),
        ("ANCHORE_X= a=b ", " a=b "),
        ("# ANCHORE_X=comment\nANCHORE_X=after", "after"),
    ],
)
def test_lines_of_an_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, value: str) -> None:
    (tmp_path / "env").write_text(line + "\n")
    monkeypatch.setenv("ANCHORE_ENV_FILE", str(tmp_path / "env"))
    path = tmp_path / "config.yaml"
    path.write_text(
        "services: {catalog: {object_store: {storage_driver: {name: localfs, config:\n"
        " {archive_data_dir: /x,\n other: |\n        ${ANCHORE_X}\n}}}}}\n"
    )
    path.write_text(
        "services:\n catalog:\n  object_store:\n   storage_driver:\n    name: swift\n    config:\n"
        "     container: c\n     user: |-\n      x${ANCHORE_X}x\n"
    )
    user = load_config(path).object_store.settings["user"]
    assert isinstance(user, Secret)
    assert user.reveal() == f"x{value}x"


def test_a_value_may_name_a_variable_that_comes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANCHORE_A", "/one/${ANCHORE_B}")
    monkeypatch.setenv("ANCHORE_B", "two")
    path = write(tmp_path, {"object_store": section("localfs", archive_data_dir="${ANCHORE_A}")})
    assert load_config(path).object_store.settings["archive_data_dir"] == "/one/two"


SPECIAL = [
    "*",
    "!",
    "&",
    "@",
    "%",
    "{",
    "}",
    "[",
    "'",
    '"',
    "|",
    ">",
    "`",
    "#",
    ",",
    "? ",
    "- ",
    ": ",
    "!!int ",
    "!!bool ",
]


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("first", SPECIAL)
def test_a_secret_that_is_yaml_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, flow: bool
) -> None:
    """Not by the parser, not by what comes after it; whether the services could read it or not."""
    for value in (
        f"{first}canary-of-it",
        f"canary-of-it{first}",
        f"canary{first}canary",
        f"{first}canary: {first}canary",
    ):
        monkeypatch.setenv("ANCHORE_SECRET", value)
        path = tmp_path / "config.yaml"
        lines = [f"{key}: ${{ANCHORE_SECRET}}" for key in ("access_key", "secret_key")] + ["bucket: b", "url: http://h"]
        settings = "{" + ", ".join(lines) + "}" if flow else "".join(f"\n     {line}" for line in lines)
        path.write_text(
            f"services:\n catalog:\n  object_store:\n   storage_driver:\n    name: s3\n    config: {settings}\n"
        )
        for destination in (False, True):
            shown: list[Any]
            try:
                config = load_config(path, destination=destination)
            except ConfigError as error:
                shown = [error.message, error.hint]
            else:
                shown = [config, config.describe(), config.doubts, config.provenance(), config.object_store.as_config()]
            assert "canary" not in str(shown)


def test_the_variable_that_breaks_the_yaml_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANCHORE_SECRET", "*canary")
    path = tmp_path / "config.yaml"
    path.write_text("services:\n catalog:\n  secret_key: ${ANCHORE_SECRET}\n")
    with pytest.raises(ConfigError, match=r"not YAML, line 3, column 15$") as error:
        load_config(path)
    assert "the value of ANCHORE_SECRET has characters" in str(error.value.hint)
    assert "'${ANCHORE_SECRET}'" in str(error.value.hint)


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


KEYS = {"bucket": "b", "access_key": "a", "secret_key": "s"}
NO_LIMIT = {"compression": {"enabled": False}}


@pytest.mark.parametrize("value", ["true", 1, "yes", [1]])
def test_only_true_compresses(tmp_path: Path, value: Any) -> None:
    """The services test ``is True``; anything else is accepted, does nothing, and is pointed out."""
    config = load_config(write(tmp_path, {"object_store": section("db2") | {"compression": {"enabled": value}}}))
    assert config.object_store.compression.enabled is False
    assert ["compression.enabled is not the YAML value true" in doubt for doubt in config.doubts] == [True]


@pytest.mark.parametrize(("value", "bytes_"), [(0.5, 512), (-1, -1024), (0, 0), (True, 1024), (7, 7168)])
def test_any_number_is_a_limit(tmp_path: Path, value: Any, bytes_: float) -> None:
    compression = {"compression": {"enabled": True, "min_size_kbytes": value}}
    config = load_config(write(tmp_path, {"object_store": section("db2") | compression}), destination=True)
    assert config.object_store.compression.min_size == bytes_


@pytest.mark.parametrize(
    ("driver", "enabled", "is_refused"), [("db2", True, True), ("db", True, False), ("db2", False, False)]
)
@pytest.mark.parametrize("value", ["100", None, [], float("nan")])
def test_a_limit_that_is_no_number_matters_where_it_is_compared(
    tmp_path: Path, driver: str, enabled: bool, is_refused: bool, value: Any
) -> None:
    """Where the services would come to compare it they fail with every document; elsewhere nobody looks."""
    catalog = {"object_store": section(driver) | {"compression": {"enabled": enabled, "min_size_kbytes": value}}}
    path = write(tmp_path, catalog)
    if is_refused:
        with pytest.raises(ConfigError, match="min_size_kbytes"):
            load_config(path)
    else:
        assert load_config(path, destination=True).object_store.compression.min_size == 100 * 1024


@pytest.mark.parametrize(("value", "text"), [(5, "5"), (None, "None"), (False, "False"), (1.5, "1.5"), ("p/", "p/")])
def test_a_prefix_is_put_in_as_text(tmp_path: Path, value: Any, text: str) -> None:
    backends = (section("s3", prefix=value, **KEYS), section("swift", container="c", anchore_key_prefix=value))
    for backend in backends:
        config = load_config(write(tmp_path, {"object_store": backend}), destination=True)
        assert address_of(config.object_store).url(("u", "b", "a")).endswith(f"/{text}u/b/a")
        assert any("every key with the text None" in doubt for doubt in config.doubts) == (value is None)


@pytest.mark.parametrize(("value", "is_true"), [("true", True), (1, True), ("false", True), ("", False), (0, False)])
def test_what_the_services_test_for_truth(tmp_path: Path, value: Any, is_true: bool) -> None:
    settings = KEYS | {"create_bucket": value, "iamauto": value}
    config = load_config(write(tmp_path, {"object_store": section("s3", **settings)}), destination=True)
    assert S3Settings.of(config.object_store).create_bucket == is_true
    assert sum("is text, which the services read as true" in doubt for doubt in config.doubts) == 2 * (value == "false")


def test_a_section_without_a_name_is_db(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, {"object_store": {"storage_driver": {"config": {}}}}), destination=True)
    assert config.object_store.driver == "db"


def test_the_catalog_section_itself_may_be_the_object_store(tmp_path: Path) -> None:
    """Where there is none of its keys: so the services read what is older than ``archive``."""
    catalog = section("db2") | {"compression": {"enabled": True, "min_size_kbytes": 1}}
    config = load_config(write(tmp_path, catalog))
    assert (config.object_store.driver, config.object_store.compression.min_size) == ("db2", 1024)
    assert load_config(write(tmp_path, {"archive_driver": "db"} | catalog)).object_store.driver == "db"


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (section("s3", **KEYS) | NO_LIMIT, None),
        (section("db") | {"compression": {"enabled": True}}, None),
        (section("s3", **KEYS) | {"compression": {"enabled": True}}, "found no 'min_size_kbytes'"),
        (section("s3", **KEYS) | {"compression": {}}, "found no 'enabled'"),
        (section("s3", **KEYS), "found no 'compression'"),
        ({"storage_driver": {"name": "db"}} | NO_LIMIT, "storage_driver: found no 'config'"),
        ({"storage_driver": {"config": {}}} | NO_LIMIT, "storage_driver: found no 'name'"),
        (NO_LIMIT, "found no 'storage_driver'"),
    ],
)
def test_what_an_analysis_archive_needs(tmp_path: Path, archive: dict[str, Any], said: str | None) -> None:
    path = write(tmp_path, {"enabled": True, "analysis_archive": archive})
    if said is None:
        assert load_config(path, destination=True).analysis_archive is not None
    else:
        with pytest.raises(ConfigError, match=said):
            load_config(path, destination=True)


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({"access_key": "a", "secret_key": "s"}, ("a", "s")),
        ({"access_key": "a", "secret_key": "s", "iamauto": True}, ("a", "s")),
        ({"access_key": "a", "iamauto": True}, (None, None)),
        ({"access_key": None, "secret_key": None, "iamauto": True}, (None, None)),
        ({"access_key": "", "secret_key": ""}, (None, None)),
    ],
)
def test_keys_win_over_the_chain(tmp_path: Path, settings: dict[str, Any], keys: tuple[Any, Any]) -> None:
    config = load_config(write(tmp_path, {"object_store": section("s3", bucket="b", **settings)}), destination=True)
    found = S3Settings.of(config.object_store)
    assert (found.access_key, found.secret_key) == keys


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "minio:9000"}, "found 'minio:9000', expected http:// or https://"),
        ({"url": "http://my_minio:9000"}, "the S3 client of the services refuses it"),
        ({"url": "http://minio:port"}, r"found 'http://minio:port'"),
        ({"url": "ftp://minio"}, "refuses it"),
        ({"url": "http://k:canary@x@minio"}, "more than one @"),
        ({"url": "k:canary@minio"}, r"found '\*\*\*'"),
        ({"url": "http://k:can/ary@minio"}, r"found '\*\*\*'"),
        ({"bucket": "tenant:bucket"}, "found 'tenant:bucket', which the S3 client of the services refuses"),
        ({"bucket": ""}, "does not fit"),
    ],
)
def test_what_the_client_of_the_services_refuses(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    """At once, whichever of the two configs it stands in."""
    path = write(tmp_path, {"object_store": section("s3", **(KEYS | settings))})
    with pytest.raises(ConfigError, match=said) as error:
        load_config(path)
    assert "canary" not in f"{error.value.message} {error.value.hint}"


@pytest.mark.parametrize(
    "url", ["http://minio:9000", "https://s3.example.com/", "http://[::1]:9000", "http://10.0.0.1"]
)
def test_endpoints(tmp_path: Path, url: str) -> None:
    path = write(tmp_path, {"object_store": section("s3", url=url, **KEYS)})
    assert load_config(path, destination=True).object_store.settings["url"] == url


def test_what_a_destination_is_told_of(tmp_path: Path) -> None:
    catalog = {"object_store": section("db2"), "analysis_archive": section("s3", **KEYS) | NO_LIMIT}
    more = {"object_store": {"direct_access": True}}
    doubts = load_config(write(tmp_path, catalog, **more), destination=True).doubts
    assert [
        part in doubt for part, doubt in zip(("no key enabled", "driver db2", "direct_access"), doubts, strict=True)
    ]
    assert "lists only db and s3" in doubts[1]
    assert load_config(write(tmp_path, catalog, **more)).doubts == ()
    catalog = {"enabled": False, "object_store": section("s3", **KEYS)}
    assert load_config(write(tmp_path, catalog, object_store={"direct_access": False}), destination=True).doubts == ()


@pytest.mark.parametrize(
    "document",
    [
        {"object_store": {"storage_driver": {"name": "s3", "bucket": "b"}}, "services": {"component_catalog": {}}},
        {"services": {"component_catalog": {"logging": {}}}},
    ],
)
def test_the_file_of_the_component_catalog_is_known_by_its_look(tmp_path: Path, document: dict[str, Any]) -> None:
    path = tmp_path / "bootstrap_ng.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match="a file of the component catalog of Enterprise 6") as error:
        load_config(path)
    assert "use the config.yaml of the catalog service" in str(error.value.hint)
    assert "as well" in str(error.value.hint)


@pytest.mark.parametrize(
    ("catalog", "database", "second"),
    [
        ({"server": {"ssl_enable": False}}, {}, "bootstrap_ng.yaml"),
        ({}, {"encryption": {"keys": []}}, "bootstrap_ng.yaml"),
        ({}, {"host": "h"}, None),
    ],
)
def test_the_generation_of_a_config(
    tmp_path: Path, catalog: dict[str, Any], database: dict[str, Any], second: str | None
) -> None:
    path = write(tmp_path, catalog, credentials={"database": database})
    assert load_config(path).second_file == second


def test_where_settings_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of a run has this: names of files and variables, never a value."""
    (tmp_path / "env").write_text(
        "export ANCHORE_KEY='canary-key'\nANCHORE_BOTH=canary-filed\nANCHORE_OUTER=${ANCHORE_INNER}\n"
    )
    for name, value in {
        "ENV_FILE": str(tmp_path / "env"),
        "BOTH": "canary-both",
        "INNER": "canary-inner",
        "SECTION": "{container: canary-c, key: canary-k}",
        "HOST": "canary-host",
    }.items():
        monkeypatch.setenv(f"ANCHORE_{name}", value)
    path = tmp_path / "config.yaml"
    path.write_text(
        "credentials:\n"
        "  database:\n"
        "    user: anchore\n"
        "    password: ${ANCHORE_OUTER}\n"
        "    host: ${ANCHORE_HOST}.example.com\n"
        "    db_connect_args: {sslrootcert: /ca, timeout: '${ANCHORE_UNSET}'}\n"
        "services:\n"
        "  catalog:\n"
        "    archive:\n"
        "      storage_driver:\n"
        "        name: s3\n"
        "        config: {bucket: b, access_key: '${ANCHORE_KEY}', secret_key: '${ANCHORE_BOTH}${ANCHORE_KEY}'}\n"
        "    analysis_archive:\n"
        "      compression: {enabled: false}\n"
        "      storage_driver: {name: swift, config: ${ANCHORE_SECTION}}\n".replace(
            "{name: swift, config: ${ANCHORE_SECTION}}", "\n        name: swift\n        config: ${ANCHORE_SECTION}"
        )
    )
    config = load_config(path)
    key = f"variable ANCHORE_KEY of {tmp_path / 'env'}"
    assert config.provenance() == {
        "object_store": {"bucket": "file", "access_key": key, "secret_key": f"{key}, variable ANCHORE_BOTH"},
        "analysis_archive": {"container": "variable ANCHORE_SECTION", "key": "variable ANCHORE_SECTION"},
        "database": {
            "user": "file",
            "password": f"variable ANCHORE_OUTER of {tmp_path / 'env'}, variable ANCHORE_INNER",
            "host": "variable ANCHORE_HOST",
            "db_connect_args.sslrootcert": "file",
            "db_connect_args.timeout": "file",
        },
    }
    assert "canary" not in str(config.provenance())
    assert "canary" not in repr(config)


def test_where_the_settings_of_very_old_files_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANCHORE_DIR", "/canary")
    old = {"archive_driver": "localfs", "archive_data_dir": "${ANCHORE_DIR}"}
    expected = {"archive_data_dir": "variable ANCHORE_DIR"}
    assert load_config(write(tmp_path, old)).provenance() == {"object_store": expected}
    plain = section("localfs", archive_data_dir="${ANCHORE_DIR}")
    assert load_config(write(tmp_path, plain)).provenance() == {"object_store": expected}
