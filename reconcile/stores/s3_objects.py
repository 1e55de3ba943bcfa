"""The requests for objects of one bucket. Bytes by obstore, everything else by boto3.

obstore spends a fifteenth of boto3's CPU on a request, but its path type refuses or alters some keys
(``//``, ``.`` and ``..`` segments, control characters, slashes at the ends): those go through boto3, as do
documents that lie in a spool file. Writes are single PUTs, so that the ETag is the MD5 wherever the server has it so.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from attrs import define

from reconcile.errors import BackendError, DocumentError, RedirectedError
from reconcile.payload import CHUNK_BYTES, Spool, chunks_of, gathered, spool_errors
from reconcile.stores.addresses import Key
from reconcile.stores.base import Content, Write
from reconcile.stores.s3_client import S3Clients
from reconcile.stores.s3_errors import translated
from reconcile.stores.s3_listing import decode_names
from reconcile.stores.s3_put import arguments

CONTENT_TYPE = "binary/octet-stream"  # the vendor's
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@define
class S3Objects:
    """The objects of one bucket, one request a call. Errors are those of `translated`; nothing is retried here.

    ``options`` are what every object is written with, as PutObject names them; ``needs_md5``: the bucket takes no
    object without a Content-MD5.
    """

    clients: S3Clients
    where: str
    bucket: str
    options: Mapping[str, str] = {}
    needs_md5: bool = False

    def head(self, key: Key) -> Mapping[str, Any]:
        """Return the answer to a HEAD, by boto3. Raises `FileNotFoundError`."""
        with self._translated(key):
            return dict(self.clients.boto.head_object(Bucket=self.bucket, Key=key))

    def size_and_etag(self, key: Key) -> tuple[int, str | None]:
        """Return an object's size in bytes and its ETag. Raises `FileNotFoundError`."""
        import obstore  # noqa: PLC0415

        if self._by_boto(key):
            head = self.head(key)
            return head["ContentLength"], head["ETag"]
        with self._translated(key):
            meta = obstore.head(self.clients.objects, str(key))
        return meta["size"], meta["e_tag"]

    def told_by_get(self, key: Key, error: BackendError | DocumentError) -> BackendError | DocumentError:
        """Return what a GET says of a key whose HEAD was refused: an answer to HEAD has no body, and so no words."""
        try:
            with translated(self.where):
                self.clients.boto.get_object(Bucket=self.bucket, Key=key)["Body"].close()
        except (BackendError, DocumentError) as told:
            return told
        except FileNotFoundError:
            pass
        return error

    def get(self, key: Key) -> Content:
        """Return an object's content. Raises `FileNotFoundError`."""
        import obstore  # noqa: PLC0415

        with self._translated(key):
            if self._by_boto(key):
                answer = self.clients.boto.get_object(Bucket=self.bucket, Key=key)
                return Content(gathered(answer["Body"].iter_chunks()), version=answer["ETag"])
            got = obstore.get(self.clients.objects, str(key))
            small = got.meta["size"] <= CHUNK_BYTES
            data = bytes(got.bytes()) if small else gathered(bytes(chunk) for chunk in got.stream(CHUNK_BYTES))
            return Content(data, version=got.meta["e_tag"])

    def put(self, write: Write, *, conditional: bool, etag_is_md5: bool) -> tuple[str | None, bool]:
        """Put the bytes; return the ETag, and whether the server's SHA-256 of them, where one is asked for, is right.

        ``conditional``: only if the key is free. ``etag_is_md5``: the ETag confirms it, so that no SHA-256 is needed.
        """
        import obstore  # noqa: PLC0415

        by_obstore = etag_is_md5 and not (self.needs_md5 or self.options or self._by_boto(write.key))
        if isinstance(write.data, bytes) and by_obstore:
            with self._translated(write.key):
                put = obstore.put(
                    self.clients.objects,
                    str(write.key),
                    write.data,
                    mode="create" if conditional else "overwrite",
                    use_multipart=False,
                    attributes={"Content-Type": CONTENT_TYPE},
                )
            return put["e_tag"], False
        sha256 = "" if etag_is_md5 else _sha256(write)
        with self._translated(write.key):
            answer = self.clients.boto.put_object(
                Bucket=self.bucket,
                Key=write.key,
                Body=write.data.file() if isinstance(write.data, Spool) else write.data,
                ContentType=CONTENT_TYPE,
                ContentMD5=base64.b64encode(bytes.fromhex(write.md5)).decode(),
                **({"IfNoneMatch": "*"} if conditional else {}),
                **arguments(self.options),
                **({"ChecksumSHA256": sha256} if sha256 else {}),
            )
        return str(answer["ETag"]), bool(sha256) and answer.get("ChecksumSHA256") == sha256

    def copy(self, source: S3Objects, source_key: Key, key: Key, md5: str) -> str:
        """Have the server copy an object that has this ETag; return the ETag of the copy."""
        with translated(self.where):
            answer = self.clients.boto.copy_object(
                Bucket=self.bucket,
                Key=key,
                CopySource={"Bucket": source.bucket, "Key": source_key},
                CopySourceIfMatch=f'"{md5}"',
                ContentType=CONTENT_TYPE,
                MetadataDirective="REPLACE",
                TaggingDirective="REPLACE" if "Tagging" in self.options else "COPY",
                **arguments(self.options),
            )
        return str(answer["CopyObjectResult"]["ETag"])

    def list_after(self, name: str, prefix: str, names: int) -> tuple[list[Mapping[str, Any]], bool]:
        """Return at most ``names`` entries of ListObjectsV2 after a name, and whether there are more."""
        with translated(self.where):
            page = self.clients.boto.list_objects_v2(
                Bucket=self.bucket, StartAfter=name, Prefix=prefix, MaxKeys=names, EncodingType="url"
            )
        decode_names(page)
        return page.get("Contents", []), bool(page.get("IsTruncated"))

    def get_small(self, key: str) -> tuple[bytes, str]:
        """Return what a small object holds, and its ETag, by boto3. Raises `FileNotFoundError`."""
        with translated(self.where):
            answer = self.clients.boto.get_object(Bucket=self.bucket, Key=key)
            return answer["Body"].read(), answer["ETag"]

    def put_small(self, key: str, data: bytes, content_type: str, condition: Mapping[str, str]) -> None:
        """Put a small object under a condition, as PutObject names it, by boto3."""
        with translated(self.where):
            self.clients.boto.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=data,
                ContentType=content_type,
                **arguments(self.options),
                **condition,
            )

    def _by_boto(self, key: Key) -> bool:
        """Tell whether obstore must not be used: for this key, or at all. May ask for credentials."""
        with translated(self.where):
            return _is_odd(str(key)) or self.clients.is_proxied

    @contextmanager
    def _translated(self, key: Key) -> Iterator[None]:
        """Turn errors of requests for a key into ours; where obstore was redirected, boto3 says where to."""
        try:
            with translated(self.where):
                yield
        except RedirectedError as error:
            raise (error if error.is_located else self._located(error, key)) from None

    def _located(self, error: RedirectedError, key: Key) -> RedirectedError:
        """Return the error with the host that boto3 is redirected to, as far as it is."""
        try:
            with translated(self.where):
                self.clients.boto.head_object(Bucket=self.bucket, Key=key)
        except RedirectedError as located:
            return located
        except (BackendError, DocumentError, FileNotFoundError):
            pass
        return error


def _is_odd(key: str) -> bool:
    """Tell whether obstore's path type would refuse or alter the key."""
    return bool(_CONTROL.search(key)) or any(segment in ("", ".", "..") for segment in key.split("/"))


def _sha256(write: Write) -> str:
    digest = hashlib.sha256()
    with spool_errors("a temporary file cannot be read"):
        for chunk in chunks_of(write.data):
            digest.update(chunk)
    return base64.b64encode(digest.digest()).decode()
