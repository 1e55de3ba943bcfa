"""The contract of a store: what its verbs promise, and which errors they give.

A store is the physical place under a backend. Its verbs take batches, since what is cheap differs: a
table wants one statement, a directory one sync, a bucket one listing. A driver whose server knows single
objects only derives from `per_object.DocumentStore`, which has the loop and the retries, and writes five small methods.

Promises that every driver keeps, and that the contract suite tests:

- **write** never replaces content. It returns a `Stat`, ``md5`` included, for a key only once the store has
  confirmed that it holds exactly the bytes given, and would still hold them after a crash. A key that is occupied
  gives `DocumentError` ``destination_occupied``, unless what is there is what was to be written.
- **read** returns the bytes as stored, decoding nothing but the driver's own wrapping (base64 in ``db``).
  A missing key gives `DocumentError` ``source_missing``.
- **look** is cheap, and truthful about presence. Keys that are not there are not in its answer.
- **glance** is cheaper, and may leave out what is there: for places that are about to be written to. What **write**
  then finds there after all has ``found`` in its answer.
- **delete** deletes a key only if it still holds the `Known` content; a key that is gone already is success. It asks
  the store's `fence` as late as its kind allows. *Tables*: in the deleting transaction. *Files*: a file is renamed
  into a directory of the executor's own, the fence is asked again, then it is removed there; `give_back` takes those
  directories away from executors that were replaced. *Objects*: a request is signed, the fence is asked, then it is
  sent; it may take effect up to ``late_seconds`` afterwards, and what is not answered is on record as such.
- **make_durable** has content that somebody else wrote, and that is adopted, survive a crash.
- **place** tells one place from another that later has its name; **check_place** raises if the way to the place
  now leads elsewhere. **mark** and **swap_mark** read and change the owner mark, a small text beside the documents.
- **remove_temporaries** removes what a killed **write** of this store's own ``tag`` may have left beside the keys.
- **prepare** raises if the place is not usable; with ``create`` it first makes what the config asks to be made
  (``create_bucket``, a data dir whose parent is there) and nothing else.
- Verbs may be called from many threads at once, and use threads of their own where the server takes many requests.

Errors: what concerns one document is returned in its place as `DocumentError`, so that one bad document
never hides the others. What concerns the whole backend is raised: `TransientError` where trying again may
help, `BackendError` where it cannot. A server that will not serve one document (``unserved``) does not hide the
others either; one that will not serve several in a row has failed as a whole. ``look`` does not guess: it raises.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import Factory, field, frozen

from reconcile.errors import DocumentError
from reconcile.payload import Data, md5
from reconcile.stores.addresses import Address, Key
from reconcile.stores.fence import Fence, Unfenced

if TYPE_CHECKING:
    from reconcile.stores.shortcuts import Shortcut


@frozen
class Stat:
    """What a store reports of a key: ``size`` in bytes, hex ``md5``, and a ``version`` that changes with the content.

    None where only reading shows it. ``version`` is opaque: an ETag, or size and mtime.
    ``mark`` changes whenever the content is written again, and costs nothing to ask for, where ``version`` does.
    ``unverified``: something is there, unverified: only reading shows what (a NULL, several rows, an error).
    ``found``: a write found just this content there, and it was not its own earlier attempt.
    ``is_composite``: it is made of other objects, which its key only lists, as Swift's large objects are.
    ``may_be_archived``: `Store.is_archived` returns whether it can be read; where this is False it can.
    """

    size: int | None = None
    md5: str | None = None
    version: str | None = None
    unverified: bool = False
    mark: str | None = None
    found: bool = False
    may_be_archived: bool = field(default=False, eq=False)
    is_composite: bool = field(default=False, eq=False)


@frozen
class Content:
    """Stored bytes as read, in a spool file where they are many, and their hex ``md5``.

    ``attributes`` are the driver's other columns, to be restored by an undo. ``reproducible`` is False where writing
    data and attributes again would not give the same row. ``is_null``: the column is NULL; services read that as empty.
    """

    data: Data = field(repr=False)
    version: str | None = None
    attributes: Mapping[str, Any] = field(factory=dict)
    reproducible: bool = True
    is_null: bool = False
    md5: str = field(default=Factory(lambda self: md5(self.data), takes_self=True))


@frozen
class Write:
    """Bytes to be written at a key. ``attributes`` come from a `Content` of the same driver, or are empty."""

    key: Key
    data: Data = field(repr=False)
    md5: str
    attributes: Mapping[str, Any] = field(factory=dict)


@frozen
class Known:
    """The content that a delete is about: its key and the version last seen there."""

    key: Key
    version: str


@frozen
class Capabilities:
    """What a store can do, as far as is known from its kind and its answers so far.

    ``conditional_put``: the server refuses to write where something is; None where it has not shown yet.
    ``confirmation``: how a write is confirmed, in words. ``bulk_delete``: many keys a request.
    """

    conditional_put: bool | None
    confirmation: str
    bulk_delete: bool


class Store(ABC):
    """A physical place that holds content. See the module's text for the contract."""

    default_workers: ClassVar[int] = 4
    keeps_marks: ClassVar[bool] = False  # whether there is room for an owner mark
    late_seconds: int = 0  # by which a deleting request may take effect after the fence was asked

    def __init__(self, address: Address) -> None:
        self.address = address
        self.fence: Fence = Unfenced()

    def set_concurrency(self, workers: int) -> None:  # noqa: B027 - one statement does for a whole batch in some stores
        """Send at most so many requests at once from now on, for all callers together."""

    def write_with(self, options: Mapping[str, str]) -> None:  # noqa: B027 - only S3 has such
        """Write everything with these parameters of the driver's own API from now on."""

    @abstractmethod
    def prepare(self, *, create: bool) -> None:
        """Raise `BackendError` if the place is not usable; with ``create`` make it first where asked to."""

    @abstractmethod
    def look(self, keys: Sequence[Key], *, digest: bool = False) -> dict[Key, Stat]:
        """Return what is there. With ``digest`` every `Stat` has its ``md5``, read for it if need be."""

    def glance(self, keys: Sequence[Key]) -> dict[Key, Stat]:
        """Return what a cheap check finds, with its ``md5``."""
        return self.look(keys, digest=True)

    @abstractmethod
    def read(self, keys: Sequence[Key]) -> dict[Key, Content | DocumentError]:
        """Return the content of every key, or why it cannot be read."""

    @abstractmethod
    def write(self, writes: Sequence[Write]) -> dict[Key, Stat | DocumentError]:
        """Write, confirm, and make durable; never replace."""

    @abstractmethod
    def delete(self, known: Sequence[Known]) -> dict[Key, DocumentError | None]:
        """Delete keys that still hold the known content; the answer has None for a key that is gone now."""

    def remove_temporaries(self, keys: Sequence[Key]) -> None:  # noqa: B027 - most stores have nothing to do
        """Remove what a killed write may have left beside the keys. Most stores leave nothing."""

    def make_durable(self, keys: Sequence[Key]) -> None:  # noqa: B027 - most stores answer only then
        """Make what is at these keys survive a crash, even if others wrote it."""

    def ready_to_delete(self) -> None:  # noqa: B027 - files only
        """Create what deleting needs at this place; called before keys are marked for deletion."""

    def give_back(self, keys: Iterable[Key], tokens: Collection[str]) -> None:  # noqa: B027 - files only
        """Put back what executors with these tokens had moved aside to delete; they can move nothing more aside."""

    def place(self) -> dict[str, Any]:
        """Return what identifies this place, as far as is known without a mark."""
        return {"store": self.address.identity}

    def check_place(self) -> None:  # noqa: B027 - a server's name is its place
        """Raise `PlaceChangedError` if the way to the place leads elsewhere than when it was opened."""

    def mark(self) -> bytes | None:
        """Return the owner mark; None if there is none."""
        return None

    def swap_mark(self, old: bytes | None, new: bytes | None) -> bool:  # noqa: ARG002 - where marks are kept
        """Replace the mark ``old`` by ``new`` (None: no mark); False if another mark is there."""
        return False

    def server_time(self) -> float | None:
        """Return a time that the server's clock has reached, in Unix seconds; None where it is unknown."""
        return None

    def shortcut_from(self, source: Store) -> Shortcut | None:  # noqa: ARG002 - most pairs have none
        """Return how content of the source gets here without going through this client, None where it cannot."""
        return None

    def shares_bytes(self, key: Key, other: Store, other_key: Key) -> bool:  # noqa: ARG002 - most cannot
        """Tell whether the key here and the other key there are hard links of one file."""
        return False

    def is_archived(self, key: Key) -> str | None:  # noqa: ARG002 - most stores serve all that they hold
        """Return why what is at the key cannot be read before it is restored, None if it can be read."""
        return None

    def remarks(self) -> list[str]:
        """Return what an operator should know about the place, as far as it is known, in sentences."""
        return []

    def expiry(self, *, patient: bool = True) -> str | None:  # noqa: ARG002 - most stores keep what they hold
        """Return which rule of the server deletes documents that are written here, and after how long, in words.

        None where there is none, and where the server does not report its rules, which is logged. Raises `BackendError`
        where it cannot be reached; unless ``patient`` it is asked once.
        """
        return None

    def expiry_of(self, key: Key) -> str | None:  # noqa: ARG002 - most stores keep what they hold
        """Return when the server will delete what is at the key, in words; None where it will not."""
        return None

    @abstractmethod
    def capabilities(self) -> Capabilities:
        """Return what the store can do; more is known once something was written and deleted."""

    @abstractmethod
    def rights(self) -> Mapping[str, str]:
        """Return which privilege each verb needs, in the terms of whoever grants it.

        The verbs: ``prepare``, ``look``, ``read``, ``write``, ``delete``, ``listing``.
        """

    def is_listed(self, key: Key) -> bool:
        """Tell whether a listing shows the key, without reading the whole of it."""
        return key in self.look([key])

    def foreign_kind(self, key: Key) -> str | None:  # noqa: ARG002 - most stores hold documents alone
        """Return the kind of a listed key that is not a document's; None if it can be one.

        ``temporary``: what a killed **write** or **delete** of ours left. ``owner_mark``: a run's mark. ``self_check``:
        what a service's own trial left.
        """
        return None

    @abstractmethod
    def listing(self) -> Iterator[tuple[Key, Stat]]:
        """Yield every key below the backend's prefix, in no particular order."""
