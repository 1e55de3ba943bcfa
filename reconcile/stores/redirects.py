"""Redirects: none is followed to another host, which would get credentials and be trusted.

boto3 follows none. obstore follows those of GET and HEAD: see `reconcile.stores.s3_client` for what keeps it from other
hosts. python-swiftclient and the Keystone clients follow all, by way of ``requests``, and have no setting for that: the
one place that all their requests go through is watched, in threads and for as long as a store of ours asks.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import urljoin, urlsplit

from reconcile.errors import RedirectedError
from reconcile.logs import printable
from reconcile.secret import scrub

STATUSES = {301, 302, 303, 305, 307, 308}
_HINT = "if that host is the right one, set it in the config; if not, find out what answers at the configured address"

_inside = threading.local()


class RedirectAnswer(Exception):  # noqa: N818 - an answer, and not ours to judge
    """What boto3 got is a redirect, to ``location`` if the server says where to."""

    def __init__(self, location: str | None) -> None:
        super().__init__(location)
        self.location = location


def redirected(where: str, location: str | None) -> RedirectedError:
    """Return the error for a redirect to ``location``, a URL; None where the client does not say where it leads."""
    to = _server(location) if location else "another host"
    return RedirectedError(
        f"{where}: the server redirects to {to}; reconcile follows no redirect",
        hint=_HINT,
        is_located=bool(location),
    )


@contextmanager
def redirects_refused(where: str) -> Iterator[None]:
    """Raise `RedirectedError` for a redirect to another host that a request by ``requests`` gets in the block."""
    _watch_requests()
    _inside.where, _inside.error = where, None
    try:
        yield
    except Exception:
        if _inside.error is not None:  # the libraries put errors of their own around it
            raise _inside.error from None
        raise
    finally:
        _inside.where = None


@cache
def _watch_requests() -> None:
    """Have each answer that ``requests`` gets looked at; outside of `redirects_refused` nothing changes."""
    from requests.adapters import HTTPAdapter  # noqa: PLC0415 - comes with swiftclient

    send = HTTPAdapter.send

    def watched(adapter: HTTPAdapter, request: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        answer = send(adapter, request, *args, **options)
        where = getattr(_inside, "where", None)
        location = answer.headers.get("location")
        if where is not None and location and answer.status_code in STATUSES:
            target = urljoin(request.url, location)
            if _leads_away(request.url, target):
                answer.close()
                _inside.error = redirected(where, target)
                raise _inside.error
        return answer

    HTTPAdapter.send = watched  # type: ignore[method-assign, assignment]


def _leads_away(url: str, target: str) -> bool:
    """Tell whether a redirect leads to another host, or from TLS to none."""
    here, there = urlsplit(url), urlsplit(target)
    return here.hostname != there.hostname or (here.scheme, there.scheme) == ("https", "http")


def _server(location: str) -> str:
    """Return scheme, host and port of a URL that a server made up, fit to be shown."""
    try:
        parts = urlsplit(location)
        host, port = parts.hostname or "itself", parts.port
    except ValueError:
        return "an invalid URL"
    text = f"{parts.scheme}://{host}:{port}" if port else f"{parts.scheme}://{host}" if parts.scheme else host
    return printable(scrub(text))[:300]
