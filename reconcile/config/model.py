"""Typed backends: what a config file says about where documents live."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from reconcile.config.database import DatabaseSettings
from reconcile.config.drivers import DRIVERS
from reconcile.secret import MASK, Secret, without_userinfo

OBJECT_STORE = "object_store"
ANALYSIS_ARCHIVE = "analysis_archive"
DEFAULT_MIN_SIZE_KBYTES = 100

_HOLDERS = {"s3": "bucket", "swift": "container", "localfs": "archive_data_dir"}
_OF_ONE_PLACE = {"prefix", "anchore_key_prefix", "create_bucket", "create_container"}


@frozen
class Compression:
    """When a backend compresses: documents larger than ``min_size_kbytes`` KiB, if enabled."""

    enabled: bool = False
    min_size_kbytes: float = DEFAULT_MIN_SIZE_KBYTES  # any number: a fraction and a negative one work, too

    @property
    def min_size(self) -> float:
        """The limit in bytes: a document of exactly this size is not compressed."""
        return self.min_size_kbytes * 1024


@frozen
class Backend:
    """One configured section: a driver with its settings, prefix and compression included."""

    role: str
    driver: str
    settings: dict[str, Any] = field(factory=dict, repr=False)
    compression: Compression = field(factory=Compression)

    @property
    def scheme(self) -> str:
        """The scheme of the URLs that this backend's services can read."""
        return DRIVERS[self.driver].scheme

    @property
    def may_compress(self) -> bool:
        """Whether the driver may hold compressed bytes at all (``db`` may not)."""
        return DRIVERS[self.driver].may_compress

    def at(self, where: str) -> Backend:
        """Return this backend at another bucket, container or data dir: without a prefix, and nothing is made there."""
        kept = {name: value for name, value in self.settings.items() if name not in _OF_ONE_PLACE}
        return evolve(self, settings=kept | {_HOLDERS[self.driver]: where})

    def public_settings(self) -> dict[str, Any]:
        """Return the settings without credentials: what may be shown, saved and compared."""
        public = DRIVERS[self.driver].public_keys
        shown = {}
        for key, value in sorted(self.settings.items()):
            if key in public and not isinstance(value, Secret):
                shown[key] = without_userinfo(value) if isinstance(value, str) else value
        return shown

    def as_config(self) -> dict[str, Any]:
        """Return the section as the services' config has it, credentials masked."""
        public = self.public_settings()
        settings = {key: public.get(key, MASK) for key in sorted(self.settings)}
        enabled = {"enabled": True} if self.role == ANALYSIS_ARCHIVE else {}
        return enabled | {
            "compression": {
                "enabled": self.compression.enabled,
                "min_size_kbytes": self.compression.min_size_kbytes,
            },
            "storage_driver": {"name": self.driver, "config": settings},
        }

    def describe(self) -> dict[str, Any]:
        """Return what a plan records of the backend: no credential in it."""
        return {
            "driver": self.driver,
            "settings": self.public_settings(),
            "compression": {
                "enabled": self.compression.enabled,
                "min_size_kbytes": self.compression.min_size_kbytes,
            },
        }


@frozen
class Config:
    """The part of a config file that matters here.

    ``doubts``: in sentences, what an operator should look at: keys that look like misspelt ones, values that the
    services take for something else. ``second_file`` is the name of another file of the same generation that names the
    object store, too. ``is_from_plan``: no file has this content any more, and the one at ``path`` may have changed.
    """

    path: Path
    object_store: Backend
    analysis_archive: Backend | None = None
    database: DatabaseSettings | None = None
    doubts: tuple[str, ...] = ()
    second_file: str | None = None
    origins: dict[str, dict[str, str]] = field(factory=dict)
    is_from_plan: bool = False

    def in_charge(self, bucket: str) -> Backend:
        """Return the backend that holds this logical bucket under this config."""
        if bucket == ANALYSIS_ARCHIVE and self.analysis_archive is not None:
            return self.analysis_archive
        return self.object_store

    def backends(self) -> tuple[Backend, ...]:
        """Return the one or two backends, the object store first."""
        return (self.object_store, *((self.analysis_archive,) if self.analysis_archive else ()))

    def describe(self) -> dict[str, Any]:
        """Return the backends by role as a plan records them."""
        return {backend.role: backend.describe() for backend in self.backends()}

    def provenance(self) -> dict[str, dict[str, str]]:
        """Say where each setting comes from, by backend role and for ``database``. Never a value.

        ``file``: it is written in the config file itself; ``variable NAME``: from the environment; ``variable NAME of
        FILE``: from the file that ``ANCHORE_ENV_FILE`` names. A value made of several names all of them.
        """
        return {role: dict(settings) for role, settings in self.origins.items()}

    def fingerprint(self) -> str:
        """Return a digest of what the config says, credentials left out."""
        text = json.dumps(self.describe(), sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
