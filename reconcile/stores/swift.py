"""Driver ``swift``: objects in a container, by python-swiftclient (extra ``swift``).

The vendor hands its config's keys to the client as options, so we do the same: every way to authenticate
that it knows works here. Connections are not thread-safe: each thread has its own. Writes are sent with their MD5 as
ETag, which the server checks, and ``If-None-Match: *``; a server that does not know the latter (radosgw) is
why the run looks before it writes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar
from urllib.parse import quote

from reconcile.config import Backend
from reconcile.errors import BackendError, DeniedError, DocumentError, MissingStoreError, TransientError
from reconcile.formatting import time_text
from reconcile.payload import CHUNK_BYTES, Spool, gathered
from reconcile.secret import Secret, scrub
from reconcile.stores.addresses import Address, Key, ObjectAddress
from reconcile.stores.answers import FULL_HINT, is_full, sentence
from reconcile.stores.base import Capabilities, Content, Stat, Store, Write
from reconcile.stores.objects import ObjectStore
from reconcile.stores.per_object import seconds_asked
from reconcile.stores.redirects import redirects_refused
from reconcile.stores.server_clock import ServerClock
from reconcile.stores.server_copy import BetweenBuckets
from reconcile.stores.shortcuts import Shortcut, Transfer
from reconcile.stores.swift_client import as_sent, connect

_OWN_KEYS = ("container", "create_container", "anchore_key_prefix")  # the vendor's; all others are the client's
_TRANSIENT = {408, 429, 498, 499, 500, 502, 503, 504}
_THROTTLED = {429, 498, 503}
_WAIT = "once it is available again, run the same command again: it resumes; fewer --workers reduce its load"
_CREDENTIALS = "check the authentication options of the config, and the account's privileges in this container"


class SwiftStore(ObjectStore):
    """One container of one account."""

    page: ClassVar[int] = 10_000
    lists_at_once: ClassVar[bool] = False  # containers are updated when the server comes to it
    delete_page: ClassVar[int] = 1000
    late_seconds = 900  # Swift bounds a request's life by nothing: this is an assumption

    def __init__(self, address: ObjectAddress, backend: Backend) -> None:
        super().__init__(address)
        self.container = address.container
        self._create = bool(backend.settings.get("create_container"))
        self.options = {
            key: value.reveal() if isinstance(value, Secret) else value
            for key, value in backend.settings.items()
            if key not in _OWN_KEYS
        }
        self._local = threading.local()
        self._clock = ServerClock()
        self._can_delete_many = False

    def capabilities(self) -> Capabilities:
        return Capabilities(None, "the ETag, which is the MD5; the server checks it too", self._can_delete_many)

    def rights(self) -> Mapping[str, str]:
        reading, writing = (
            "to read in the container (X-Container-Read)",
            "to write in the container (X-Container-Write)",
        )
        listing = "to list the container (X-Container-Read with .rlistings)"
        return {
            "prepare": listing,
            "look": reading,
            "read": reading,
            "write": writing,
            "delete": writing,
            "listing": listing,
        }

    def _prepare(self, *, create: bool) -> None:
        self._can_delete_many = self._bulk_delete_is_offered()
        try:
            with self._translated():
                self._connection.head_container(self.container)
        except FileNotFoundError:
            if not (create and self._create):
                raise MissingStoreError(
                    f"{self._where}: the container is not there",
                    hint="create it, or set create_container: true in the destination config",
                    made_by_apply=self._create,
                ) from None
            with self._translated():
                self._connection.put_container(self.container)

    def _list_after(self, name: str, prefix: str, names: int) -> tuple[list[tuple[str, Stat]], bool]:
        with self._translated():
            _headers, entries = self._connection.get_container(
                self.container, marker=name or None, prefix=prefix or None, limit=names
            )
        found = [(entry["name"], _listed(entry)) for entry in entries if "name" in entry]
        return found, bool(entries)  # servers have page sizes of their own

    def _stat(self, key: Key) -> Stat | None:
        try:
            with self._translated():
                return _stat(self._connection.head_object(self.container, as_sent(str(key))))
        except FileNotFoundError:
            return None

    def expiry_of(self, key: Key) -> str | None:
        at = self._again(self._deleted_at, key)
        return f"the server will delete it at {time_text(at)} (X-Delete-At)" if at is not None else None

    def _deleted_at(self, key: Key) -> int | None:
        """Return when the object is going to be deleted, in Unix seconds."""
        try:
            with self._translated():
                at = self._connection.head_object(self.container, as_sent(str(key))).get("x-delete-at", "")
        except (FileNotFoundError, DocumentError):
            return None
        return int(at) if at.isdecimal() else None

    def _get(self, key: Key) -> Content:
        try:
            with self._translated():
                headers, body = self._connection.get_object(
                    self.container, as_sent(str(key)), resp_chunk_size=CHUNK_BYTES
                )
                data = gathered(body)
        except FileNotFoundError:
            raise DocumentError("source_missing", f"no object {key!r} in {self._where}") from None
        stat = _stat(headers)
        if stat.size is not None and len(data) != stat.size:
            raise TransientError(f"{self._where}: the connection was lost while {key!r} was read")
        return Content(data, version=stat.version, reproducible=not stat.is_composite)

    def _put(self, write: Write) -> Stat:
        try:
            with self._translated():
                etag = self._connection.put_object(
                    self.container,
                    as_sent(str(write.key)),
                    contents=write.data.file() if isinstance(write.data, Spool) else write.data,
                    content_length=len(write.data),
                    etag=write.md5,
                    content_type="application/octet-stream",
                    headers={"If-None-Match": "*"},
                )
        except FileNotFoundError:
            raise BackendError(f"{self._where}: the container does not exist, or was deleted") from None
        if etag.strip('"') != write.md5:
            self._confirm_by_reading(write, etag.strip('"'))
        return Stat(len(write.data), write.md5, write.md5)

    def server_time(self) -> float | None:
        with self._translated():
            self._clock.hear(self._connection.head_container(self.container))
        return self._clock.now()

    def _mark(self) -> tuple[bytes, str] | None:
        try:
            with self._translated():
                headers, body = self._connection.get_object(self.container, self.mark_key)
                return body, headers["etag"]
        except FileNotFoundError:
            return None

    def _put_mark(self, mark: bytes, etag: str | None, *, conditional: bool = True) -> None:
        is_first = conditional and etag is None
        condition = {"If-None-Match": "*"} if is_first else {}  # Swift knows no other condition on a PUT
        try:
            with self._translated():
                self._connection.put_object(
                    self.container, self.mark_key, mark, content_type="application/json", headers=condition
                )
        except (DocumentError, FileNotFoundError):
            return  # another mark is there: reading it again tells

    def _unmark(self, etag: str) -> None:  # noqa: ARG002 - Swift knows no such condition
        self._delete(self.mark_key)

    def _delete(self, key: Key) -> None:
        self.fence.check()
        try:
            with self._translated():
                self._connection.delete_object(self.container, as_sent(str(key)))
        except FileNotFoundError:
            pass

    def _delete_many(self, keys: list[str]) -> dict[Key, DocumentError | None]:
        """Delete by the server's bulk middleware where it has one (``/info`` tells), else one by one."""
        if not self._can_delete_many:
            for key in keys:
                self._delete(key)
            return {}
        self.fence.check()
        body = "\n".join(quote(f"/{self.container}/{key}", safe="/") for key in keys).encode()
        headers = {"Content-Type": "text/plain", "Accept": "application/json"}
        with self._translated():
            _headers, answer = self._connection.post_account(
                headers=headers, query_string="bulk-delete", data=body, response_dict={}
            )
        told = json.loads(answer)
        errors, status = told.get("Errors", []), str(told.get("Response Status", "200 OK"))
        if not status.startswith("200") and not errors:  # said in the body of a 200
            for key in keys:
                self._delete(key)
            return {}
        refused = "the server did not delete it: "
        by_path = {quote(f"/{self.container}/{key}", safe="/"): key for key in keys}
        return {
            by_path.get(path, path): DocumentError("refused", refused + status)
            for path, status in errors
            if not status.startswith("404")
        }

    def shortcut_from(self, source: Store) -> Shortcut | None:
        if not isinstance(source, SwiftStore) or self.options != source.options:
            return None
        return BetweenBuckets(source, self, partial(self._copy_object, source)).shortcut()

    def _copy_object(self, source: SwiftStore, transfer: Transfer) -> Stat:
        with self._translated():
            etag = self._connection.put_object(
                self.container,
                as_sent(str(transfer.dest)),
                contents=b"",
                content_length=0,
                content_type="application/octet-stream",
                headers={"X-Copy-From": quote(f"/{source.container}/{transfer.source}"), "X-Fresh-Metadata": "true"},
            )
        return Stat(None, etag.strip('"'), etag.strip('"'))

    def _bulk_delete_is_offered(self) -> bool:
        connection = self._connection  # first of all, since it says so where the client is not installed
        try:
            with self._translated():
                return "bulk_delete" in connection.get_capabilities()
        except TransientError:
            raise
        except (BackendError, DocumentError, FileNotFoundError):  # a server that does not tell
            return False

    @property
    def _where(self) -> str:
        return f"container {self.container}"

    @property
    def _connection(self) -> Any:  # noqa: ANN401 - swiftclient has no types
        if not hasattr(self._local, "connection"):
            self._local.connection = connect(self.options)
        return self._local.connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the client's errors into ours; ``FileNotFoundError`` for a 404."""
        from requests.exceptions import RequestException  # noqa: PLC0415 - comes with swiftclient
        from swiftclient.exceptions import ClientException  # noqa: PLC0415
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        try:
            with redirects_refused(self._where):
                yield
        except ClientException as error:
            raise self._error(error) from None
        except (RequestException, HTTPError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise TransientError(
                f"{self._where}: no answer: {type(error).__name__}",
                hint="check that the endpoint is right and that the server is running",
            ) from None

    def _error(self, error: Any) -> Exception:  # noqa: ANN401
        status = error.http_status
        about_one = _of_document(status)
        if about_one is not None:
            return about_one
        body = error.http_response_content or b""
        text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
        said = f"({status} {error.http_reason or ''}".rstrip() + f"){sentence(text)}"
        if not status:
            said = f"({scrub(str(error).strip().splitlines()[0])})"
        if not status and "unable to establish connection" in said.lower():
            return TransientError(
                f"{self._where}: no answer {said}",
                hint="check that the Keystone URL is right and that Keystone is running",
            )
        if is_full(status or 0, "", text):
            return BackendError(f"{self._where}: the store is full {said}", hint=FULL_HINT)
        if status in (401, 403) or (not status and "auth" in said.lower()):
            return DeniedError(f"{self._where}: access denied {said}", hint=_CREDENTIALS)
        if status in _TRANSIENT or not status:
            asked = seconds_asked(error.http_response_headers or {})
            throttled = status in _THROTTLED
            return TransientError(
                f"{self._where}: server error {said}", hint=_WAIT, retry_after=asked, throttled=throttled
            )
        return DocumentError("refused", f"{self._where} refused it {said}")


def _of_document(status: int | None) -> Exception | None:
    """Return the error for an answer that is about one object."""
    if status == 404:  # noqa: PLR2004
        return FileNotFoundError()
    if status == 412:  # noqa: PLR2004
        return DocumentError("destination_occupied", "an object exists there already")
    if status == 422:  # noqa: PLR2004
        return DocumentError("not_confirmed", "the server received other bytes than were sent")
    return None


def _stat(headers: dict[str, str]) -> Stat:
    """Return what headers tell. The ETag of a large object, static or dynamic, is no MD5 of what it reads as."""
    etag = headers["etag"].strip('"')
    is_large = headers.get("x-static-large-object", "").lower() == "true" or "x-object-manifest" in headers
    length = headers.get("content-length")  # a dynamic one of very many segments has none
    return Stat(int(length) if length else None, None if is_large else etag, etag, is_composite=is_large)


def _listed(entry: dict[str, Any]) -> Stat:
    """Return what a listing tells: of what may be the manifest of a large object nothing but that it is there.

    Its hash there is that of the manifest. A static one is marked as such, a dynamic one's is empty, as a rule.
    """
    may_be_manifest = "slo_etag" in entry or not entry["bytes"]
    return Stat() if may_be_manifest else Stat(entry["bytes"], entry["hash"], entry["hash"])


def make(backend: Backend, address: Address) -> SwiftStore:
    """Return the store of a swift backend; connects on first use."""
    if not isinstance(address, ObjectAddress):  # pragma: no cover - the registry pairs them
        raise TypeError(address)
    return SwiftStore(address, backend)
