"""Move the documents of an Anchore archive between storage drivers, declaratively.

The verbs are here as functions; importing the package alone is quick, they load what they need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconcile._version import __version__

if TYPE_CHECKING:
    from reconcile.verbs import apply, check, plan, prepare, undo, verify

__all__ = ["__version__", "apply", "check", "plan", "prepare", "undo", "verify"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from reconcile import verbs  # noqa: PLC0415

        return getattr(verbs, name)
    raise AttributeError(name)
