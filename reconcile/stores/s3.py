"""Driver ``s3``: objects in a bucket. Bytes by obstore, everything else by boto3.

obstore spends a fifteenth of boto3's CPU on a request, but its path type refuses or alters some keys
(``//``, ``.`` and ``..`` segments, control characters, slashes at the ends): those go through boto3.
Writes are single PUTs with ``If-None-Match: *``, so that the ETag is the MD5 wherever the server has it so.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from attrs import define

from reconcile.config import Backend
from reconcile.errors import BackendError, DocumentError
from reconcile.payload import md5
from reconcile.secret import Secret
from reconcile.stores.addresses import Address, Key, ObjectAddress
from reconcile.stores.base import Content, Stat, Write
from reconcile.stores.objects import ObjectStore
from reconcile.stores.s3_errors import translated

if TYPE_CHECKING:
    from obstore.store import S3Store as Objects

T = TypeVar("T")

CONTENT_TYPE = "binary/octet-stream"  # the vendor's
_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@define
class S3Settings:
    """The ``storage_driver.config`` of an s3 backend, as the vendor's driver understands it."""

    bucket: str
    url: str | None
    region: str | None
    access_key: str | None
    secret_key: str | None
    create_bucket: bool

    @classmethod
    def of(cls, backend: Backend) -> S3Settings:
        """Read the settings; ``iamauto`` leaves the keys to the standard AWS credential chain."""
        settings: dict[str, Any] = {
            key: value.reveal() if isinstance(value, Secret) else value for key, value in backend.settings.items()
        }
        automatic = bool(settings.get("iamauto"))
        return cls(
            bucket=settings["bucket"],
            url=settings.get("url") or None,
            region=settings.get("region") or None,
            access_key=None if automatic else settings.get("access_key"),
            secret_key=None if automatic else settings.get("secret_key"),
            create_bucket=bool(settings.get("create_bucket")),
        )


