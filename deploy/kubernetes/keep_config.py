"""Keep the services' config of now in the work directory, once: after the switch its ConfigMap says something else.

keep_config.py FROM TO
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

CONFIG = 78  # the exit code of reconcile for a config


def main(source: Path, kept: Path) -> int:
    """Copy the file, with mode 0600; refuse to replace a copy that says something else."""
    text = source.read_bytes()
    if not kept.exists():
        new = kept.with_name(f"{kept.name}.new")  # a pod may be ended on the way
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(kept)
    elif kept.read_bytes() != text:
        print(
            f"error: {kept} was kept for an earlier migration, and {source} says something else by now\n"
            f"  next: move {kept} away in the work directory, if that migration is not to be undone any more",
            file=sys.stderr,
        )
        return CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
