"""Places on record: whether one has changed, its description, and how it is renamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from reconcile.payload import md5
from reconcile.running.record.tables import late_deletes, moves, places


def rename_place(connection: sa.Connection, old: str, new: str) -> None:
    """Rename a place everywhere in the record."""
    connection.execute(sa.update(moves).where(moves.c.dest_store == old).values(dest_store=new))
    connection.execute(sa.update(places).where(places.c.store == old).values(store=new))
    connection.execute(sa.update(late_deletes).where(late_deletes.c.store == old).values(store=new))


def is_same_place(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Tell whether two descriptions are of one place. A directory keeps its inode, and its device or file system."""
    if "inode" not in then or "inode" not in now:
        return then.get("store") == now.get("store")
    same_system = then["filesystem"] == now["filesystem"] and now["filesystem"] != "0"
    return bool(then["inode"] == now["inode"] and (then["device"] == now["device"] or same_system))


def place_digests(place: Mapping[str, Any]) -> list[str]:
    """Return digests of a description, which say no name: two places are one by `is_same_place` if any agrees."""
    if "inode" not in place:
        kinds: list[tuple[Any, ...]] = [("store", place.get("store"))]
    else:
        kinds = [("device", place["inode"], place["device"])]
        if place["filesystem"] != "0":
            kinds.append(("file system", place["inode"], place["filesystem"]))
    return [md5(repr(kind).encode()) for kind in kinds]


def place_text(details: bytes | str) -> str:
    """Return a place on record in words."""
    found = msgspec.json.decode(details)
    if "inode" not in found:
        return str(found["store"])
    return f"device {found['device']}, inode {found['inode']}, file system {found['filesystem']}"