class S3Store(ObjectStore):
    """One bucket at one endpoint."""

    page: ClassVar[int] = 1000
    delete_page: ClassVar[int] = 1000

    def __init__(self, address: ObjectAddress, settings: S3Settings) -> None:
        super().__init__(address)
        self._settings = settings
        self._etag_is_md5 = True
        self._making = threading.Lock()

    def prepare(self, *, create: bool) -> None:
        try:
            self._prepare(create=create)
        except DocumentError as error:
            raise BackendError(error.detail, hint="check the bucket's name, and what the server is") from None

    def _prepare(self, *, create: bool) -> None:
        with translated(self._where):
            if self._bucket_exists():
                return
            if not (create and self._settings.create_bucket):
                raise BackendError(
                    f"{self._where}: the bucket is not there",
                    hint="make it, or set create_bucket: true in the destination config",
                )
            region = self._client.meta.region_name
            where = {} if region in (None, "us-east-1", "aws-global") else {"LocationConstraint": region}
            extra = {"CreateBucketConfiguration": where} if where else {}
            self._client.create_bucket(Bucket=self._settings.bucket, **extra)

    def _list_after(self, name: str, prefix: str) -> tuple[list[tuple[str, Stat]], bool]:
        with translated(self._where):
            page = self._client.list_objects_v2(Bucket=self._settings.bucket, StartAfter=name, Prefix=prefix)
        entries = [(entry["Key"], self._stat_of(entry["Size"], entry["ETag"])) for entry in page.get("Contents", [])]
        return entries, bool(page.get("IsTruncated"))

    def _stat(self, key: Key) -> Stat | None:
        import obstore  # noqa: PLC0415

        try:
            with translated(self._where):
                if _is_odd(str(key)):
                    head = self._client.head_object(Bucket=self._settings.bucket, Key=key)
                    return self._stat_of(head["ContentLength"], head["ETag"])
                meta = obstore.head(self._objects, str(key))
                return self._stat_of(meta["size"], meta["e_tag"])
        except FileNotFoundError:
            return None

    def _get(self, key: Key) -> Content:
        import obstore  # noqa: PLC0415

        try:
            with translated(self._where):
                if _is_odd(str(key)):
                    answer = self._client.get_object(Bucket=self._settings.bucket, Key=key)
                    return Content(answer["Body"].read(), version=answer["ETag"])
                got = obstore.get(self._objects, str(key))
                return Content(bytes(got.bytes()), version=got.meta["e_tag"])
        except FileNotFoundError:
            raise DocumentError("source_missing", f"no object {key!r} in {self._where}") from None

    def _put(self, write: Write) -> Stat:
        try:
            with translated(self._where):
                etag = self._put_object(write)
        except FileNotFoundError:
            raise DocumentError("refused", f"{self._where} refused it (404)") from None
        if _md5_of(etag) != write.md5:
            self._read_back(write)
        return Stat(len(write.data), write.md5, etag)

    def _put_object(self, write: Write) -> str | None:
        """Put the bytes if the key is free; return the ETag that the server answers with."""
        import obstore  # noqa: PLC0415

        if _is_odd(str(write.key)):
            answer = self._client.put_object(
                Bucket=self._settings.bucket,
                Key=write.key,
                Body=write.data,
                ContentType=CONTENT_TYPE,
                IfNoneMatch="*",
            )
            return str(answer["ETag"])
        attributes = {"Content-Type": CONTENT_TYPE}
        return obstore.put(
            self._objects, str(write.key), write.data, mode="create", use_multipart=False, attributes=attributes
        )["e_tag"]

    def _read_back(self, write: Write) -> None:
        """Confirm by reading, on a server whose ETag is not the MD5; take a damaged copy away again."""
        if md5(self._get(write.key).data) != write.md5:
            self._delete(write.key)
            raise DocumentError("not_confirmed", f"{self._where} does not hold what it was given")
        self._etag_is_md5 = False

    def _delete(self, key: Key) -> None:
        with translated(self._where):
            self._client.delete_object(Bucket=self._settings.bucket, Key=key)

    def _delete_many(self, keys: list[str]) -> dict[Key, DocumentError | None]:
        with translated(self._where):
            answer = self._client.delete_objects(
                Bucket=self._settings.bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        return {
            error["Key"]: DocumentError("refused", f"{self._where} did not delete it: {error.get('Code')}")
            for error in answer.get("Errors", [])
        }

    def _bucket_exists(self) -> bool:
        from botocore.exceptions import ClientError  # noqa: PLC0415

        try:
            self._client.head_bucket(Bucket=self._settings.bucket)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:  # noqa: PLR2004
                return False
            raise
        return True

    def _stat_of(self, size: int, etag: str | None) -> Stat:
        return Stat(size, _md5_of(etag) if self._etag_is_md5 else None, etag)

    @property
    def _where(self) -> str:
        return f"bucket {self._settings.bucket} at {self.address.identity.removeprefix('s3:').rpartition('/')[0]}"

    @cached_property
    def _session(self) -> Any:  # noqa: ANN401 - boto3 has no types of its own
        import boto3  # noqa: PLC0415

        return boto3.session.Session(
            aws_access_key_id=self._settings.access_key,
            aws_secret_access_key=self._settings.secret_key,
            region_name=self._settings.region or ("us-east-1" if self._settings.url else None),
        )

    @property
    def _client(self) -> Any:  # noqa: ANN401
        return self._made("_boto_client", self._make_client)

    @property
    def _objects(self) -> Objects:
        return self._made("_obstore", self._make_objects)

    def _made(self, name: str, make: Callable[[], T]) -> T:
        """Return a client, made once and by one thread."""
        if name not in self.__dict__:
            with self._making:
                if name not in self.__dict__:
                    self.__dict__[name] = make()
        return self.__dict__[name]  # type: ignore[no-any-return]

    def _make_client(self) -> Any:  # noqa: ANN401
        from botocore.config import Config  # noqa: PLC0415

        config = Config(
            retries={"total_max_attempts": 1},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=32,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"} if self._settings.url else {},
        )
        return self._session.client("s3", endpoint_url=self._settings.url, config=config)

    def _make_objects(self) -> Objects:
        from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415
        from obstore.store import S3Store as Objects  # noqa: PLC0415

        url = self._settings.url
        extra: dict[str, Any] = {"endpoint": url.rstrip("/")} if url else {}
        return Objects(
            self._settings.bucket,
            region=self._session.region_name,
            credential_provider=Boto3CredentialProvider(self._session),
            virtual_hosted_style_request=not url,
            client_options={"allow_http": True, "connect_timeout": "10s", "read_timeout": "60s", "timeout": "1h"},
            retry_config={"max_retries": 0},
            **extra,
        )


def _is_odd(key: str) -> bool:
    """Tell whether obstore's path type would refuse or alter the key."""
    return bool(_CONTROL.search(key)) or any(segment in ("", ".", "..") for segment in key.split("/"))


def _md5_of(etag: str | None) -> str | None:
    match = _MD5_ETAG.fullmatch(etag or "")
    return match[1] if match else None


def make(backend: Backend, address: Address) -> S3Store:
    """Return the store of an s3 backend; connects on first use."""
    if not isinstance(address, ObjectAddress):  # pragma: no cover - the registry pairs them
        raise TypeError(address)
    return S3Store(address, S3Settings.of(backend))
