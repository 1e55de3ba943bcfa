"""Read a services' config file exactly as the services do (object store reference, section 5)."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from reconcile.config.checks import check_sections, refused_by_services
from reconcile.config.drivers import DRIVERS
from reconcile.config.model import (
    ANALYSIS_ARCHIVE,
    DEFAULT_MIN_SIZE_KBYTES,
    OBJECT_STORE,
    Backend,
    Compression,
    Config,
    DatabaseSettings,
)
from reconcile.errors import ConfigError
from reconcile.secret import Secret, without_userinfo

_MOST_VALUES = 100_000
_VARIABLE = re.compile(r"\$\{(ANCHORE[A-Za-z0-9_]*)\}")


def load_config(path: Path | str, *, destination: bool = False) -> Config:
    """Read a config file of the services.

    With ``destination`` the sections must also be such that the services would start with them.
    Raises `ConfigError` (exit 78) naming the file, the place in it, what was found and what is
    expected. Credentials come back as `Secret`.
    """
    path = Path(path)
    document = _parse(path, _substitute(path, _read(path)))
    catalog = _catalog_section(path, document)
    sections = _sections(catalog)
    check_sections(path, sections, document.get("credentials"))
    if destination:
        refused_by_services(path, sections)
    backends = {role: _backend(role, section) for role, section in sections.items()}
    return Config(
        path=path.absolute(),
        object_store=backends[OBJECT_STORE],
        analysis_archive=backends.get(ANALYSIS_ARCHIVE),
        database=_database(document),
        doubts=tuple(_doubts(path, catalog, sections)),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such config file", hint="name the services' config.yaml, or a copy that says what shall be"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _environment() -> dict[str, str]:
    """Return the variables for substitution: ANCHORE_ENV_FILE's, the process environment winning."""
    variables: dict[str, str] = {}
    env_file = os.environ.get("ANCHORE_ENV_FILE")
    if env_file:
        for line in _read(Path(env_file)).splitlines():
            name, equals, value = line.strip().partition("=")
            if equals and not name.startswith("#"):
                variables[name.strip()] = value.strip().strip("'\"")
    return variables | dict(os.environ)


def _substitute(path: Path, text: str) -> str:
    variables = _environment()
    missing = sorted({name for name in _VARIABLE.findall(text) if name not in variables})
    if missing:
        raise ConfigError(
            f"{path}: environment variable {', '.join(missing)} is not set, and the file refers to it",
            hint=f"export {missing[0]}=..., or name a file of NAME=value lines in ANCHORE_ENV_FILE",
        )
    return _VARIABLE.sub(lambda match: variables[match[1]], text)


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        # The mark's snippet is left out: it would print the lines around it, secrets included.
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}: not YAML{place}: {error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: not YAML: {type(error).__name__}") from None
    if not _is_bounded(document):
        raise ConfigError(f"{path}: its anchors and aliases stand for more than {_MOST_VALUES} values")
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: the file holds {_kind(document)}, expected a mapping with 'services'")
    return document


def _is_bounded(document: object) -> bool:
    """Tell whether a document is of a size that a config has, each alias taken for what it stands for.

    Aliases of aliases grow exponentially, and one of itself is endless, though the parser shares what they stand for.
    """
    sizes: dict[int, float] = {}

    def size(value: object) -> float:
        if not isinstance(value, (dict, list)):
            return 1
        if id(value) not in sizes:
            sizes[id(value)] = float("inf")  # met again while it is being counted: it holds itself
            inner = [*value, *value.values()] if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(map(size, inner))
        return sizes[id(value)]

    return size(document) <= _MOST_VALUES


def _catalog_section(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    section = document
    where = ""
    for key in ("services", "catalog"):
        where = f"{where}.{key}" if where else key
        found: Any = section.get(key)
        if not isinstance(found, dict):
            raise ConfigError(
                f"{path}: {where}: found {_kind(found)}, expected a mapping",
                hint="use the config.yaml of the catalog service: it has services.catalog",
            )
        section = found
    return section


def _sections(catalog: dict[str, Any]) -> dict[str, Any]:
    """Return the sections by role, chosen by truth as the services choose them."""
    primary = catalog.get("object_store") or catalog.get("archive") or _legacy_section(catalog)
    archive = catalog.get("analysis_archive")
    sections = {OBJECT_STORE: primary}
    if archive:
        sections[ANALYSIS_ARCHIVE] = archive
    return sections


def _legacy_section(catalog: dict[str, Any]) -> dict[str, Any]:
    """Return the section that the keys of very old files amount to; without any, the default ``db``."""
    name = catalog.get("archive_driver")
    if not name:
        return {}
    if catalog.get("use_db"):
        name = "db"
    settings = {"archive_data_dir": catalog.get("archive_data_dir")} if name == "localfs" else {}
    return {"storage_driver": {"name": name, "config": settings}}


def _backend(role: str, section: dict[str, Any]) -> Backend:
    driver = section.get("storage_driver") or {"name": "db"}
    compression = section.get("compression") or {}
    public = DRIVERS[driver["name"]].public_keys
    settings = driver.get("config") or {}
    return Backend(
        role=role,
        driver=driver["name"],
        settings={key: _setting(value, public=key in public) for key, value in settings.items()},
        compression=Compression(
            enabled=bool(compression.get("enabled", False)),
            min_size_kbytes=compression.get("min_size_kbytes", DEFAULT_MIN_SIZE_KBYTES),
        ),
    )


_CATALOG_KEYS = ("object_store", "archive", "analysis_archive", "archive_driver", "archive_data_dir", "use_db")
_SECTION_KEYS = ("compression", "storage_driver", "enabled")
_COMPRESSION_KEYS = ("enabled", "min_size_kbytes")


def _doubts(path: Path, catalog: dict[str, Any], sections: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence a key that the services would pass over, though it looks like one that they know."""
    places: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [("services.catalog", catalog, _CATALOG_KEYS)]
    for role, section in sections.items():
        driver = section.get("storage_driver") or {}
        settings = tuple(key.name for key in DRIVERS[driver.get("name", "db")].keys)
        places += [
            (f"services.catalog.{role}", section, _SECTION_KEYS),
            (f"services.catalog.{role}.compression", section.get("compression") or {}, _COMPRESSION_KEYS),
            (f"services.catalog.{role}.storage_driver.config", driver.get("config") or {}, settings),
        ]
    for place, found, known in places:
        for key in found:
            alike = [] if key in known else difflib.get_close_matches(str(key), known, n=1, cutoff=0.85)
            if alike:
                yield f"{path}: the services pass over {place}.{key}; is {alike[0]} meant?"


def _setting(value: object, *, public: bool) -> object:
    """Wrap what is not to be shown; remember a public URL's userinfo, so that no message shows it either."""
    if not public and value is not None:
        return Secret(value)
    if isinstance(value, str):
        without_userinfo(value)
    return value


def _database(document: dict[str, Any]) -> DatabaseSettings | None:
    credentials = document.get("credentials")
    database = credentials.get("database") if isinstance(credentials, dict) else None
    if not isinstance(database, dict):
        return None
    url = database.get("db_connect")
    if not url:
        return None
    args = database.get("db_connect_args") or {}
    return DatabaseSettings(url=Secret(url, remembered=False), ssl=bool(args.get("ssl")), timeout=args.get("timeout"))


def _kind(value: object) -> str:
    names = {"NoneType": "nothing", "dict": "a mapping", "list": "a list", "str": "text"}
    name = type(value).__name__
    return names.get(name, f"a {name}")
