"""What a config section must be like: by JSON Schema, and by what the services would refuse."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reconcile.config.drivers import DRIVERS
from reconcile.config.model import ANALYSIS_ARCHIVE, DEFAULT_MIN_SIZE_KBYTES
from reconcile.config.text import kind, require_set
from reconcile.errors import ConfigError
from reconcile.secret import MASK

# What the services' S3 client takes for a host and for a bucket; source: botocore.
_LABEL = r"(?!-)[A-Za-z\d-]{1,63}(?<!-)"
_HOST = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}\.?")
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}|arn:.+")
_WORD = re.compile(r"[a-z0-9_]{1,16}")


@cache
def load_schema(name: str) -> dict[str, Any]:
    """Return a JSON Schema by file name, from the wheel or from a source tree."""
    packaged = resources.files("reconcile") / "schemas" / name
    if not packaged.is_file():
        return json.loads((Path(__file__).parents[2] / "schemas" / name).read_text("utf-8"))  # type: ignore[no-any-return]
    return json.loads(packaged.read_text("utf-8"))  # type: ignore[no-any-return]


def check_sections(path: Path, sections: dict[str, Any]) -> None:
    """Validate the sections by role. Raises `ConfigError` with path, place, found and expected."""
    import jsonschema  # noqa: PLC0415 - heavy, and only needed here

    for role, section in sections.items():
        for name, value in values_read(section):
            require_set(f"{path}: services.catalog.{role}.{name}", value)
    instance = {"services": {"catalog": sections}}
    validator = jsonschema.Draft202012Validator(load_schema("config.schema.json"))
    error = jsonschema.exceptions.best_match(validator.iter_errors(instance))
    if error is not None:
        place = ".".join(str(part) for part in error.absolute_path)
        raise ConfigError(f"{path}: {place}: {_explain(error)}")
    for role, section in sections.items():
        place = f"{path}: services.catalog.{role}"
        _check_min_size(place, section)
        _check_settings(f"{place}.storage_driver.config", section)


def values_read(section: object) -> Iterator[tuple[str, Any]]:
    """Yield place and value of all that the services read of a section of any shape."""
    if not isinstance(section, dict):
        return
    compression, driver = section.get("compression"), section.get("storage_driver")
    if isinstance(compression, dict):
        yield "compression.enabled", compression.get("enabled")
        if _is_compressed(section):
            yield "compression.min_size_kbytes", compression.get("min_size_kbytes")
    if not isinstance(driver, dict):
        return
    yield "storage_driver.name", driver.get("name")
    settings = driver.get("config")
    if isinstance(settings, dict):
        for key in _keys_read(driver.get("name"), settings):
            yield f"storage_driver.config.{key}", settings[key]


def _keys_read(driver: object, settings: dict[str, Any]) -> list[str]:
    if driver == "swift":  # the client is given them all
        return list(settings)
    if driver != "s3":
        return ["archive_data_dir"] if driver == "localfs" and "archive_data_dir" in settings else []
    keys = ["bucket", "prefix", "create_bucket"]
    keys += ["access_key", "secret_key"] if has_keys(settings) else ["iamauto"]
    keys += ["url"] if "url" in settings else ["region"]
    return [key for key in keys if key in settings]


def settings_read(section: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that the driver knows; a value that YAML took apart can have made others.

    Swift's are open: its client is given them all.
    """
    driver = section.get("storage_driver") or {}
    name, settings = driver.get("name", "db"), driver.get("config") or {}
    known = {key.name for key in DRIVERS[name].keys}
    return {key: settings[key] for key in settings if key in known or (name == "swift" and isinstance(key, str))}


def has_keys(settings: dict[str, Any]) -> bool:
    """Tell whether an s3 section names its own credentials, which then win over ``iamauto``."""
    return "access_key" in settings and "secret_key" in settings


def _is_compressed(section: dict[str, Any]) -> bool:
    """Tell whether the services would come to compare a size: they test ``enabled is True`` and the driver first."""
    compression, driver = section.get("compression"), section.get("storage_driver")
    name = driver.get("name", "db") if isinstance(driver, dict) else "db"
    may = not isinstance(name, str) or name not in DRIVERS or DRIVERS[name].may_compress
    return isinstance(compression, dict) and compression.get("enabled") is True and may


def _explain(error: Any) -> str:  # noqa: ANN401 - jsonschema is untyped here
    """Say what was found and what is expected. Values are shown only where they cannot be secret."""
    if error.validator == "required":
        missing = sorted(set(error.validator_value) - set(error.instance))
        return f"found no key {missing[0]!r}, which this driver requires"
    if error.validator == "enum":
        found = error.instance if isinstance(error.instance, str) else kind(error.instance)
        shown = repr(found) if _WORD.fullmatch(found) else "another text"
        return f"found {shown}, expected one of {', '.join(error.validator_value)}"
    found = type(error.instance).__name__
    if error.validator == "type":
        quoted = "; quote it" if isinstance(error.instance, int | float) else ""
        return f"found a value of type {found}, expected {error.validator_value}{quoted}"
    expected = error.schema.get("description") or f"{error.validator} {error.validator_value}"
    return f"found a {found} that does not fit, expected {expected}"


