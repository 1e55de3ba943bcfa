"""The plan's model: moves, blockers, and the header they stand under.

Field names in the file are the vendor's column names (``userId``, ``archiveId``, ``content_url``); the
format is described by ``schemas/plan.schema.json`` and ``docs/plan-format.md``. The classes have no slots,
so that the file has the fields in the order in which they stand here.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from reconcile.catalog import CatalogRow
from reconcile.planning.places import is_elsewhere
from reconcile.stores.addresses import Document

FORMAT_VERSION = "1.0"

REASONS = {
    "no_content_url": "the catalog row has no content_url",
    "unknown_scheme": "no driver has the scheme of the URL",
    "not_owned": "neither config leads there; as SOURCE, give the config that was in use when the document was written",
    "ambiguous_url": "the URL can be read in several ways, and it is not the one that follows from the row's columns",
    "unreadable_by_services": "the services could not read the document back from there",
    "destination_taken": "another row's content has the same destination",
    "rows_disagree": "rows that share the URL differ on digest, size or compression",
    "leaves_data_dir": "the path would leave the data dir",
    "key_too_long": "the key is too long for the destination",
    "name_altered": "the driver's client library would use another name",
    "too_big": "the document is too big for the destination",
    "archived": "the content is in an archive class; it must be restored before it can be read",
    "source_missing": "there is no content at the source",
    "ambiguous_source": "there are several contents at the source",
    "wrong_digest": "the content does not match the catalog's digest",
    "undecodable": "the content cannot be decoded",
    "not_reproducible": "encoding the copy again does not give the original's bytes",
    "nul_in_text": "driver db cannot hold text with a NUL character",
    "destination_occupied": "other content is at the destination; plan --overwrite replaces it if no row refers to it",
    "not_confirmed": "the destination did not confirm what was written",
    "row_changed": "the catalog row has changed since the plan",
    "content_changed": "the content is no longer what was copied",
    "refused": "the backend refused the operation",
    "unserved": "the backend kept failing on this document, but not on others",
}


@frozen(slots=False)
class Before:
    """The state of a row that a move starts from; the condition of its switch."""

    content_url: str
    is_compressed: bool | None
    digest: str | None
    size: int | None
    last_updated: int | None


@frozen(slots=False)
class Pinned:
    """The exact columns that an undo restores, NULL included."""

    is_compressed: bool | None
    digest: str | None
    size: int | None


@frozen(slots=False)
class After:
    """Where a move leads. ``compressed`` is None where only reading shows it; an undo's after is pinned."""

    content_url: str
    compressed: bool | None
    pinned: Pinned | None = None


ADOPT, OVERWRITE = "adopt", "overwrite"  # Move.action


@frozen(slots=False)
class Move:
    """One row's change of location. ``source`` and ``dest`` name backends, such as ``source.object_store``.

    ``action`` is what a probe found to be done about content that is at the destination already.
    """

    userId: str  # noqa: N815 - the vendor's column names are the file's field names
    bucket: str
    archiveId: str  # noqa: N815
    documentName: str  # noqa: N815
    source: str
    dest: str
    before: Before
    after: After
    action: str | None = None

    @property
    def document(self) -> Document:
        """The name of the document: user, logical bucket, archiveId."""
        return (self.userId, self.bucket, self.archiveId)

    @property
    def row_key(self) -> tuple[str, str, str, str]:
        """The row's primary key, in the order that plans are sorted by."""
        return (self.userId, self.bucket, self.archiveId, self.documentName)

    def row(self) -> CatalogRow:
        """Return the catalog row as it was when planned."""
        before = self.before
        return CatalogRow(
            self.userId,
            self.bucket,
            self.archiveId,
            self.documentName,
            before.content_url,
            before.is_compressed,
            before.digest,
            before.size,
            before.last_updated,
        )


@frozen(slots=False)
class Blocker:
    """A row that cannot be moved, and why: ``reason`` is a code of `REASONS`."""

    userId: str  # noqa: N815
    bucket: str
    archiveId: str  # noqa: N815
    documentName: str  # noqa: N815
    content_url: str | None
    size: int | None
    reason: str
    detail: str


