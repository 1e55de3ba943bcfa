"""What is accepted in a config, and still should be looked at: in sentences, for plans and for `check`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reconcile.config.drivers import DRIVERS
from reconcile.config.validation import has_keys

_CATALOG_KEYS = ("object_store", "archive", "analysis_archive", "archive_driver", "archive_data_dir", "use_db")
_SECTION_KEYS = ("compression", "storage_driver", "enabled")
_COMPRESSION_KEYS = ("enabled", "min_size_kbytes")
_TESTED_FOR_TRUTH = ("create_bucket", "iamauto", "create_container")
_LIKE_FALSE = ("false", "no", "off", "0", "n", "none", "null")


def misspelt(path: Path, catalog: dict[str, Any], sections: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each key that the services would ignore although it looks like one that they know."""
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
                yield f"{path}: the services ignore {place}.{key}; did you mean {alike[0]}?"


def misread(path: Path, sections: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each value that the services read differently than it looks."""
    for role, section in sections.items():
        place = f"{path}: services.catalog.{role}"
        enabled = (section.get("compression") or {}).get("enabled")
        if enabled and enabled is not True:
            yield f"{place}.compression.enabled is not the YAML value true, so the services do not compress."
        driver = section.get("storage_driver") or {}
        settings, name = driver.get("config") or {}, driver.get("name", "db")
        place += ".storage_driver.config"
        for key in _TESTED_FOR_TRUTH:
            value = settings.get(key)
            if isinstance(value, str) and value.lower() in _LIKE_FALSE:
                yield f"{place}.{key} is text, which the services read as true."
        for key in ("prefix", "anchore_key_prefix"):
            if name in ("s3", "swift") and key in settings and settings[key] is None:
                yield f"{place}.{key} is null: the services prefix every key with the text None."
        if name == "s3" and has_keys(settings) and not (settings["access_key"] or settings["secret_key"]):
            yield (
                f"{place}: access_key and secret_key are empty, so the services use the standard AWS credential chain."
            )


def of_destination(path: Path, document: dict[str, Any], sections: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each thing that an operator should know before services start with this config."""
    if "enabled" not in document["services"]["catalog"]:
        yield f"WARNING: {path}: services.catalog has no key enabled. The services refuse to start with it."
    for role, section in sections.items():
        name = (section.get("storage_driver") or {}).get("name", "db")
        if not DRIVERS[name].documented:
            listed = " and ".join(driver.name for driver in DRIVERS.values() if driver.documented)
            yield (
                f"{path}: {role} has the driver {name}. The vendor's current documentation lists only "
                f"{listed}: ask the vendor whether your release still supports it."
            )
    root = document.get("object_store")
    if isinstance(root, dict) and str(root.get("direct_access")).lower() == "true":
        yield (
            f"{path}: object_store.direct_access is true, so every service accesses the object store itself: "
            "give the new config to all of them, not only to the catalog."
        )
