"""Rows decided at once: their URL is what the source's rule makes of their columns, and their names are plain.

Nearly every row of an archive is such a row. What can be said of a logical bucket once is said once; for each of its
rows a few strings are compared. `DesiredState` decides all others step by step, and would decide these in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from attrs import frozen

from reconcile.config import Backend
from reconcile.planning.model import After
from reconcile.planning.places import Place

_BUCKET = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_USER_AND_ARCHIVE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_-][A-Za-z0-9_.:=+-]*")
_LONGEST_URL = 1000  # characters, and bytes: less than any driver's limit of a key


@frozen
class BucketRule:
    """What is decided of the plain rows of one logical bucket.

    ``source`` and ``dest`` are the names of the backends; the functions make the URL there of userId and archiveId.
    """

    source: str
    dest: str
    source_url: Callable[[str, str], str]
    dest_url: Callable[[str, str], str]
    backend: Backend
    max_size: int

    def after(
        self,
        user: str,
        archive_id: str,
        url: str | None,
        size: int | None,
        is_compressed: bool | None,  # noqa: FBT001
    ) -> After | None:
        """Return where a row of these columns is to go; None for a row to be looked at step by step."""
        if (
            url != self.source_url(user, archive_id)
            or not _USER_AND_ARCHIVE_ID.fullmatch(f"{user}/{archive_id}")
            or (size is not None and size > self.max_size)
        ):
            return None
        there = self.dest_url(user, archive_id)
        if max(len(there), len(url)) > _LONGEST_URL:
            return None
        return After(there, will_be_compressed(size, is_compressed, self.backend))


def bucket_rule(bucket: str, here: Place, there: Place) -> BucketRule | None:
    """Return the rule for the rows of a logical bucket that go from one place to another; None if each is to be seen.

    Two data dirs may become one while a command runs, when one of them is made: their rows are seen one by one.
    """
    files = here.address.scheme == there.address.scheme == "file"
    if files or here.address.identity == there.address.identity or not _BUCKET.fullmatch(bucket):
        return None
    source_url, dest_url = here.address.plain_urls(bucket), there.address.plain_urls(bucket)
    if source_url is None or dest_url is None:
        return None
    return BucketRule(here.name, there.name, source_url, dest_url, there.backend, there.address.max_size)


def will_be_compressed(size: int | None, is_compressed: bool | None, backend: Backend) -> bool | None:  # noqa: FBT001
    """Tell whether the destination's copy will be compressed; None where the catalog does not know the size.

    A document that is compressed already stays so where the destination compresses at all: a row tells its
    own encoding, and its uncompressed size is not known. ``size`` is in bytes.
    """
    if not (backend.may_compress and backend.compression.enabled):
        return False
    if is_compressed:
        return True
    return None if size is None else size > backend.compression.min_size
