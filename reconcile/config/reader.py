"""Read a services' config file exactly as the services do (object store reference, section 5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reconcile.config.database import settings_of
from reconcile.config.drivers import DRIVERS
from reconcile.config.model import (
    ANALYSIS_ARCHIVE,
    DEFAULT_MIN_SIZE_KBYTES,
    OBJECT_STORE,
    Backend,
    Compression,
    Config,
)
from reconcile.config.notes import misread, misspelt, of_destination
from reconcile.config.provenance import Origins, Place
from reconcile.config.text import Variables, kind, parse, read_text
from reconcile.config.validation import check_sections, is_number, refused_by_services, settings_read
from reconcile.errors import ConfigError
from reconcile.secret import Secret, without_userinfo

SECOND_FILE = "bootstrap_ng.yaml"  # Enterprise 6: the component catalog's own, with an object_store at its root
_CATALOG = ("services", "catalog")


def load_config(path: Path | str, *, destination: bool = False) -> Config:
    """Read a config file of the services.

    With ``destination`` the sections must also be such that the services would start with them.
    Raises `ConfigError` (exit 78) naming the file, the place in it, what was found and what is
    expected. Credentials come back as `Secret`. What is wrong with ``credentials.database`` is
    raised by whoever needs it.
    """
    path = Path(path)
    raw = read_text(path)
    variables = Variables.gather(raw)
    document = parse(path, raw, variables)
    catalog = _catalog_section(path, document)
    sections = _sections(catalog)
    check_sections(path, sections)
    doubts = [*misspelt(path, catalog, sections), *misread(path, sections)]
    if destination:
        refused_by_services(path, sections)
        doubts += of_destination(path, document, sections)
    backends = {role: _backend(role, section) for role, section in sections.items()}
    return Config(
        path=path.absolute(),
        object_store=backends[OBJECT_STORE],
        analysis_archive=backends.get(ANALYSIS_ARCHIVE),
        database=settings_of(path, document),
        doubts=tuple(doubts),
        second_file=SECOND_FILE if _has_component_catalog(document) else None,
        origins=_origins(Origins.of(raw, variables), document, sections),
    )


def _catalog_section(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    section = document
    where = ""
    for key in _CATALOG:
        where = f"{where}.{key}" if where else key
        found: Any = section.get(key)
        if not isinstance(found, dict):
            if _is_second_file(document):
                raise ConfigError(
                    f"{path}: this is a file of the component catalog of Enterprise 6: {SECOND_FILE} or config_ng.yaml",
                    hint="use the config.yaml of the catalog service, which has services.catalog; after the "
                    f"object store moved, change {SECOND_FILE} as well",
                )
            raise ConfigError(
                f"{path}: {where}: found {kind(found)}, expected a mapping",
                hint="use the config.yaml of the catalog service: it has services.catalog",
            )
        section = found
    return section


def _is_second_file(document: dict[str, Any]) -> bool:
    root, services = document.get("object_store"), document.get("services")
    return (isinstance(root, dict) and "storage_driver" in root) or (
        isinstance(services, dict) and "component_catalog" in services
    )


def _has_component_catalog(document: dict[str, Any]) -> bool:
    """Tell whether a config is of Enterprise 6: each service has a ``server`` there, the database ``encryption``."""
    credentials = document.get("credentials")
    database = credentials.get("database") if isinstance(credentials, dict) else None
    has_encryption = isinstance(database, dict) and "encryption" in database
    return has_encryption or isinstance(document["services"]["catalog"].get("server"), dict)


def _sections(catalog: dict[str, Any]) -> dict[str, Any]:
    """Return the sections by role, chosen by truth as the services choose them."""
    primary = catalog.get("object_store") or catalog.get("archive") or _legacy_section(catalog)
    archive = catalog.get("analysis_archive")
    sections = {OBJECT_STORE: primary}
    if archive:
        sections[ANALYSIS_ARCHIVE] = archive
    return sections


def _legacy_section(catalog: dict[str, Any]) -> dict[str, Any]:
    """Return the section that the keys of very old files amount to; without any, the default ``db``.

    Without ``archive_driver`` the services take ``services.catalog`` itself for the section.
    """
    name = catalog.get("archive_driver")
    if not isinstance(name, str):
        return {key: catalog[key] for key in ("storage_driver", "compression") if key in catalog}
    if catalog.get("use_db"):
        name = "db"
    settings = {"archive_data_dir": catalog.get("archive_data_dir")} if name == "localfs" else {}
    return {"storage_driver": {"name": name, "config": settings}}


def _backend(role: str, section: dict[str, Any]) -> Backend:
    driver = section.get("storage_driver") or {}
    name = driver.get("name", "db")
    compression = section.get("compression") or {}
    min_size = compression.get("min_size_kbytes", DEFAULT_MIN_SIZE_KBYTES)
    public = DRIVERS[name].public_keys
    settings = settings_read(section)
    return Backend(
        role=role,
        driver=name,
        settings={key: _setting(key, value, public=key in public) for key, value in settings.items()},
        compression=Compression(
            enabled=compression.get("enabled") is True,
            min_size_kbytes=min_size if is_number(min_size) else DEFAULT_MIN_SIZE_KBYTES,
        ),
    )


def _setting(key: str, value: object, *, public: bool) -> object:
    """Return a setting as the services use it. What is not to be shown is wrapped, a public URL's userinfo remembered.

    A prefix becomes text by formatting, so null is the text ``None``.
    """
    if not public:
        return value if value is None else Secret(value)
    if key in ("prefix", "anchore_key_prefix"):
        return str(value)
    if key in ("create_bucket", "create_container", "iamauto"):
        return bool(value)
    if isinstance(value, str):
        without_userinfo(value)
    return value if isinstance(value, str | int | float | None) else str(value)


def _origins(origins: Origins, document: dict[str, Any], sections: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Say where each setting of each section, and of the database, comes from."""
    catalog = document["services"]["catalog"]
    found: dict[str, dict[str, str]] = {}
    for role, section in sections.items():
        above = _place_of(catalog, section)
        found[role] = {key: origins.at((*above, key)) for key in settings_read(section)}
    settings = settings_of(Path(), document)
    if settings is not None:
        above = ("credentials", "database")
        found["database"] = {name: origins.at((*above, name)) for name in settings.section} | {
            f"db_connect_args.{name}": origins.at((*above, "db_connect_args", name)) for name in settings.given
        }
    return found


def _place_of(catalog: dict[str, Any], section: dict[str, Any]) -> Place:
    """Return the keys that lead to the settings of a section, whichever key it stands at."""
    for name in ("object_store", "archive", "analysis_archive"):
        if catalog.get(name) is section:
            return (*_CATALOG, name, "storage_driver", "config")
    return (*_CATALOG, "storage_driver", "config") if "archive_driver" not in catalog else _CATALOG
