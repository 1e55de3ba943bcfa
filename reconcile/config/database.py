"""``credentials.database`` of a config file: how the services connect to the catalog.

Enterprise has ``user``, ``password``, ``host``, ``port`` and ``name`` there, Engine ``db_connect``. A value is read
only where it is needed: a file whose variables are not set works for a run that gets its database another way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import field, frozen

from reconcile.config.text import Variables, kind, parse, read_text, references, require_set
from reconcile.errors import ConfigError
from reconcile.secret import Secret, remember

PARTS = {"user": "user", "password": "password", "host": "host", "port": "port", "name": "dbname"}  # ours to libpq's
_ARGUMENTS = "db_connect_args"
_OWN_ARGUMENTS = ("timeout", "ssl")  # the vendor's; all others are the client library's
_SECRET_ARGUMENTS = ("password", "sslpassword", "oauth_client_secret")


@frozen
class DatabaseSettings:
    """The section as it stands, ``db_connect_args`` beside it. A method raises `ConfigError` for a value it needs."""

    path: Path
    section: dict[str, Secret] = field(repr=False)
    given: dict[str, Secret] = field(factory=dict, repr=False)

    @property
    def names_a_database(self) -> bool:
        """Whether the section says which database is meant."""
        return any(self.section[name].reveal() for name in ("db_connect", "host", "name") if name in self.section)

    def url(self) -> str | None:
        """Return ``db_connect``, which wins over the single keys."""
        return self._text("db_connect", self.section.get("db_connect"))

    def parts(self) -> dict[str, str]:
        """Return the single keys, by libpq's names."""
        found = {theirs: self._text(ours, self.section.get(ours)) for ours, theirs in PARTS.items()}
        remember(found["password"] or "")
        return {name: text for name, text in found.items() if text is not None}

    def arguments(self, *names: str) -> dict[str, str]:
        """Return what is passed to the client library as it is: ``sslmode``, ``sslrootcert``, ``options``, ..."""
        found = {}
        for name in names or self.given:
            own = name in _OWN_ARGUMENTS or name not in self.given
            text = None if own else self._text(f"{_ARGUMENTS}.{name}", self.given[name])
            if text is not None:
                found[name] = text
                if name in _SECRET_ARGUMENTS:
                    remember(text)
        return found

    def tls(self) -> dict[str, str]:
        """Return what asks for TLS, ``ssl`` among it where it is true, as far as the variables are set."""
        names = [
            name for name, value in self.given.items() if name.startswith("ssl") and not references(value.reveal())
        ]
        return self.arguments(*names) | ({"ssl": "true"} if "ssl" in names and self.ssl() else {})

    def ssl(self) -> bool:
        """Tell whether ``ssl`` asks for TLS: it is tested for truth, so the text ``false`` does."""
        value = self.given["ssl"].reveal() if "ssl" in self.given else None
        require_set(f"{self.path}: credentials.database.{_ARGUMENTS}.ssl", value)
        return bool(value)

    def timeout(self) -> int | None:
        """Return the seconds that connecting may take: the services call ``int()``."""
        value = self.given["timeout"].reveal() if "timeout" in self.given else None
        place = f"{self.path}: credentials.database.{_ARGUMENTS}.timeout"
        require_set(place, value)
        if value is None:
            return None
        try:
            return int(value)  # type: ignore[call-overload, no-any-return]
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(
                f"{place}: found {kind(value)} that is not a whole number, expected seconds: the services do not start",
                hint="write only the number, without a unit",
            ) from None

    def _text(self, name: str, secret: Secret | None) -> str | None:
        value = secret.reveal() if secret is not None else None
        place = f"{self.path}: credentials.database.{name}"
        require_set(place, value)
        if isinstance(value, dict | list):
            raise ConfigError(f"{place}: found {kind(value)}, expected text", hint=f"quote the value of {name}")
        return None if value is None or value == "" else str(value)


def settings_of(path: Path, document: dict[str, Any]) -> DatabaseSettings | None:
    """Return the section of a parsed config; None where it has none."""
    credentials = document.get("credentials")
    section = credentials.get("database") if isinstance(credentials, dict) else None
    if not isinstance(section, dict):
        return None
    names = ("db_connect", *PARTS)
    kept = {name: Secret(section[name], remembered=False) for name in names if name in section}
    arguments = section.get(_ARGUMENTS)
    given = (
        {str(name): Secret(value, remembered=False) for name, value in arguments.items()}
        if isinstance(arguments, dict)
        else {}
    )
    settings = DatabaseSettings(path.absolute(), kept, given)
    return settings if settings.names_a_database else None


def read_again(path: Path) -> DatabaseSettings | None:
    """Read the section again: a short-lived password may have been replaced since. Raises `ConfigError`."""
    raw = read_text(path)
    return settings_of(path, parse(path, raw, Variables.gather(raw)))