def _check_min_size(place: str, section: dict[str, Any]) -> None:
    """Refuse a limit that the services cannot multiply and compare; it fails with the first document they write."""
    if not _is_compressed(section):
        return
    value = section["compression"].get("min_size_kbytes", DEFAULT_MIN_SIZE_KBYTES)
    if not is_number(value):
        raise ConfigError(
            f"{place}.compression.min_size_kbytes: found {kind(value)}, expected a number of KiB: the "
            "services could not write any document",
            hint="write the number without quotes",
        )


def is_number(value: object) -> bool:
    """Tell whether a value is a number that a size can be compared with."""
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _check_settings(place: str, section: dict[str, Any]) -> None:
    driver = section.get("storage_driver") or {}
    settings = driver.get("config") or {}
    for key, value in settings.items():
        if isinstance(value, str) and "://" in value and value.count("@") > 1:
            raise ConfigError(
                f"{place}.{key}: found a URL with more than one @ (it is not shown: it may hold a password)",
                hint="percent-encode the @ of a user or password: %40",
            )
    if driver.get("name") == "localfs" and not settings["archive_data_dir"].startswith("/"):
        raise ConfigError(
            f"{place}.archive_data_dir: found {settings['archive_data_dir']!r}, expected an absolute path"
        )
    if driver.get("name") == "s3":
        _check_endpoint(place, settings.get("url"))
        if not _BUCKET.fullmatch(settings["bucket"]):
            raise ConfigError(
                f"{place}.bucket: found {settings['bucket']!r}, which the S3 client of the services refuses: expected"
                " letters, digits, '.', '-' and '_'",
                hint="a bucket of another tenant (tenant:bucket) is reached with that tenant's own credentials",
            )


def _check_endpoint(place: str, url: object) -> None:
    """Refuse an endpoint that the services' S3 client would refuse when they start."""
    if not isinstance(url, str) or not url:
        return
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", None
    if parts and parts.scheme in ("http", "https") and (_HOST.fullmatch(host) or ":" in host):
        return
    shown = MASK if "@" in url else url
    raise ConfigError(
        f"{place}.url: found {shown!r}, expected http:// or https://, a host and an optional port: the S3 "
        "client of the services refuses it",
        hint="write the URL with its scheme, such as http://minio:9000; host names have no '_'",
    )


def refused_by_services(path: Path, sections: dict[str, Any]) -> None:
    """Raise `ConfigError` for a section that the services could not start with or read back from."""
    for role, section in sections.items():
        place = f"{path}: services.catalog.{role}"
        driver = section.get("storage_driver")
        settings = (driver or {}).get("config") or {}
        if role == ANALYSIS_ARCHIVE:
            _check_no_defaults(place, section)
        for key in ("storage_driver", "compression"):
            if key in section and section[key] is None:
                raise ConfigError(
                    f"{place}.{key}: found an empty value, expected a mapping or no such key: the services "
                    "refuse to start"
                )
        if driver and driver.get("name") == "s3":
            _check_s3(f"{place}.storage_driver.config", settings)
        if driver and driver.get("name") == "localfs":
            bad = [character for character in "?#\t\r\n" if character in settings["archive_data_dir"]]
            if bad:
                raise ConfigError(
                    f"{place}.storage_driver.config.archive_data_dir: found {bad[0]!r} in the path, expected "
                    "none: the services cut the URL there and could not read any document"
                )


def _check_no_defaults(place: str, section: dict[str, Any]) -> None:
    """Refuse an analysis archive that lacks what the services look for there; the object store gets it by default."""
    for key in ("storage_driver", "compression"):
        if not isinstance(section.get(key), dict):
            raise ConfigError(f"{place}: found no {key!r}, expected one: the services set no default here")
    wanted = [("storage_driver", "name"), ("storage_driver", "config"), ("compression", "enabled")]
    if _is_compressed(section):
        wanted.append(("compression", "min_size_kbytes"))
    for part, key in wanted:
        if key not in section[part]:
            raise ConfigError(f"{place}.{part}: found no {key!r}, expected one: the services set no default here")


def _check_s3(place: str, settings: dict[str, Any]) -> None:
    if "url" in settings and not settings["url"]:
        raise ConfigError(
            f"{place}.url: found {settings['url']!r}, expected a URL, or no such key: the services refuse to start"
        )
    if "url" not in settings and "region" in settings and not settings["region"]:
        raise ConfigError(
            f"{place}.region: found {settings['region']!r} and no url, expected a region, or no such key:"
            " the services refuse to start"
        )
    if not has_keys(settings):
        if not settings.get("iamauto"):
            raise ConfigError(f"{place}: found no credentials, expected access_key and secret_key, or iamauto: true")
    elif bool(settings["access_key"]) != bool(settings["secret_key"]):
        empty = "secret_key" if settings["access_key"] else "access_key"
        raise ConfigError(f"{place}.{empty}: found an empty value, expected a value beside the other key")
