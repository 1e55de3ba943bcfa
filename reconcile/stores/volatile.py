"""A data dir that does not outlive the machine or the container: usually a volume was forgotten."""

from __future__ import annotations

from pathlib import Path

from reconcile.stores.addresses import Address, FileAddress
from reconcile.stores.syncing import file_system

_IN_MEMORY = ("tmpfs", "ramfs")


def existing(data_dir: Path) -> Path | None:
    """Return the data dir, or what is to hold it where it is still to be made."""
    return next((path for path in (data_dir, *data_dir.parents) if path.is_dir()), None)


def volatile(address: Address) -> str | None:
    """Return why documents at this place will soon be lost, in a sentence; None if nothing indicates it."""
    if not isinstance(address, FileAddress):
        return None
    data_dir = Path(address.data_dir)
    there = existing(data_dir)
    kind = file_system(there) if there else None
    if kind in _IN_MEMORY:
        lost = f"is in memory ({kind}): documents are lost when the machine or the container stops"
    elif kind == "overlay":
        lost = "is in the container's own layer (overlay), not on a volume: documents are lost with the container"
    else:
        return None
    return f"{data_dir} {lost}. Check that the volume is mounted."
