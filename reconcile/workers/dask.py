"""A worker and a scheduler of Dask, as this tool starts them: no HTTP port, and TLS off this machine."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from typing import Any
from urllib.parse import urlsplit

from reconcile.engines import Message, Setup
from reconcile.engines.dask import check_address, distributed, refused, security_of
from reconcile.workers.worker import Worker

_TTL = "30s"  # without a sign of life, after which a worker counts as lost
_ALLOWED_FAILURES = 1  # workers lost with one part before it is told of; who leads the run gives it out again
_DEATH_SECONDS = 60  # that a worker looks for a scheduler

_worker: list[Worker] = []  # the one of this process


def answer(message: Message) -> Message:
    """Give a message to the worker of this process."""
    if not _worker:
        kind = {"kind": "EngineError", "message": "this is no worker of reconcile: start it by reconcile worker"}
        return {"worker": "?", "error": kind | {"hint": None}}
    return _worker[0](message)


def work(address: str, setup: Setup) -> None:
    """Be a worker until the scheduler goes, or a signal comes: then what is in hand is ended first.

    Raises `EngineError` if there is no scheduler, `ConfigError` for certificates that are not there, and for a database
    that is not named, `CatalogError` for one that is down.
    """
    check_address(address)
    package, security = distributed(), security_of(address, "worker")
    _worker[:] = [Worker(setup)]
    _worker[0].check()

    class QuietWorker(_Quiet, package.Worker):  # type: ignore[misc, name-defined]
        """Without HTTP."""

    async def serve() -> None:
        with tempfile.TemporaryDirectory(prefix="reconcile-") as folder:
            worker = QuietWorker(
                address,
                host=package.utils.get_ip(urlsplit(address).hostname),  # reached by whoever reaches the scheduler
                nthreads=setup.threads,
                security=security,
                local_directory=folder,
                memory_limit=0,
                death_timeout=_DEATH_SECONDS,
            )
            await worker
            _on_signal(lambda: worker.close_gracefully())  # noqa: PLW0108 - made when it is needed
            await worker.finished()

    _run(address, serve)


def schedule(address: str) -> None:
    """Be a scheduler until a signal comes. Raises as `work` does."""
    check_address(address)
    package, security = distributed(), security_of(address, "scheduler")
    import dask  # noqa: PLC0415 - an extra

    class QuietScheduler(_Quiet, package.Scheduler):  # type: ignore[misc, name-defined]
        """Without HTTP."""

    async def serve() -> None:
        settings = {
            "distributed.scheduler.worker-ttl": _TTL,
            "distributed.scheduler.allowed-failures": _ALLOWED_FAILURES,
            "distributed.scheduler.work-stealing": False,
        }
        with dask.config.set(settings):
            parts = urlsplit(address)
            scheduler = QuietScheduler(
                protocol=f"{parts.scheme}://",
                host=parts.hostname,
                port=parts.port,
                security=security,
                dashboard=False,
            )
            await scheduler
            _on_signal(lambda: scheduler.close())  # noqa: PLW0108
            await scheduler.finished()

    _run(address, serve)


class _Quiet:
    """A node of Dask that serves nothing by HTTP: its own would be open to everybody, without TLS."""

    def start_http_server(self, routes: Any, *_given: Any, **_more: Any) -> None:  # noqa: ANN401 - Dask's
        """Have the server that other code of Dask expects, and listen nowhere."""
        from distributed.http.routing import RoutingApplication  # noqa: PLC0415
        from tornado.httpserver import HTTPServer  # noqa: PLC0415

        self.http_application = RoutingApplication(routes)  # type: ignore[no-untyped-call]
        self.http_server = HTTPServer(self.http_application)


def _on_signal(close: Any) -> None:  # noqa: ANN401 - makes a coroutine
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: loop.create_task(close()))


def _run(address: str, serve: Any) -> None:  # noqa: ANN401 - makes a coroutine
    try:
        asyncio.run(serve())
    except (OSError, RuntimeError) as error:
        raise refused(address, error) from None
