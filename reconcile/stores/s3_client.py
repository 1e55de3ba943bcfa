"""The clients of an S3 bucket: boto3's and obstore's, with one set of credentials between them.

Proxies follow ``HTTP_PROXY``, ``HTTPS_PROXY``, ``NO_PROXY``; certificates of a private authority ``AWS_CA_BUNDLE``
(or ``ca_bundle`` of the AWS profile, or ``REQUESTS_CA_BUNDLE``), for both clients alike. Which server is meant is for
the config file alone to say: an endpoint in the environment (``AWS_ENDPOINT_URL``) counts for nothing.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, evolve

from reconcile.config import Backend
from reconcile.errors import ConfigError
from reconcile.secret import Secret

if TYPE_CHECKING:
    from obstore.store import S3Store as Objects

T = TypeVar("T")


@define
class S3Settings:
    """The ``storage_driver.config`` of an s3 backend, as the vendor's driver understands it."""

    bucket: str
    url: str | None
    region: str | None
    access_key: str | None
    secret_key: str | None
    create_bucket: bool

    def same_server(self, other: S3Settings) -> bool:
        """Tell whether the other's bucket is at the same server, and reached with the same credentials."""
        return evolve(self, bucket="", create_bucket=False) == evolve(other, bucket="", create_bucket=False)

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


class S3Clients:
    """Both clients, each made on first use and by one thread. Neither retries: the stores do."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._making = threading.Lock()
        self.bucket_region: str | None = None  # as AWS tells it, whatever the config says

    @property
    def boto(self) -> Any:  # noqa: ANN401 - boto3 has no types of its own
        """The boto3 client."""
        return self._made("_boto", self._make_boto)

    @property
    def objects(self) -> Objects:
        """The obstore store."""
        return self._made("_objects", self._make_objects)

    @cached_property
    def _session(self) -> Any:  # noqa: ANN401
        import boto3  # noqa: PLC0415

        session = boto3.session.Session(
            aws_access_key_id=self._settings.access_key,
            aws_secret_access_key=self._settings.secret_key,
            region_name=self._settings.region or ("us-east-1" if self._settings.url else None),
        )
        parsers = session._session.get_component("response_parser_factory")  # noqa: SLF001
        parsers.set_parser_defaults(timestamp_parser=_timestamp)  # its own takes half the time of a listing
        return session

    def _made(self, name: str, make: Callable[[], T]) -> T:
        if name not in self.__dict__:
            with self._making:
                if name not in self.__dict__:
                    self.__dict__[name] = make()
        return self.__dict__[name]  # type: ignore[no-any-return]

    def _make_boto(self) -> Any:  # noqa: ANN401
        config = _only_given(
            retries={"total_max_attempts": 1},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=64,
            request_checksum_calculation="when_required",  # S3-compatible servers refuse others
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"} if self._settings.url else {},
        )
        return self._session.client("s3", endpoint_url=self._settings.url, config=config)

    def _make_objects(self) -> Objects:
        from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415
        from obstore.store import S3Store as Objects  # noqa: PLC0415

        region = self.bucket_region or self._session.region_name or "us-east-1"
        options: dict[str, Any] = {
            "allow_http": True,
            "connect_timeout": "10s",
            "read_timeout": "60s",
            "timeout": "1h",
        }
        if bundle := self._ca_bundle():
            options["root_certificate"] = bundle
        return Objects(
            self._settings.bucket,
            region=region,
            endpoint=(self._settings.url or self._aws_endpoint(region)).rstrip("/"),
            credential_provider=Boto3CredentialProvider(self._session),
            virtual_hosted_style_request=not self._settings.url and self._has_host,
            client_options=options,  # type: ignore[arg-type]
            retry_config={"max_retries": 0},
        )

    @property
    def _has_host(self) -> bool:
        """Whether AWS serves the bucket under a host name of its own that its certificate covers."""
        return re.fullmatch(r"[a-z0-9-]+", self._settings.bucket) is not None

    def _aws_endpoint(self, region: str) -> str:
        """Return the endpoint as boto3 knows it, so that obstore takes none from the environment."""
        endpoint = str(self._session.client("s3", region, config=_only_given()).meta.endpoint_url)
        return endpoint.replace("://", f"://{self._settings.bucket}.") if self._has_host else endpoint

    def _ca_bundle(self) -> bytes | None:
        """Return the certificates that boto3 would trust, where they are not the usual ones."""
        path = self._session._session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")  # noqa: SLF001
        if not path:
            return None
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(f"{path}: the file of certificates cannot be read: {error.strerror}") from None


def _timestamp(value: Any) -> datetime:  # noqa: ANN401
    from botocore.utils import parse_timestamp  # noqa: PLC0415

    with suppress(ValueError, TypeError):
        return datetime.fromisoformat(value)
    parsed: datetime = parse_timestamp(value)
    return parsed


def _only_given(**options: Any) -> Any:  # noqa: ANN401
    from botocore.config import Config  # noqa: PLC0415

    return Config(ignore_configured_endpoint_urls=True, **options)
