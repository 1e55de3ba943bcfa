"""Check: is each backend of a config fit for documents, and is the catalog one that this tool knows."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import attrs
from attrs import evolve, frozen

from reconcile._version import __version__
from reconcile.auditing.measured import Rates
from reconcile.auditing.schema import CatalogReport, report
from reconcile.auditing.store_check import Step, Trial
from reconcile.catalog import Catalog
from reconcile.config import Backend, Config
from reconcile.control import Control
from reconcile.errors import UsageError
from reconcile.stores import Capabilities, open_store
from reconcile.stores.volatile import volatile

FORMAT_VERSION = "1.0"


@frozen
class BackendReport:
    """What was found out about one backend. ``server_side_copy``: it can copy documents without us.

    ``remarks`` say what an operator should know before documents go there, in sentences.
    """

    backend: Backend
    store: str
    steps: list[Step]
    made: str | None
    capabilities: Capabilities
    server_side_copy: bool
    rates: Rates | None
    remarks: list[str]

    @property
    def ok(self) -> bool:
        """Whether every step succeeded."""
        return all(step.ok for step in self.steps)


@frozen
class CheckReport:
    """What was found out about a config: its backends and its catalog."""

    config: Config
    backends: list[BackendReport]
    catalog: CatalogReport

    @property
    def ok(self) -> bool:
        """Whether everything is as it should be."""
        return self.catalog.ok and all(backend.ok for backend in self.backends)

    def data(self) -> dict[str, Any]:
        """Return it as ``schemas/check.schema.json`` describes it."""
        return {
            "format_version": FORMAT_VERSION,
            "config": str(self.config.path),
            "checked_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "tool_version": __version__,
            "ok": self.ok,
            "doubts": list(self.config.doubts),
            "backends": [_data(backend) for backend in self.backends],
            "catalog": attrs.asdict(self.catalog),
        }


def _data(report: BackendReport) -> dict[str, Any]:
    can = report.capabilities
    return {
        "role": report.backend.role,
        "driver": report.backend.driver,
        "store": report.store,
        "settings": report.backend.as_config()["storage_driver"]["config"],
        "ok": report.ok,
        "made": report.made,
        "steps": [attrs.asdict(step) for step in report.steps],
        "capabilities": {
            "conditional_put": can.conditional_put,
            "confirmation": can.confirmation,
            "server_side_copy": report.server_side_copy,
            "bulk_delete": can.bulk_delete,
        },
        "remarks": report.remarks,
        "rates": report.rates and attrs.asdict(report.rates),
    }


def check(catalog: Catalog, config: Config, control: Control, *, only_archive: bool = False) -> CheckReport:
    """Try every backend of the config, or the analysis archive's alone; a failing one hinders no other.

    Makes what the config asks to be made (a bucket, a container, a data dir) and leaves nothing else behind.
    """
    backends = config.backends()
    if only_archive:
        if config.analysis_archive is None:
            raise UsageError(
                f"--analysis-archive: {config.path} has no analysis_archive",
                hint=f"reconcile check {config.path}    checks the object store",
            )
        backends = (config.analysis_archive,)
    reports = [_check_backend(catalog, backend, control) for backend in backends]
    return CheckReport(config, reports, report(catalog, sorted({backend.driver for backend in backends})))


def _check_backend(catalog: Catalog, backend: Backend, control: Control) -> BackendReport:
    store = open_store(backend, catalog, f"check-{secrets.token_hex(4)}")
    trial = Trial(store, control)
    control.progress.say(f"checking {backend.role}: {backend.driver}")
    trial.run()
    can = store.capabilities()
    if can.conditional_put is None:
        can = evolve(can, conditional_put=trial.refuses_taken_keys)
    lost = volatile(store.address)
    return BackendReport(
        backend,
        store.address.identity,
        trial.steps,
        trial.made,
        can,
        _copies(catalog, trial),
        trial.rates,
        ([f"WARNING: {lost}"] if lost else []) + (store.remarks() if trial.ok else []),
    )


def _copies(catalog: Catalog, trial: Trial) -> bool:
    """Tell whether the server copies by itself: it did, or it can from the other table of the same database."""
    if trial.copied is not None:
        return trial.copied
    tables = [open_store(Backend("catalog", driver), catalog, "check") for driver in ("db", "db2")]
    return any(trial.store.shortcut_from(table) is not None for table in tables)
