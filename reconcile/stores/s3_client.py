"""The clients of an S3 bucket: boto3's and obstore's, with one set of credentials between them.

Neither follows a redirect to another host. boto3 follows none. obstore follows those of GET and HEAD and has no setting
for that, so every host but the endpoint's is sent to a proxy that does not exist, which no request comes through. With
a real proxy that is not possible: there boto3 does obstore's part too.

Proxies follow ``HTTP_PROXY``, ``HTTPS_PROXY``, ``NO_PROXY``; certificates of a private authority ``AWS_CA_BUNDLE``
(or ``ca_bundle`` of the AWS profile, or ``REQUESTS_CA_BUNDLE``), for both clients alike. Only the config file
says which server is meant: an endpoint in the environment (``AWS_ENDPOINT_URL``) is ignored.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from attrs import define, evolve

from reconcile.config import Backend
from reconcile.errors import ConfigError
from reconcile.logs import get_logger
from reconcile.secret import Secret
from reconcile.stores.redirects import STATUSES, RedirectAnswer
from reconcile.stores.s3_credentials import CredentialProvider, refresh_by_life
from reconcile.stores.s3_listing import parse_quickly

if TYPE_CHECKING:
    from obstore.store import S3Store as Objects

T = TypeVar("T")

NO_PROXY = "127.0.0.1:0"  # nothing can listen at port 0; errors name it

_DEFAULT_REGION = "us-east-1"
_REGION_STATUSES = {*STATUSES, 400}

log = get_logger()


class RegionAnswer(Exception):  # noqa: N818 - an answer, and not ours to judge
    """What boto3 got says that the bucket is in another region than requests were signed for."""

    def __init__(self, region: str) -> None:
        super().__init__(region)
        self.region = region


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
        """Read the settings; ``iamauto`` leaves the keys to the standard AWS credential chain, where there are none."""
        settings: dict[str, Any] = {
            key: value.reveal() if isinstance(value, Secret) else value for key, value in backend.settings.items()
        }
        has_keys = "access_key" in settings and "secret_key" in settings  # as the services ask: they win over iamauto
        return cls(
            bucket=settings["bucket"],
            url=settings.get("url") or None,
            region=settings.get("region") or None,
            access_key=settings.get("access_key") or None if has_keys else None,
            secret_key=settings.get("secret_key") or None if has_keys else None,
            create_bucket=bool(settings.get("create_bucket")),
        )


class S3Clients:
    """Both clients, each made on first use and by one thread. Neither retries: the stores do.

    ``generation`` counts how often they were made anew.
    """

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._making = threading.RLock()
        self._made: dict[str, Any] = {}
        self._region: str | None = None
        self.generation = 0
        self.bucket_region: str | None = None  # as AWS tells it, whatever the config says

    @property
    def boto(self) -> Any:  # noqa: ANN401 - boto3 has no types of its own
        """The boto3 client."""
        return self._once("boto", self._make_boto)

    @property
    def objects(self) -> Objects:
        """The obstore store."""
        return self._once("objects", self._make_objects)

    @property
    def credentials(self) -> Any:  # noqa: ANN401
        """The credentials of now, as botocore has them; None where there are none."""
        found = self._session.get_credentials()
        return None if found is None else found.get_frozen_credentials()

    @property
    def is_proxied(self) -> bool:
        """Whether a proxy of the environment stands before the endpoint: then nothing may go by obstore."""
        return self._once("is_proxied", self._find_proxy)

    @property
    def region(self) -> str:
        """The region that requests are signed for.

        Beside a ``url`` the vendor's client takes the environment's, not the config's, else us-east-1.
        """
        return self._region or self.bucket_region or self._session.region_name or _DEFAULT_REGION

    def use_region(self, region: str) -> None:
        """Sign for this region from now on."""
        with self._making:
            self._region = region
            self._forget()

    def renew(self, generation: int) -> None:
        """Get credentials anew, unless that was done since ``generation``: the chain is gone through once more."""
        with self._making:
            if generation == self.generation:
                log.info("the credentials have expired; new ones are fetched", bucket=self._settings.bucket)
                self._forget()

    def _forget(self) -> None:
        self._made = {}
        self.generation += 1

    def _once(self, name: str, make: Callable[[], T]) -> T:
        made = self._made
        if name not in made:
            with self._making:
                made = self._made
                if name not in made:
                    made[name] = make()
        return made[name]  # type: ignore[no-any-return]

    @property
    def _session(self) -> Any:  # noqa: ANN401
        return self._once("session", self._make_session)

    def _make_session(self) -> Any:  # noqa: ANN401
        import boto3  # noqa: PLC0415
        import botocore.session  # noqa: PLC0415

        core = botocore.session.get_session()
        core.register_component("data_loader", _descriptions(core.get_config_variable("data_path")))
        session = boto3.session.Session(
            botocore_session=core,
            aws_access_key_id=self._settings.access_key,
            aws_secret_access_key=self._settings.secret_key,
            region_name=None if self._settings.url else self._settings.region,
        )
        refresh_by_life(session.get_credentials())
        parsers = core.get_component("response_parser_factory")
        parsers.set_parser_defaults(timestamp_parser=_timestamp)  # its own takes half the time of a listing
        return session

    def _make_boto(self) -> Any:  # noqa: ANN401
        from reconcile.stores.s3_whole import write_whole  # noqa: PLC0415 - with botocore

        config = _only_given(
            retries={"total_max_attempts": 1},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=64,
            request_checksum_calculation="when_required",  # S3-compatible servers refuse others
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"} if self._settings.url else {},
        )
        url = self._settings.url
        region = self.region if url or self._region else None
        client = self._session.client("s3", region, endpoint_url=url, config=config)
        client.meta.events.register_first("needs-retry.s3", self._judge_answer)
        write_whole(client)
        parse_quickly(client)
        return client

    def _judge_answer(self, response: tuple[Any, dict[str, Any]] | None, **_more: object) -> None:
        """Raise `RedirectAnswer` or `RegionAnswer` for what botocore would act on by itself.

        It would ask for a bucket's region without end where a redirect names none, and sign for another region without
        a word, of which obstore would not know. AWS's own answers are left to it.
        """
        if response is None or response[0].status_code not in _REGION_STATUSES:
            return
        status, error = response[0].status_code, response[1].get("Error", {})
        headers = response[1]["ResponseMetadata"].get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region") or error.get("Region")
        if region and not self._settings.url:
            return
        if region and region != self.region:
            raise RegionAnswer(region)
        if status in STATUSES:
            raise RedirectAnswer(headers.get("location") or error.get("Endpoint"))

    def _make_objects(self) -> Objects:
        from obstore.store import S3Store as Objects  # noqa: PLC0415

        endpoint = self._endpoint()
        options: dict[str, Any] = {
            "allow_http": urlsplit(endpoint).scheme == "http",
            "proxy_url": f"http://{NO_PROXY}",
            "proxy_excludes": _as_in_urls(urlsplit(endpoint).hostname or ""),
            "connect_timeout": "10s",
            "read_timeout": "60s",
            "timeout": "1h",
        }
        if bundle := self._ca_bundle():
            options["root_certificate"] = bundle
        return Objects(
            self._settings.bucket,
            region=self.region,
            endpoint=endpoint,
            credential_provider=CredentialProvider(self._session.get_credentials()),
            virtual_hosted_style_request=not self._settings.url and self._has_host,
            client_options=options,  # type: ignore[arg-type]
            retry_config={"max_retries": 0},
        )

    def _find_proxy(self) -> bool:
        from botocore.utils import get_environ_proxies  # noqa: PLC0415

        endpoint = self._endpoint()
        proxied = urlsplit(endpoint).scheme in get_environ_proxies(endpoint)
        if proxied:
            log.info("a proxy is in use: all requests use boto3, which follows no redirect and takes more CPU")
        return proxied

    def _endpoint(self) -> str:
        return (self._settings.url or self._aws_endpoint(self.region)).rstrip("/")

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


@cache
def _descriptions(data_path: str | None) -> Any:  # noqa: ANN401
    """Return what reads botocore's descriptions of services, and keeps them: megabytes of JSON for each session."""
    from botocore.loaders import create_loader  # noqa: PLC0415

    return create_loader(data_path)


def _as_in_urls(host: str) -> str:
    """Return a host as URLs spell it once they are parsed: numeric ones in four parts, others in ASCII."""
    with suppress(OSError):
        return socket.inet_ntoa(socket.inet_aton(host))
    with suppress(UnicodeError):
        return host if host.isascii() else host.encode("idna").decode()
    return host


def _timestamp(value: Any) -> datetime:  # noqa: ANN401
    from botocore.utils import parse_timestamp  # noqa: PLC0415

    with suppress(ValueError, TypeError):
        return datetime.fromisoformat(value)
    parsed: datetime = parse_timestamp(value)
    return parsed


def _only_given(**options: Any) -> Any:  # noqa: ANN401
    from botocore.config import Config  # noqa: PLC0415

    return Config(ignore_configured_endpoint_urls=True, **options)
