"""Data dirs inside one another: a file of the inner one has a name in the outer one too.

A plan would take its documents for the outer one's and move them onto themselves. The services refuse such a data dir
as well: its top may hold nothing but folders of accounts.
"""

from __future__ import annotations

import os
from pathlib import Path

from reconcile.errors import ConfigError
from reconcile.planning.decide import DesiredState
from reconcile.planning.places import Place
from reconcile.stores.addresses import FileAddress
from reconcile.stores.store_id import directory_identity


def refuse_nested(desired: DesiredState) -> None:
    """Raise `ConfigError` if a destination's data dir is inside another one, or around it.

    What a path leads to counts, not how it is spelled: symbolic links and mounts are seen through.
    """
    places = [place for place in desired.places.everywhere() if isinstance(place.address, FileAddress)]
    for inner in places:
        for outer in places:
            if "dest." in inner.name + outer.name and _is_inside(inner, outer):
                config = desired.dest if inner.name.startswith("dest.") else desired.source
                raise ConfigError(
                    f"{config.path}: the data dir of {inner.name}, {_dir(inner)}, is inside the one of "
                    f"{outer.name}, {_dir(outer)}: documents of one would be mistaken for documents of the "
                    "other",
                    hint=f"set archive_data_dir to a directory outside {_dir(outer)}, and plan again",
                )


def _is_inside(inner: Place, outer: Place) -> bool:
    above = list(Path(os.path.realpath(_dir(inner))).parents)
    return outer.address.identity in {directory_identity(str(path)) for path in above}


def _dir(place: Place) -> str:
    assert isinstance(place.address, FileAddress)  # noqa: S101 - the caller's choice
    return place.address.data_dir
