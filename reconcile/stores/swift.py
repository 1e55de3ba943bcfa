"""Driver ``swift``: objects in a container, by python-swiftclient (extra ``reconcile[swift]``).

The vendor hands its config's keys to the client as options, so we do the same: whatever it can authenticate
with works here. Connections are not thread-safe: each thread has its own. Writes are sent with their MD5 as
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
from reconcile.payload import CHUNK_BYTES, Spool, gathered
from reconcile.secret import Secret, scrub
from reconcile.stores.addresses import Address, Key, ObjectAddress
from reconcile.stores.base import Capabilities, Content, Stat, Store, Write
from reconcile.stores.between import BetweenBuckets
from reconcile.stores.documents import seconds_asked
from reconcile.stores.objects import ObjectStore
from reconcile.stores.shortcuts import Shortcut, Transfer

_OWN_KEYS = ("container", "create_container", "anchore_key_prefix")  # the vendor's; all others are the client's
_TRANSIENT = {408, 429, 498, 499, 500, 502, 503, 504}
_THROTTLED = {429, 498, 503}
_WAIT = "once it is well, the same command goes on where this one stopped; fewer --workers ask less of it"
_CREDENTIALS = "check the authentication options of the config, and what they may do in this container"


class SwiftStore(ObjectStore):
    """One container of one account."""

    page: ClassVar[int] = 10_000
    lists_at_once: ClassVar[bool] = False  # containers are updated when the server comes to it
    delete_page: ClassVar[int] = 1000

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
                    hint="make it, or set create_container: true in the destination config",
                    made_by_apply=self._create,
                ) from None
            with self._translated():
                self._connection.put_container(self.container)

    def _list_after(self, name: str, prefix: str, names: int) -> tuple[list[tuple[str, Stat]], bool]:
        with self._translated():
            _headers, entries = self._connection.get_container(
                self.container, marker=name or None, prefix=prefix or None, limit=names
            )
        found = [(entry["name"], Stat(entry["bytes"], entry["hash"], entry["hash"])) for entry in entries]
        return found, bool(entries)  # servers have page sizes of their own

    def _stat(self, key: Key) -> Stat | None:
        try:
            with self._translated():
                return _stat(self._connection.head_object(self.container, key))
        except FileNotFoundError:
            return None

    def _get(self, key: Key) -> Content:
        try:
            with self._translated():
                headers, body = self._connection.get_object(self.container, key, resp_chunk_size=CHUNK_BYTES)
                data = gathered(body)
        except FileNotFoundError:
            raise DocumentError("source_missing", f"no object {key!r} in {self._where}") from None
        if len(data) != int(headers["content-length"]):
            raise TransientError(f"{self._where}: the connection was lost while {key!r} was read")
        return Content(data, version=_stat(headers).version)

    def _put(self, write: Write) -> Stat:
        try:
            with self._translated():
                etag = self._connection.put_object(
                    self.container,
                    write.key,
                    contents=write.data.file() if isinstance(write.data, Spool) else write.data,
                    content_length=len(write.data),
                    etag=write.md5,
                    content_type="application/octet-stream",
                    headers={"If-None-Match": "*"},
                )
        except FileNotFoundError:
            raise BackendError(f"{self._where}: the container is not there (any more)") from None
        if etag.strip('"') != write.md5 and self._get(write.key).md5 != write.md5:
            self._delete(write.key)
            raise DocumentError("not_confirmed", f"{self._where} does not hold what it was given")
        return Stat(len(write.data), write.md5, write.md5)

    def _delete(self, key: Key) -> None:
        try:
            with self._translated():
                self._connection.delete_object(self.container, key)
        except FileNotFoundError:
            pass

    def _delete_many(self, keys: list[str]) -> dict[Key, DocumentError | None]:
        """Delete by the server's bulk middleware where it has one (``/info`` tells), else one by one."""
        if not self._can_delete_many:
            for key in keys:
                self._delete(key)
            return {}
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
                transfer.dest,
                contents=b"",
                content_length=0,
                content_type="application/octet-stream",
                headers={"X-Copy-From": quote(f"/{source.container}/{transfer.source}"), "X-Fresh-Metadata": "true"},
            )
        return Stat(None, etag.strip('"'), etag.strip('"'))

    def _bulk_delete_is_offered(self) -> bool:
        try:
            with self._translated():
                return "bulk_delete" in self._connection.get_capabilities()
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
            self._local.connection = _connect(self.options)
        return self._local.connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the client's errors into ours; ``FileNotFoundError`` for a 404."""
        from requests.exceptions import RequestException  # noqa: PLC0415 - comes with swiftclient
        from swiftclient.exceptions import ClientException  # noqa: PLC0415
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        try:
            yield
        except ClientException as error:
            raise self._error(error) from None
        except (RequestException, HTTPError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise TransientError(
                f"{self._where}: no answer: {type(error).__name__}", hint="is the endpoint right, and up?"
            ) from None

    def _error(self, error: Any) -> Exception:  # noqa: ANN401
        status = error.http_status
        if status == 404:  # noqa: PLR2004
            return FileNotFoundError()
        if status == 412:  # noqa: PLR2004
            return DocumentError("destination_occupied", "an object is there already")
        if status == 422:  # noqa: PLR2004
            return DocumentError("not_confirmed", "the server got other bytes than were sent")
        said = status or scrub(str(error).strip().splitlines()[0])
        if not status and "unable to establish connection" in said.lower():
            return TransientError(f"{self._where}: no answer: {said}", hint="is the Keystone URL right, and is it up?")
        if status in (401, 403) or (not status and "auth" in said.lower()):
            return DeniedError(f"{self._where}: access denied ({said})", hint=_CREDENTIALS)
        if status in _TRANSIENT or not status:
            asked, trouble = (
                seconds_asked(error.http_response_headers or {}),
                f"{self._where}: the server is in trouble ({said})",
            )
            return TransientError(trouble, hint=_WAIT, retry_after=asked, throttled=status in _THROTTLED)
        return DocumentError("refused", f"{self._where} refused it ({status})")


def _stat(headers: dict[str, str]) -> Stat:
    etag = headers["etag"].strip('"')
    return Stat(int(headers["content-length"]), etag, etag)


def _connect(options: dict[str, Any]) -> Any:  # noqa: ANN401
    try:
        from swiftclient import service  # noqa: PLC0415
    except ImportError:
        raise BackendError(
            "driver swift needs python-swiftclient, which is not installed", hint="pip install 'reconcile[swift]'"
        ) from None
    merged = {**service._default_global_options, **options}  # noqa: SLF001 - what SwiftService itself starts from
    service.process_options(merged)
    return service.get_conn({**merged, "retries": 0, "starting_backoff": 0.1, "timeout": merged.get("timeout") or 60})


def make(backend: Backend, address: Address) -> SwiftStore:
    """Return the store of a swift backend; connects on first use."""
    if not isinstance(address, ObjectAddress):  # pragma: no cover - the registry pairs them
        raise TypeError(address)
    return SwiftStore(address, backend)
