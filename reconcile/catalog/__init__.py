"""The vendor's tables: connect to them, read rows, hold the lock, watch the services, record the task."""

from reconcile.catalog.connect import Catalog, connect
from reconcile.catalog.database_url import DatabaseOptions
from reconcile.catalog.rows import CatalogRow, Scope

__all__ = ["Catalog", "CatalogRow", "DatabaseOptions", "Scope", "connect"]
