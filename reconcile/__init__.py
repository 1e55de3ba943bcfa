"""Move the documents of an Anchore archive between storage drivers, declaratively.

The verbs are here as functions; importing the package alone is quick, they load what they need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconcile._version import __version__

if TYPE_CHECKING:
    from reconcile.library import apply, check, clean, diff, forget, plan, prepare, report, show, status, undo, verify

__all__ = [
    "__version__",
    "apply",
    "check",
    "clean",
    "diff",
    "forget",
    "plan",
    "prepare",
    "report",
    "show",
    "status",
    "undo",
    "verify",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        from reconcile import library  # noqa: PLC0415

        return getattr(library, name)
    raise AttributeError(name)
