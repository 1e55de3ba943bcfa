"""The services' own config files: which backends an archive has, read as the services read them."""

from reconcile.config.database import DatabaseSettings
from reconcile.config.model import Backend, Compression, Config
from reconcile.config.reader import load_config

__all__ = ["Backend", "Compression", "Config", "DatabaseSettings", "load_config"]
