"""Structured logs: JSON lines or console, to stderr or a file, scrubbed of every known secret (R8)."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO, cast

import structlog

from reconcile.secret import scrub

LEVELS = ("debug", "info", "warning", "error")


def get_logger() -> Any:  # noqa: ANN401 - structlog's lazy proxy
    """Return the logger. Events carry ``run`` and ``phase``, and name the document they are about."""
    return structlog.get_logger("reconcile")


def configure(level: str = "info", form: str | None = None, file: Path | None = None) -> None:
    """Set logging up. ``form`` is ``json`` or ``console``; by default console on a terminal, else JSON.

    A log file is made with mode 0600, and appended to.
    """
    _shown.settings, _shown.is_configured = (level, form, file), True
    stream = _open(file) if file else None
    on_terminal = stream is None and sys.stderr.isatty()
    if form is None:
        form = "console" if on_terminal else "json"
    _shown.level = getattr(logging, level.upper())
    renderer: Any = structlog.processors.JSONRenderer(ensure_ascii=True)
    if form == "console":
        renderer = structlog.dev.ConsoleRenderer(
            colors=on_terminal and not os.environ.get("NO_COLOR"),
            exception_formatter=structlog.dev.plain_traceback,
        )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _safe,
            _shown,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_shown.level),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Unbreakable(stream))),
        cache_logger_on_first_use=False,
    )


def log_tracebacks() -> None:
    """Have Python log the errors that nobody handles, where it would print them: they may hold what only a log may.

    psycopg2 prints a `SystemError` of its own when the server ends a session during COPY, and raises another error.
    """

    def log(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        said = get_logger().debug if issubclass(kind, SystemError | Warning) else get_logger().error
        said("error that nobody handled", exc_info=(kind, error, trace))

    sys.excepthook = log
    sys.unraisablehook = lambda given: log(given.exc_type, given.exc_value, given.exc_traceback)
    threading.excepthook = lambda given: log(given.exc_type, given.exc_value, given.exc_traceback)


def settings() -> tuple[str, str | None, Path | None]:
    """Return level, form and file as logging was set up by, for a process that is started here."""
    return _shown.settings


class Taker(Protocol):
    """Receives what is logged, such as a stream of events."""

    def take(self, logged: Mapping[str, Any]) -> None:
        """Take what was logged, with ``event``, ``level`` and its fields."""


def feed(taker: Taker | None) -> None:
    """Pass what is logged to one more receiver, from level info on, at every log level; None: to no one any more."""
    _shown.takers = (*_shown.takers, taker) if taker is not None else ()
    level = min(_shown.level, logging.INFO) if _shown.takers else _shown.level
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))


def is_configured() -> bool:
    """Tell whether the log of this process is ours to set up, as a command's is."""
    return _shown.is_configured


def is_fed() -> bool:
    """Tell whether any receiver gets what is logged."""
    return bool(_shown.takers)


class _Shown:
    """The processor that feeds those who take what is logged, and lets through what people are to see."""

    level = logging.INFO
    settings: tuple[str, str | None, Path | None] = ("info", None, None)
    is_configured = False
    takers: tuple[Taker, ...] = ()

    def __call__(self, _logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for taker in self.takers:
            taker.take(event)
        if getattr(logging, method.upper()) < self.level:
            raise structlog.DropEvent
        return event


_shown = _Shown()


class _Unbreakable:
    """A stream for logs: a reader that went away, or a full disk, does not stop a migration."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            (self._stream or sys.stderr).write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            (self._stream or sys.stderr).flush()


def _open(file: Path) -> TextIO:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "a", encoding="utf-8", buffering=1)


def _safe(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Scrub secrets, and make control characters visible instead of sending them to a terminal."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(scrub(value)) if name != "exception" else scrub(value)
    return event


def printable(text: str) -> str:
    """Return the text with control characters escaped, so that a document's name cannot drive a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
