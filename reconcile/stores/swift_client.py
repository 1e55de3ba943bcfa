"""The connection to a Swift account: python-swiftclient's, with names sent as they are.

The client's HTTP library takes ``.`` and ``..`` segments out of a request's path, as browsers do, so that it would ask
for another object. Services with an older client wrote such names. Here their dots go through the library under
another character, and become ``%2E`` where the request is sent.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from reconcile.errors import BackendError, DocumentError
from reconcile.formatting import to_install

_DOT = "\U000f0000"  # of a private plane: in no name that anybody gives
_QUOTED_DOT = quote(_DOT)


def as_sent(key: str) -> str:
    """Return the name by which the client sends requests for an object of this name. Raises `DocumentError`."""
    if _DOT in key:
        raise DocumentError("name_altered", "the name has a character that reconcile uses in place of a dot")
    segments = key.split("/")
    if not {".", ".."} & set(segments):
        return key
    return "/".join(_DOT * len(segment) if segment in (".", "..") else segment for segment in segments)


def connect(options: dict[str, Any]) -> Any:  # noqa: ANN401 - swiftclient has no types
    """Return a connection by the options that the vendor hands to the client. Raises `BackendError`."""
    try:
        from swiftclient import service  # noqa: PLC0415
    except ImportError:
        raise BackendError(
            "driver swift needs python-swiftclient, which is not installed", hint=to_install("swift")
        ) from None
    merged = {**service._default_global_options, **options}  # noqa: SLF001 - what SwiftService itself starts from
    service.process_options(merged)
    settings = {**merged, "retries": 0, "starting_backoff": 0.1, "timeout": merged.get("timeout") or 60}
    connection = service.get_conn(settings)
    make = connection.http_connection

    def http_connection(url: str | None = None) -> Any:  # noqa: ANN401
        parsed, http = make(url)
        for scheme in ("http://", "https://"):
            http.request_session.mount(scheme, _adapter())
        return parsed, http

    connection.http_connection = http_connection
    return connection


def _adapter() -> Any:  # noqa: ANN401
    """Return what sends requests for ``requests``, and puts the dots back into names."""
    from requests.adapters import HTTPAdapter  # noqa: PLC0415 - comes with swiftclient

    class Adapter(HTTPAdapter):
        def send(self, request: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401
            request.url = request.url.replace(_QUOTED_DOT, "%2E")
            return super().send(request, *args, **options)

    return Adapter()
