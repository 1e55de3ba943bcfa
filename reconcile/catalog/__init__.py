"""The vendor's tables: connect to them, read rows, hold the lock, watch the services, record the task."""

from reconcile.catalog.connect import Catalog, connect
from reconcile.catalog.rows import CatalogRow, Scope
from reconcile.catalog.target import DatabaseOptions

__all__ = ["Catalog", "CatalogRow", "DatabaseOptions", "Scope", "connect"]
