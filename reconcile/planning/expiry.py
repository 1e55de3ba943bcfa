"""A destination whose server deletes documents by itself, after a time: nothing may be moved there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconcile.catalog import Catalog
from reconcile.errors import ConfigError, ReconcileError
from reconcile.logs import get_logger
from reconcile.planning.decide import DesiredState
from reconcile.stores import Store, open_store

log = get_logger()


def refuse_expiring(name: str, store: Store, *, patient: bool = True) -> None:
    """Raise `ConfigError` for a destination that would lose documents. Raises `BackendError` as `Store.expiry` does."""
    said = store.expiry(patient=patient)
    if said is not None:
        raise ConfigError(
            f"{name} ({store.address.identity}) would not keep documents: {said}; nothing was changed",
            hint="disable the rule, limit it to another prefix than the documents', or set another prefix in "
            "the config",
        )


def refuse_expiring_destinations(
    catalog: Catalog, desired: DesiredState, names: Iterable[str], s3_put: Mapping[str, str]
) -> None:
    """Raise `ConfigError` as `refuse_expiring` does; a place that cannot be reached is left to `apply`."""
    for name in sorted(set(names)):
        try:
            store = open_store(desired.places[name].backend, catalog, "plan")
            store.write_with(s3_put)
            refuse_expiring(name, store, patient=False)
        except ConfigError:
            raise
        except ReconcileError as error:
            log.debug("lifecycle rules were not checked", place=name, reason=error.message)
