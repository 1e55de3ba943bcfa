"""Driver ``s3``: objects in a bucket. Bytes by obstore, everything else by boto3.

obstore spends a fifteenth of boto3's CPU on a request, but its path type refuses or alters some keys
(``//``, ``.`` and ``..`` segments, control characters, slashes at the ends): those go through boto3, as do
documents that lie in a spool file. Writes are single PUTs, so that the ETag is the MD5 wherever the server has it so.

What a server can do is found out as it is used. A write is confirmed by its ETag; where that is not the MD5
(encrypted by KMS, say) by the SHA-256 that the server computed; where it tells none, by reading back. Writes carry
``If-None-Match: *``; a server that does not heed it is found out by writing the first object twice,
and from then on each key is looked up before it is written.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

from attrs import evolve

from reconcile.config import Backend
from reconcile.errors import DocumentError, MissingStoreError
from reconcile.logs import get_logger
from reconcile.payload import CHUNK_BYTES, Spool, chunks_of, gathered
from reconcile.stores.addresses import Address, Key, ObjectAddress
from reconcile.stores.base import Capabilities, Content, Stat, Store, Write
from reconcile.stores.between import BetweenBuckets
from reconcile.stores.objects import ObjectStore
from reconcile.stores.s3_client import S3Clients, S3Settings
from reconcile.stores.s3_errors import UnsupportedRequestError, translated
from reconcile.stores.shortcuts import Shortcut, Transfer

CONTENT_TYPE = "binary/octet-stream"  # the vendor's
_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?')
_SELF_CHECK = "__anchore_s3_key_self_check__"  # what a service writes at the root of its bucket
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

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
        self._confirmation = "the ETag, which is the MD5 as a rule"

    def capabilities(self) -> Capabilities:
        return Capabilities(self._heeds_conditions, self._confirmation, self._deletes_many)

    def rights(self) -> Mapping[str, str]:
        return {
            "prepare": "s3:ListBucket, and s3:CreateBucket where it is to be made",
            "look": "s3:GetObject and s3:ListBucket",
            "read": "s3:GetObject",
            "write": "s3:PutObject",
            "delete": "s3:DeleteObject",
            "listing": "s3:ListBucket",
        }

    def no_document(self, key: Key) -> str | None:
        return "self_check" if str(key).startswith(_SELF_CHECK) else None

    def _prepare(self, *, create: bool) -> None:
        with translated(self._where):
            if self._bucket_exists():
                return
            if not (create and self.settings.create_bucket):
                raise MissingStoreError(
                    f"{self._where}: the bucket is not there",
                    hint="make it, or set create_bucket: true in the destination config",
                    made_by_apply=self.settings.create_bucket,
                )
            region = self._clients.boto.meta.region_name
            where = {} if region in (None, "us-east-1", "aws-global") else {"LocationConstraint": region}
            extra = {"CreateBucketConfiguration": where} if where else {}
            self._clients.boto.create_bucket(Bucket=self.settings.bucket, **extra)

    def _list_after(self, name: str, prefix: str, names: int) -> tuple[list[tuple[str, Stat]], bool]:
        with translated(self._where):
            page = self._clients.boto.list_objects_v2(
                Bucket=self.settings.bucket, StartAfter=name, Prefix=prefix, MaxKeys=names
            )
        entries = [(entry["Key"], self._stat_of(entry["Size"], entry["ETag"])) for entry in page.get("Contents", [])]
        return entries, bool(page.get("IsTruncated"))

    def _stat(self, key: Key) -> Stat | None:
        import obstore  # noqa: PLC0415

        try:
            with translated(self._where):
                if _is_odd(str(key)):
                    head = self._clients.boto.head_object(Bucket=self.settings.bucket, Key=key)
                    return self._stat_of(head["ContentLength"], head["ETag"])
                meta = obstore.head(self._clients.objects, str(key))
                return self._stat_of(meta["size"], meta["e_tag"])
        except FileNotFoundError:
            return None

    def _get(self, key: Key) -> Content:
        import obstore  # noqa: PLC0415

        try:
            with translated(self._where):
                if _is_odd(str(key)):
                    answer = self._clients.boto.get_object(Bucket=self.settings.bucket, Key=key)
                    return Content(gathered(answer["Body"].iter_chunks()), version=answer["ETag"])
                got = obstore.get(self._clients.objects, str(key))
                small = got.meta["size"] <= CHUNK_BYTES
                data = bytes(got.bytes()) if small else gathered(bytes(chunk) for chunk in got.stream(CHUNK_BYTES))
                return Content(data, version=got.meta["e_tag"])
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
            self._found(DocumentError("destination_occupied", "an object is there already"), write), found=True
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
        log.warning("server does not heed If-None-Match; each key is looked up before it is written", at=self._where)

    def _put(self, write: Write) -> Stat:
        try:
            with translated(self._where):
                etag, confirmed = self._put_object(write)
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
            self._read_back(write)
            self._confirmation = "reading back: the ETag is not the MD5, and no SHA-256 is told"
        return Stat(len(write.data), write.md5, etag)

    def _put_object(self, write: Write) -> tuple[str | None, bool]:
        """Put the bytes if the key is free; return the ETag, and whether the server's SHA-256 of them is right."""
        import obstore  # noqa: PLC0415

        conditional = self._heeds_conditions is not False
        if isinstance(write.data, bytes) and self._etag_is_md5 and not _is_odd(str(write.key)):
            mode = "create" if conditional else "overwrite"
            attributes = {"Content-Type": CONTENT_TYPE}
            put = obstore.put(
                self._clients.objects,
                str(write.key),
                write.data,
                mode=mode,  # type: ignore[arg-type]
                use_multipart=False,
                attributes=attributes,
            )
            return put["e_tag"], False
        extra: dict[str, str] = {"IfNoneMatch": "*"} if conditional else {}
        sha256 = "" if self._etag_is_md5 else _sha256(write)
        answer = self._clients.boto.put_object(
            Bucket=self.settings.bucket,
            Key=write.key,
            Body=write.data.file() if isinstance(write.data, Spool) else write.data,
            ContentType=CONTENT_TYPE,
            ContentMD5=base64.b64encode(bytes.fromhex(write.md5)).decode(),
            **extra,
            **({"ChecksumSHA256": sha256} if sha256 else {}),
        )
        return str(answer["ETag"]), bool(sha256) and answer.get("ChecksumSHA256") == sha256

    def _read_back(self, write: Write) -> None:
        """Confirm by reading, on a server whose ETag is not the MD5; take a damaged copy away again."""
        if self._get(write.key).md5 != write.md5:
            self._delete(write.key)
            raise DocumentError("not_confirmed", f"{self._where} does not hold what it was given")
        self._etag_is_md5 = False

    def _delete(self, key: Key) -> None:
        with translated(self._where):
            self._clients.boto.delete_object(Bucket=self.settings.bucket, Key=key)

    def _delete_many(self, keys: list[str]) -> dict[Key, DocumentError | None]:
        with translated(self._where):
            answer = self._clients.boto.delete_objects(
                Bucket=self.settings.bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        return {
            error["Key"]: DocumentError("refused", f"{self._where} did not delete it: {error.get('Code')}")
            for error in answer.get("Errors", [])
        }

    def shortcut_from(self, source: Store) -> Shortcut | None:
        if not isinstance(source, S3Store) or not self.settings.same_server(source.settings):
            return None
        return BetweenBuckets(source, self, partial(self._copy_object, source)).shortcut()

    def _copy_object(self, source: S3Store, transfer: Transfer) -> Stat:
        with translated(self._where):
            answer = self._clients.boto.copy_object(
                Bucket=self.settings.bucket,
                Key=transfer.dest,
                CopySource={"Bucket": source.settings.bucket, "Key": transfer.source},
                CopySourceIfMatch=f'"{transfer.md5}"',
                ContentType=CONTENT_TYPE,
                MetadataDirective="REPLACE",
            )
        return self._stat_of(None, answer["CopyObjectResult"]["ETag"])

    def _bucket_exists(self) -> bool:
        from botocore.exceptions import ClientError  # noqa: PLC0415

        try:
            head = self._clients.boto.head_bucket(Bucket=self.settings.bucket)
            if not self.settings.url:
                self._clients.bucket_region = head.get("BucketRegion")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:  # noqa: PLR2004
                return False
            raise
        return True

    def _stat_of(self, size: int | None, etag: str | None) -> Stat:
        return Stat(size, _md5_of(etag) if self._etag_is_md5 else None, etag)

    @property
    def _where(self) -> str:
        return f"bucket {self.settings.bucket} at {self.address.identity.removeprefix('s3:').rpartition('/')[0]}"


def _is_odd(key: str) -> bool:
    """Tell whether obstore's path type would refuse or alter the key."""
    return bool(_CONTROL.search(key)) or any(segment in ("", ".", "..") for segment in key.split("/"))


def _md5_of(etag: str | None) -> str | None:
    match = _MD5_ETAG.fullmatch(etag or "")
    return match[1] if match else None


def _sha256(write: Write) -> str:
    digest = hashlib.sha256()
    for chunk in chunks_of(write.data):
        digest.update(chunk)
    return base64.b64encode(digest.digest()).decode()


def make(backend: Backend, address: Address) -> S3Store:
    """Return the store of an s3 backend; connects on first use."""
    if not isinstance(address, ObjectAddress):  # pragma: no cover - the registry pairs them
        raise TypeError(address)
    return S3Store(address, S3Settings.of(backend))
