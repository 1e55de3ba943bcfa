"""What a page carries in itself: style and script, and the digests by which its policy allows them."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources


def embedded(name: str) -> str:
    """Return a style, script or template of this package."""
    return (resources.files("reconcile.rendering") / name).read_text("utf-8")


def policy_source(text: str) -> str:
    """Return what a Content-Security-Policy names a style or script by: its digest."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