@frozen(slots=False)
class InPlace:
    """A row that is where it should be. ``other_encoding``: not compressed as the backend would do it now."""

    backend: str
    other_encoding: bool = False


@frozen(slots=False)
class ConfigReference:
    """Which config a plan was made with: its path, what it says without credentials, and a digest of that."""

    path: str
    fingerprint: str
    backends: dict[str, Any]


@frozen(slots=False)
class Policy:
    """What was decided when planning. ``with_changes``: an undo that includes what services wrote since.

    ``allow_unreadable``: documents go even where the services could not read them back. ``overwrite``: content at a
    destination that no catalog row refers to is replaced. ``clean_elsewhere``: sources go too that lie in a bucket or
    data dir, or under a prefix, that the source config no longer names. ``s3_put``: parameters of PutObject that
    every object is written with.
    """

    keep_source: bool = False
    limited: bool = False
    with_changes: bool = False
    allow_unreadable: bool = False
    overwrite: bool = False
    clean_elsewhere: bool = False
    s3_put: dict[str, str] = field(factory=dict)

    def keeps(self, source: str) -> bool:
        """Tell whether no source at a place is ever deleted, since no config names the place today."""
        return is_elsewhere(source) and not self.clean_elsewhere


@frozen(slots=False)
class Tally:
    """Documents and bytes of one group; ``unsized`` documents have no size in the catalog."""

    documents: int
    bytes: int
    unsized: int = 0


@frozen(slots=False)
class Flow:
    """How much goes from one backend to another, by logical bucket."""

    source: str
    dest: str
    bucket: str
    documents: int
    bytes: int
    unsized: int


@frozen(slots=False)
class Requests:
    """What a run asks of one backend, by kind: requests of a server, operations on files, statements on a table."""

    backend: str
    driver: str
    list: int = 0
    look: int = 0
    read: int = 0
    write: int = 0
    copy: int = 0
    delete: int = 0


@frozen(slots=False)
class Duration:
    """About how long a run takes, in seconds, and in sentences the rates that this rests on."""

    stage: int
    clean: int
    rests_on: list[str]


@frozen(slots=False)
class Forecast:
    """What applying the plan costs. Sizes are in bytes, as the catalog has them.

    ``space`` is what each destination needs for the copies. Documents that are ``recoded`` are of another size there.
    ``work_tables`` is about what the run's record takes in the database. ``duration`` is None where no rates are known.
    """

    requests: list[Requests]
    bytes_to_read: int
    bytes_to_write: int
    bytes_by_server: int
    recoded: int
    space: dict[str, int]
    work_tables: int
    duration: Duration | None = None


@frozen(slots=False)
class Summary:
    """Counts of all rows in scope. ``database_growth`` is in bytes.

    ``unreadable_after`` counts rows of the whole catalog, in scope or not, that services with the destination
    config could not read once the plan is applied, because they lie at another driver's scheme. ``unverifiable`` counts
    moves whose row has no digest. ``probed`` is the kind of probe, ``exists`` or ``digest``; with it ``adopted`` and
    ``overwritten`` count moves whose destination holds the document already, or other content. ``forecast`` is None in
    undo plans, and in plans of versions that made none.
    """

    moves: Tally
    in_place: Tally
    other_encoding: int
    blocked: Tally
    beyond_limit: int
    flows: list[Flow]
    blocked_by_reason: dict[str, int]
    database_growth: int
    unreadable_after: int
    notes: list[str]
    unverifiable: int = 0
    probed: str | None = None
    adopted: int = 0
    overwritten: int = 0
    forecast: Forecast | None = None


@frozen(slots=False)
class PlanHeader:
    """A plan without its moves and blockers. ``undo_of`` is the run that an undo plan undoes."""

    format_version: str
    plan_id: str
    created_at: str
    tool_version: str
    database: dict[str, Any]
    source: ConfigReference
    dest: ConfigReference
    scope: dict[str, list[str]]
    policy: Policy
    summary: Summary
    undo_of: str | None = None
    snapshot_at: int = field(default=0)
    planned_by: str | None = None  # user@host
    note: str | None = None  # of whoever planned: a ticket, say
