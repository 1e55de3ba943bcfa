"""Requests of S3 that delete: each signed for a short life first, then the fence is asked, then it is sent.

A request that waits in a load balancer, or in a process that was stopped, cannot be called back. A signature in the
query has a life of its own (``X-Amz-Expires``), which the server holds against its own clock: after that it refuses.
The time of signing is never later than what the server's own ``Date`` said, even if this machine's clock is wrong, so
whoever takes over knows by when the last of them has arrived. A server that does not take such a signature gets one in
the header, with the life that S3 gives to those.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from reconcile.errors import TransientError
from reconcile.logs import get_logger
from reconcile.stores.s3_client import S3Clients
from reconcile.stores.s3_errors import translated
from reconcile.stores.server_clock import ServerClock

LIFE_SECONDS = 60  # of a signature in the query
HEADER_LIFE_SECONDS = 1800  # of one in a header: S3 takes it 15 minutes either side of the time that this machine has
_OPERATIONS = ("DeleteObject", "DeleteObjects")
_REFUSED = (400, 401, 403, 405, 501)

log = get_logger()


class ExpiringDeletes:
    """Deletes of one bucket. ``check`` raises if deletes must stop; ``use_headers`` is called before headers sign."""

    def __init__(
        self, clients: S3Clients, bucket: str, where: str, check: Callable[[], None], use_headers: Callable[[], None]
    ) -> None:
        self._clients, self._bucket, self._where = clients, bucket, where
        self._check, self._use_headers = check, use_headers
        self.clock = ServerClock()
        self._registering = threading.Lock()
        self._by_query: bool | None = None  # whether the server takes a signature in the query, once that is known
        self._prepared_boto: Any = None  # a client is made anew where credentials or region change

    @property
    def life_seconds(self) -> int:
        """By which a request may take effect after it was signed."""
        return HEADER_LIFE_SECONDS if self._by_query is False else LIFE_SECONDS

    def ask_time(self) -> float | None:
        """Ask the server what time it is."""
        with translated(self._where):
            answer = self._clients.boto.head_bucket(Bucket=self._bucket)
        self.clock.hear(answer["ResponseMetadata"]["HTTPHeaders"])
        return self.clock.now()

    def delete_many(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """Delete keys in one request; return the server's errors, each with ``Key`` and ``Code``."""
        objects = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = self._sent(lambda boto: boto.delete_objects(Bucket=self._bucket, Delete=objects))
        return list(answer.get("Errors", []))

    def delete(self, key: str, etag: str | None) -> None:
        """Delete one key; where ``etag`` is given, only the object that has it, if the server respects that."""
        from botocore.exceptions import ClientError  # noqa: PLC0415

        condition = {"IfMatch": etag} if etag else {}
        try:
            self._sent(lambda boto: boto.delete_object(Bucket=self._bucket, Key=key, **condition))
        except ClientError as error:
            if not etag or _status(error) not in (400, 501):
                raise
            self._sent(lambda boto: boto.delete_object(Bucket=self._bucket, Key=key))

    def _sent(self, request: Callable[[Any], Any]) -> Any:  # noqa: ANN401
        """Send a request; what the server refuses of the signature's form is sent once with the other form."""
        from botocore.exceptions import ClientError  # noqa: PLC0415

        boto = self._prepared()
        if self._by_query is None and self.clock.now() is None:
            self._give_up_queries("it reports no time")
        by_query = self._by_query is not False
        try:
            answer = request(boto)
        except ClientError as error:
            if _has_expired(error):
                self.ask_time()
                raise TransientError(
                    f"{self._where}: a request took longer than its validity of {LIFE_SECONDS} s"
                ) from None
            if not by_query or self._by_query or _status(error) not in _REFUSED:
                raise
            first = error
        else:
            if by_query:
                self._by_query = True
            return answer
        self._give_up_queries(f"it answered {_status(first)} to one")
        return request(boto)

    def _give_up_queries(self, why: str) -> None:
        self._use_headers()
        self._by_query = False
        log.warning("the server does not accept a signature in the query for deletes", at=self._where, reason=why)

    def _prepared(self) -> Any:  # noqa: ANN401
        """Return the client, its deleting requests signed and checked by us."""
        boto = self._clients.boto
        with self._registering:
            if boto is not self._prepared_boto:
                if self.clock.now() is None:
                    self.ask_time()
                for name in _OPERATIONS:
                    boto.meta.events.register(f"choose-signer.s3.{name}", self._choose)
                    boto.meta.events.register(f"before-sign.s3.{name}", self._sign)
                    boto.meta.events.register(f"before-send.s3.{name}", self._before_sending)
                self._prepared_boto = boto
        return boto

    def _choose(self, **_event: Any) -> Any:  # noqa: ANN401
        from botocore import UNSIGNED  # noqa: PLC0415

        return None if self._by_query is False else UNSIGNED

    def _sign(self, request: Any, signing_name: str, region_name: str, **_event: Any) -> None:  # noqa: ANN401
        if self._by_query is False:
            return
        signing = request.context.get("signing", {})
        region = signing.get("region") or region_name
        credentials = self._clients.credentials
        now = datetime.fromtimestamp(self.clock.now() or time.time(), UTC)
        if credentials is not None:
            _signer(credentials, signing.get("signing_name") or signing_name, region, now).add_auth(request)

    def _before_sending(self, **_event: Any) -> None:  # noqa: ANN401
        self._check()


def _signer(credentials: Any, service: str, region: str, now: datetime) -> Any:  # noqa: ANN401
    from botocore.auth import SIGV4_TIMESTAMP, S3SigV4QueryAuth  # noqa: PLC0415

    class Signer(S3SigV4QueryAuth):  # type: ignore[misc]
        """Signs by the server's time, and leaves the body of a request where it is."""

        def _modify_request_before_signing(self, request: Any) -> None:  # noqa: ANN401
            request.context["timestamp"] = now.strftime(SIGV4_TIMESTAMP)
            body, request.data = request.data, b""
            super()._modify_request_before_signing(request)
            request.data = body

    return Signer(credentials, service, region, LIFE_SECONDS)


def _status(error: Any) -> int:  # noqa: ANN401
    return int(error.response["ResponseMetadata"].get("HTTPStatusCode", 0))


def _has_expired(error: Any) -> bool:  # noqa: ANN401
    said = error.response.get("Error", {})
    text = f"{said.get('Code')} {said.get('Message')}".lower()
    return "expired" in text and "token" not in text
