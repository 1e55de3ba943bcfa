"""Engine ``dask:ADDRESS``: workers on many machines, which a scheduler of Dask gives messages to.

Dask's scheduler and workers run what they are sent by whoever they let in, so that a client certificate is worth as
much as the workers' credentials: off this machine there is no way without TLS and one. Keys and certificates are named
by Dask's own settings, such as ``DASK_DISTRIBUTED__COMM__TLS__CA_FILE``.
"""

from __future__ import annotations

import logging
import secrets
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from reconcile.engines.base import Message, Setup
from reconcile.errors import ConfigError, EngineError, LostError, UsageError
from reconcile.formatting import to_install
from reconcile.logs import get_logger

_ANSWER = ("reconcile.workers.dask", "answer")  # what workers call with each message
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CONNECT_SECONDS = 30
_ANSWER_SECONDS = 10
_READERS = 8  # answers that are asked for at once
_ASK_SECONDS = 1.0  # between two questions how many workers there are
_CERTIFICATES = (
    "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT and ...__CLIENT__KEY name"
    " certificate and key for a client, those with WORKER and SCHEDULER in its place for theirs"
)

log = get_logger()


class Dask:
    """The workers of one scheduler; connected to with the first message."""

    def __init__(self, address: str, _setup: Setup) -> None:
        self.name = f"dask:{address}"
        check_address(address)
        self._address = address
        self._client: Any = None
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="answers")
        self._width = (0, 0.0)

    def width(self) -> int:
        """Return how many threads all workers have together."""
        width, asked_at = self._width
        if time.monotonic() - asked_at > _ASK_SECONDS:
            client = self._connected()
            try:
                width = sum(client.sync(client.scheduler.ncores, callback_timeout=_ANSWER_SECONDS).values())
            except TimeoutError:  # it is stopped, or slow; what it was given says more
                log.warning("the scheduler does not answer", scheduler=self._address)
            except OSError as error:
                raise self._gone(error) from None
            self._width = (width, time.monotonic())
        return width

    def submit(self, message: Message) -> Future[Message]:
        """Give the message to the scheduler."""
        module, name = _ANSWER
        answer = getattr(import_module(module), name)
        result: Future[Message] = Future()
        result.set_running_or_notify_cancel()
        try:
            key = f"part-{secrets.token_hex(8)}"
            given = self._connected().submit(answer, message, key=key, pure=False, retries=0)
        except OSError as error:
            raise self._gone(error) from None
        given.add_done_callback(lambda done: self._read(done, result))
        return result

    def _read(self, given: Any, result: Future[Message]) -> None:  # noqa: ANN401
        with suppress(RuntimeError):  # this program ends, and waits for no answer
            self._readers.submit(self._pass_on, given, result)

    def close(self) -> None:
        """Let go of the scheduler, and of what it was given."""
        if self._client is not None:
            self._client.close(timeout=5)
            self._client = None

    def _connected(self) -> Any:  # noqa: ANN401 - Dask has no types
        if self._client is None:
            self._client = _client_of(self._address)
        return self._client

    def _pass_on(self, given: Any, result: Future[Message]) -> None:  # noqa: ANN401
        try:
            result.set_result(given.result(timeout=_ANSWER_SECONDS))
        except TimeoutError:  # answers lie with the workers until they are asked for
            result.set_exception(LostError("the worker that did it does not answer any more"))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is whose who waits
            name = type(error).__name__
            if name == "KilledWorker":
                result.set_exception(LostError("the scheduler gave it up: every worker that took it was lost"))
            else:
                result.set_exception(self._gone(error))

    def _gone(self, error: BaseException) -> EngineError:
        return EngineError(
            f"the scheduler at {self._address} is gone, or lost what it was given: {type(error).__name__}",
            hint="what is recorded stays so; start the scheduler and its workers, then run the same command again",
        )


def check_address(address: str) -> None:
    """Raise `UsageError` for what is no scheduler's address, or has no TLS and is not this machine's."""
    try:
        parts = urlsplit(address)
        known = parts.scheme in ("tcp", "tls") and parts.hostname and parts.port
    except ValueError:
        known = None
    if not known:
        raise UsageError(f"{address}: an address of a scheduler is tls://HOST:PORT, or on this machine tcp://HOST:PORT")
    if parts.scheme == "tcp" and parts.hostname not in _LOOPBACK:
        raise UsageError(
            f"{address}: without TLS anybody who reaches the port could run code with the workers' credentials",
            hint=f"use tls://{parts.hostname}:{parts.port}\n{_CERTIFICATES}",
        )


def distributed() -> Any:  # noqa: ANN401 - Dask has no types
    """Return Dask's package. Raises `ConfigError` where it is not installed."""
    try:
        import distributed as package  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError("the engine dask needs Dask, which is not installed", hint=to_install("dask")) from None
    logging.getLogger("distributed").setLevel(logging.ERROR)
    return package


def security_of(address: str, side: str) -> Any:  # noqa: ANN401
    """Return the certificates of a side (client, worker, scheduler) for an address, as Dask's settings name them.

    Where the address says TLS it is that or nothing. Raises `ConfigError` where there is no certificate.
    """
    needs_tls = urlsplit(address).scheme == "tls"
    security = distributed().Security(require_encryption=needs_tls)
    try:
        context = security.get_connection_args(side).get("ssl_context")
    except OSError as error:  # also what the ssl module raises for a file that is none
        raise ConfigError(
            f"{address}: a certificate for it cannot be read: {error.strerror or error}", hint=_CERTIFICATES
        ) from None
    if needs_tls and context is None:
        raise ConfigError(f"{address}: no certificate for it is named", hint=_CERTIFICATES)
    return security


def refused(address: str, error: BaseException) -> EngineError:
    """Return the error for a scheduler that cannot be connected to, or cannot listen."""
    return EngineError(
        f"{address}: no scheduler answers there, or it does not let this side in: {type(error).__name__}",
        hint=f"reconcile scheduler --listen {address}    starts one\n{_CERTIFICATES}",
    )


def _client_of(address: str) -> Any:  # noqa: ANN401
    package = distributed()
    try:
        return package.Client(
            address,
            security=security_of(address, "client"),
            timeout=_CONNECT_SECONDS,
            set_as_default=False,
            name="reconcile",
        )
    except OSError as error:
        raise refused(address, error) from None
