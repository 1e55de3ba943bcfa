"""An owner mark as text: who may delete at a place, and who else has documents there."""

from __future__ import annotations

from typing import Any

import msgspec
from attrs import field, frozen

from reconcile.logs import printable
from reconcile.running.record.identity import database_text


@frozen
class Mark:
    """An owner mark. ``owner``: a random word, run, database, executor. ``shared``: databases."""

    owner: dict[str, Any] | None = None
    shared: list[dict[str, Any]] = field(factory=list)

    def encode(self) -> bytes | None:
        """Return the text that is kept at the place; None if there is nothing to record."""
        if self.owner is None and not self.shared:
            return None
        return msgspec.json.encode({"reconcile": 1, "owner": self.owner, "shared": self.shared})

    @classmethod
    def decode(cls, text: bytes | None) -> Mark:
        """Read a mark. A text of another kind becomes an unknown owner."""
        if text is None:
            return cls()
        try:
            found = msgspec.json.decode(text)
            return cls(found.get("owner"), list(found.get("shared") or []))
        except (msgspec.DecodeError, AttributeError, TypeError):
            return cls(owner={})

    def describe(self) -> str:
        """Return the owner in words."""
        owner = self.owner or {}
        return printable(
            f"run {owner.get('run')} of the database {database_text(owner.get('database') or {})}, executed by"
            f" {owner.get('executor')}"
        )
