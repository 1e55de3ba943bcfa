"""What identifies a physical place: directories, S3 endpoints, Swift accounts. Without credentials."""

from __future__ import annotations

import hashlib
import os
from typing import Any
from urllib.parse import urlsplit

from reconcile.secret import Secret


def directory_identity(path: str) -> str:
    """Return what identifies a directory: device and inode, or its real path while it is missing."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return f"directory:{os.path.realpath(path)}"
    except ValueError:  # a name that no file system has
        return f"directory:{path}"
    return f"directory:{status.st_dev}:{status.st_ino}"


def endpoint_identity(url: str | None) -> str:
    """Return an S3 endpoint's name: scheme, host and port, without userinfo, path or a default port."""
    if not url:
        return "aws"
    parts = urlsplit(url if "://" in url else f"https://{url}")
    try:
        port = parts.port
    except ValueError:
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    port = port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{(parts.hostname or '').rstrip('.')}:{port}"


def swift_identity(settings: dict[str, Any]) -> str:
    """Return what identifies this place: endpoint, account as far as the options show it, container.

    What the account follows from may be a credential: only a digest of it is kept.
    """
    values = {key: value.reveal() if isinstance(value, Secret) else value for key, value in settings.items()}
    endpoint = next((str(values[name]) for name in ("os_storage_url", "auth", "os_auth_url") if values.get(name)), None)
    names = ("os_project_name", "os_project_id", "os_tenant_name", "os_tenant_id", "user", "os_username")
    account = next((str(values[name]) for name in names if values.get(name)), "")
    account = hashlib.sha256(account.partition(":")[0].encode()).hexdigest()[:8]
    return f"swift:{endpoint_identity(endpoint)}/{account}/{values['container']}"
