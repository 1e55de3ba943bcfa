"""Who runs this, and where."""

from __future__ import annotations

import os
import pwd
import socket


def user_at_host() -> str:
    """Return the user of the operating system and the host: not what the environment says."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    return f"{user}@{socket.gethostname()}"
