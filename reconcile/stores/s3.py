"""Driver ``s3``: objects in a bucket.

What a server can do is found out as it is used. A write is confirmed by its ETag; where that is not the MD5
(encrypted by KMS, say) by the SHA-256 that the server computed; where it reports none, by reading back. Writes carry
``If-None-Match: *``; a server that ignores it is detected by writing the first object twice,
and from then on each key is looked up before it is written.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, TypeVar

from attrs import evolve

from reconcile.config import Backend
from reconcile.errors import BackendError, DeniedError, DocumentError, MissingStoreError
from reconcile.logs import get_logger
from reconcile.stores.addresses import Address, Key, ObjectAddress
from reconcile.stores.base import Capabilities, Content, Known, Stat, Store, Write
from reconcile.stores.lifecycle import expiring, has_tag_rules
from reconcile.stores.objects import ObjectStore
from reconcile.stores.s3_bucket import S3Bucket
from reconcile.stores.s3_client import S3Clients, S3Settings
from reconcile.stores.s3_delete import HEADER_LIFE_SECONDS, ExpiringDeletes
from reconcile.stores.s3_errors import (
    ExpiredCredentialsError,
    NeedsDigestError,
    UnsupportedRequestError,
    translated,
)
from reconcile.stores.s3_objects import S3Objects
from reconcile.stores.s3_put import encrypts_by_kms, tags_of
from reconcile.stores.server_copy import BetweenBuckets
from reconcile.stores.shortcuts import Shortcut, Transfer

T = TypeVar("T")

_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?')
_SELF_CHECK = "__anchore_s3_key_self_check__"  # what a service writes at the root of its bucket
_ARCHIVES = {"GLACIER", "DEEP_ARCHIVE"}  # whose objects cannot be read before they are restored
_MAYBE_ARCHIVES = _ARCHIVES | {"INTELLIGENT_TIERING"}

log = get_logger()


class S3Store(ObjectStore):
    """One bucket at one endpoint."""

    page: ClassVar[int] = 1000
    delete_page: ClassVar[int] = 1000
    lists_at_once: ClassVar[bool] = True

    def __init__(self, address: ObjectAddress, settings: S3Settings) -> None:
        super().__init__(address)
        self.settings = settings
        self._clients = S3Clients(settings)
        self._learning = threading.Lock()
        self._heeds_conditions: bool | None = None
        self._etag_is_md5 = True
        self._confirmation = "the ETag, which is usually the MD5"
        self._deletes = ExpiringDeletes(
            self._clients,
            settings.bucket,
            self._where,
            lambda: self.fence.check(),  # noqa: PLW0108 - the fence is set after this
            lambda: self.fence.lives(self.address, HEADER_LIFE_SECONDS),
        )
        self._bucket = S3Bucket(self._clients, self._where, settings)
        self.objects = S3Objects(self._clients, self._where, settings.bucket)
        self._has_tag_rules: bool | None = None

    def capabilities(self) -> Capabilities:
        return Capabilities(self._heeds_conditions, self._confirmation, self._deletes_many)

    def write_with(self, options: Mapping[str, str]) -> None:
        self.objects.options = options

    def rights(self) -> Mapping[str, str]:
        return {
            "prepare": "s3:ListBucket, and s3:CreateBucket if it has to be created",
            "look": "s3:GetObject and s3:ListBucket",
            "read": "s3:GetObject",
            "write": "s3:PutObject",
            "delete": "s3:DeleteObject",
            "listing": "s3:ListBucket",
        }

    def expiry(self, *, patient: bool = True) -> str | None:
        if not patient and not self._bucket.exists():
            return None
        try:
            rules = self._again(self._bucket.rules, None) if patient else self._bucket.rules()
        except FileNotFoundError:
            rules = []
        except (DeniedError, DocumentError) as error:
            reason = error.detail if isinstance(error, DocumentError) else error.message
            log.info("the server does not report its lifecycle rules", at=self._where, reason=reason)
            rules = []
        self._has_tag_rules = has_tag_rules(rules, self._prefix)
        return expiring(rules, self._prefix, tags_of(self.objects.options))

    def expiry_of(self, key: Key) -> str | None:
        if self._has_tag_rules is None:
            self.expiry()
        at = self._again(self._expiration, key) if self._has_tag_rules else None
        return f"a lifecycle rule will delete it ({at})" if at else None

    def _expiration(self, key: Key) -> str | None:
        """Return what the server says of the rule that is going to delete an object."""
        try:
            head = self.objects.head(key)
        except (FileNotFoundError, DocumentError):
            return None
        return str(head["Expiration"]) if head.get("Expiration") else None

    def foreign_kind(self, key: Key) -> str | None:
        return "self_check" if str(key).startswith(_SELF_CHECK) else super().foreign_kind(key)

    @property
    def late_seconds(self) -> int:  # type: ignore[override]
        return self._deletes.life_seconds

    def server_time(self) -> float | None:
        return self._again(lambda _nothing: self._deletes.ask_time(), None)

    def _mark(self) -> tuple[bytes, str] | None:
        try:
            return self.objects.get_small(self.mark_key)
        except FileNotFoundError:
            return None

    def _put_mark(self, mark: bytes, etag: str | None, *, conditional: bool = True) -> None:
        condition = {} if not conditional else {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        put = partial(self.objects.put_small, self.mark_key, mark, "application/json")
        try:
            put(condition)
        except UnsupportedRequestError:
            put({})
        except (DocumentError, FileNotFoundError):
            return  # another mark is there: reading it again tells

    def _unmark(self, etag: str) -> None:
        with translated(self._where), suppress(FileNotFoundError):
            self._deletes.delete(self.mark_key, etag)

    def _prepare(self, *, create: bool) -> None:
        if self._bucket.exists():
            return
        if not (create and self.settings.create_bucket):
            raise MissingStoreError(
                f"{self._where}: the bucket is not there",
                hint="create it, or set create_bucket: true in the destination config",
                made_by_apply=self.settings.create_bucket,
            )
        self._bucket.create()

    def _list_after(self, name: str, prefix: str, names: int) -> tuple[list[tuple[str, Stat]], bool]:
        found, has_more = self.objects.list_after(name, prefix, names)
        entries = [
            (entry["Key"], self._stat_of(entry["Size"], entry["ETag"], may_be_archived=_may_be_archived(entry)))
            for entry in found
        ]
        return entries, has_more

    def _stat(self, key: Key) -> Stat | None:
        try:
            size, etag = self.objects.size_and_etag(key)
            return self._stat_of(size, etag, may_be_archived=True)
        except FileNotFoundError:
            return None
        except (DeniedError, DocumentError) as error:
            raise self.objects.told_by_get(key, error) from None

    def is_archived(self, key: Key) -> str | None:
        said = self._sure(self._archived, key)
        return said.detail if isinstance(said, DocumentError) else said

    def _archived(self, key: Key) -> str | None:
        try:
            head = self.objects.head(key)
        except FileNotFoundError:
            return None
        storage = head.get("StorageClass") if head.get("StorageClass") in _ARCHIVES else head.get("ArchiveStatus")
        is_restored = 'ongoing-request="false"' in head.get("Restore", "")
        if not storage or is_restored:
            return None
        under_way = ", which is in progress" if head.get("Restore") else ""
        return f"it is in archive class {storage} of {self._where}; it must be restored first{under_way}"

    def _get(self, key: Key) -> Content:
        try:
            return self.objects.get(key)
        except FileNotFoundError:
            raise DocumentError("source_missing", f"no object {key!r} in {self._where}") from None

    def write(self, writes: Sequence[Write]) -> dict[Key, Stat | DocumentError]:
        answer: dict[Key, Stat | DocumentError] = {}
        rest = list(writes)
        with self._learning:
            while rest and self._heeds_conditions is None:
                first = rest.pop(0)
                answer |= self._write_looked_up([first])
                stat = answer[first.key]
                if isinstance(stat, Stat) and not stat.found:
                    self._sure(self._learn_conditions, first)
        if not rest:
            return answer
        return answer | (super().write(rest) if self._heeds_conditions else self._write_looked_up(rest))

    def _write_looked_up(self, writes: Sequence[Write]) -> dict[Key, Stat | DocumentError]:
        """Write where nothing is, as far as a look beforehand tells."""
        present = self.look([write.key for write in writes])
        there = [write for write in writes if write.key in present]
        answers = self.each(partial(self.outcome, self._found_before), there)
        found = {write.key: answer for write, answer in zip(there, answers, strict=True)}
        return found | super().write([write for write in writes if write.key not in present])

    def _found_before(self, write: Write) -> Stat:
        return evolve(
            self._found(DocumentError("destination_occupied", "an object exists there already"), write), found=True
        )

    def _learn_conditions(self, write: Write) -> None:
        """Find out whether the server heeds ``If-None-Match``: what was just written cannot be created again."""
        try:
            self._put(write)
        except DocumentError as error:
            if error.reason != "destination_occupied":
                raise
            self._heeds_conditions = True
        else:
            self._forgo_conditions()

    def _forgo_conditions(self) -> None:
        if self._heeds_conditions is False:
            return
        self._heeds_conditions = False
        log.warning("the server ignores If-None-Match; each key is checked before it is written", at=self._where)

    def _put(self, write: Write) -> Stat:
        try:
            conditional = self._heeds_conditions is not False
            etag, confirmed = self.objects.put(write, conditional=conditional, etag_is_md5=self._etag_is_md5)
        except NeedsDigestError:
            if self.objects.needs_md5:
                raise
            log.warning("the bucket requires Content-MD5, so boto3 is used, which takes more CPU", at=self._where)
            self.objects.needs_md5 = True
            return self._put(write)
        except UnsupportedRequestError:
            if self._heeds_conditions is False:
                raise
            self._forgo_conditions()
            return self._put(write)
        except FileNotFoundError:
            raise DocumentError("refused", f"{self._where} refused it (404)") from None
        if confirmed:
            self._confirmation = "the SHA-256 that the server computed"
        elif _md5_of(etag) == write.md5:
            self._confirmation = "the ETag, which is the MD5"
        else:
            self._confirm_by_reading(write, etag)
            self._etag_is_md5 = False
            self._confirmation = "reading back: the ETag is not the MD5, and the server reports no SHA-256"
        return Stat(len(write.data), write.md5, etag)

    def delete(self, known: Sequence[Known]) -> dict[Key, DocumentError | None]:
        if known and self._deletes.clock.now() is None:
            self.server_time()  # a request of its own, tried again by itself
        return super().delete(known)

    def _delete(self, key: Key) -> None:
        with translated(self._where), suppress(FileNotFoundError):
            self._deletes.delete(str(key), None)

    def _delete_version(self, key_and_version: tuple[str, str]) -> None:
        key, etag = key_and_version
        try:
            with translated(self._where), suppress(FileNotFoundError):
                self._deletes.delete(key, etag)
        except DocumentError as error:
            if error.reason == "destination_occupied":  # the condition does not hold
                raise DocumentError("content_changed", "the ETag is not that of the copied content") from None
            raise

    def _pages(self, keys: list[str]) -> list[list[str]]:
        from reconcile.stores.s3_whole import pages  # noqa: PLC0415 - with botocore

        return pages(keys, self.delete_page)

    def _delete_many(self, keys: list[str]) -> dict[Key, DocumentError | None]:
        with translated(self._where):
            errors = self._deletes.delete_many(keys)
        return {
            error["Key"]: DocumentError("refused", f"{self._where} did not delete it: {error.get('Code')}")
            for error in errors
        }

    def shortcut_from(self, source: Store) -> Shortcut | None:
        if not isinstance(source, S3Store) or not self.settings.same_server(source.settings):
            return None
        if encrypts_by_kms(self.objects.options):  # the ETag of the server's copy would confirm nothing
            return None
        return BetweenBuckets(source, self, partial(self._copy_object, source)).shortcut()

    def _copy_object(self, source: S3Store, transfer: Transfer) -> Stat:
        etag = self.objects.copy(source.objects, transfer.source, transfer.dest, transfer.md5)
        return self._stat_of(None, etag)

    def remarks(self) -> list[str]:
        said = [self._said_of(self._bucket.versioning), self._said_of(self._bucket.retention)]
        return [*self._bucket.remarks, *(text for text in said if text is not None)]

    def _said_of(self, question: Callable[[None], str | None]) -> str | None:
        """Return what the server says of its bucket; None where it does not, or will not."""
        try:
            return self._again(question, None)
        except FileNotFoundError:  # there is no such setting
            return None
        except (BackendError, DocumentError) as error:
            log.info("the server does not report a setting of the bucket", at=self._where, reason=str(error))
            return None

    def _attempt(self, verb: Callable[[Any], T], argument: object) -> T:
        """Call a verb once; credentials that have expired are fetched anew before that counts."""
        generation = self._clients.generation
        try:
            return super()._attempt(verb, argument)
        except ExpiredCredentialsError:
            self._clients.renew(generation)
            return super()._attempt(verb, argument)

    def _stat_of(self, size: int | None, etag: str | None, *, may_be_archived: bool = False) -> Stat:
        return Stat(size, _md5_of(etag) if self._etag_is_md5 else None, etag, may_be_archived=may_be_archived)

    @property
    def _where(self) -> str:
        return f"bucket {self.settings.bucket} at {self.address.identity.removeprefix('s3:').rpartition('/')[0]}"


def _may_be_archived(entry: Mapping[str, Any]) -> bool:
    return entry.get("StorageClass", "STANDARD") in _MAYBE_ARCHIVES


def _md5_of(etag: str | None) -> str | None:
    match = _MD5_ETAG.fullmatch(etag or "")
    return match[1] if match else None


def make(backend: Backend, address: Address) -> S3Store:
    """Return the store of an s3 backend; connects on first use."""
    if not isinstance(address, ObjectAddress):  # pragma: no cover - the registry pairs them
        raise TypeError(address)
    return S3Store(address, S3Settings.of(backend))
