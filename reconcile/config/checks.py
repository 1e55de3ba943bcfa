"""What a config section must be like: by JSON Schema, and by what the services would refuse."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from reconcile.config.model import ANALYSIS_ARCHIVE
from reconcile.errors import ConfigError


@cache
def load_schema(name: str) -> dict[str, Any]:
    """Return a JSON Schema by file name, from the wheel or from a source tree."""
    packaged = resources.files("reconcile") / "schemas" / name
    if not packaged.is_file():
        return json.loads((Path(__file__).parents[2] / "schemas" / name).read_text("utf-8"))  # type: ignore[no-any-return]
    return json.loads(packaged.read_text("utf-8"))  # type: ignore[no-any-return]


def check_sections(path: Path, sections: dict[str, Any], credentials: object) -> None:
    """Validate the sections by role. Raises `ConfigError` with path, place, found and expected."""
    import jsonschema  # noqa: PLC0415 - heavy, and only needed here

    instance = {"services": {"catalog": sections}}
    if isinstance(credentials, dict) and isinstance(credentials.get("database"), dict):
        instance["credentials"] = {"database": credentials["database"]}
    validator = jsonschema.Draft202012Validator(load_schema("config.schema.json"))
    error = jsonschema.exceptions.best_match(validator.iter_errors(instance))
    if error is not None:
        place = ".".join(str(part) for part in error.absolute_path)
        raise ConfigError(f"{path}: {place}: {_explain(error)}")
    for role, section in sections.items():
        _check_data_dir(path, role, section)


def _explain(error: Any) -> str:  # noqa: ANN401 - jsonschema is untyped here
    """Say what was found and what is expected. Values are shown only where they cannot be secret."""
    if error.validator == "required":
        missing = sorted(set(error.validator_value) - set(error.instance))
        return f"found no key {missing[0]!r}, expected it: this driver requires it"
    if error.validator == "enum":
        return f"found {error.instance!r}, expected one of {', '.join(error.validator_value)}"
    found = type(error.instance).__name__
    if error.validator == "type":
        return f"found a value of type {found}, expected {error.validator_value}"
    expected = error.schema.get("description") or f"{error.validator} {error.validator_value}"
    return f"found a {found} that does not fit, expected {expected}"


def _check_data_dir(path: Path, role: str, section: dict[str, Any]) -> None:
    driver = section.get("storage_driver") or {}
    if driver.get("name") != "localfs":
        return
    data_dir = driver["config"]["archive_data_dir"]
    place = f"{path}: services.catalog.{role}.storage_driver.config.archive_data_dir"
    if not data_dir.startswith("/"):
        raise ConfigError(f"{place}: found {data_dir!r}, expected an absolute path")


def refused_by_services(path: Path, sections: dict[str, Any]) -> None:
    """Raise `ConfigError` for a section that the services could not start with or read back from."""
    for role, section in sections.items():
        place = f"{path}: services.catalog.{role}"
        driver = section.get("storage_driver")
        settings = (driver or {}).get("config") or {}
        if role == ANALYSIS_ARCHIVE:
            _check_no_defaults(place, section)
        if driver and driver["name"] == "s3":
            _check_s3(f"{place}.storage_driver.config", settings)
        if driver and driver["name"] == "localfs":
            bad = [character for character in "?#\t\r\n" if character in settings["archive_data_dir"]]
            if bad:
                raise ConfigError(
                    f"{place}.storage_driver.config.archive_data_dir: found {bad[0]!r} in the path, expected"
                    " none: the services cut the URL there and could read no document"
                )


def _check_no_defaults(place: str, section: dict[str, Any]) -> None:
    for key in ("storage_driver", "compression"):
        if not isinstance(section.get(key), dict):
            raise ConfigError(f"{place}: found no {key!r}, expected it: the services set no default here")
    for key in ("enabled", "min_size_kbytes"):
        if key not in section["compression"]:
            raise ConfigError(f"{place}.compression: found no {key!r}, expected it: the services set no default here")


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
    if not settings.get("iamauto") and not (settings.get("access_key") and settings.get("secret_key")):
        raise ConfigError(f"{place}: found no credentials, expected access_key and secret_key, or iamauto: true")
