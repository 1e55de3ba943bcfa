"""What servers spend while a contender works: CPU, on one machine taken from what the contender has; and WAL."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import psycopg2

_KINDS = {"postgres": "postgresql", "radosgw": "s3", "ceph-osd": "s3", "ceph-mon": "s3"}
_TICKS = os.sysconf("SC_CLK_TCK")


def server_seconds() -> dict[str, float]:
    """Return the CPU seconds of the servers that run here, those of processes that have ended included."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended just now
            name, _bracket, rest = status.read_text().partition("(")[2].rpartition(")")
            kind = _KINDS.get(name)
            if kind:
                own, reaped = [sum(map(int, rest.split()[at : at + 2])) / _TICKS for at in (11, 13)]
                seconds[kind] += own + (reaped if name == "postgres" else 0)
    return seconds


def wal_bytes(url: str) -> int:
    """Return how much write-ahead log the database server has written since it was made."""
    connection = psycopg2.connect(url)
    cursor = connection.cursor()
    cursor.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
    (position,) = cursor.fetchone() or (0,)
    connection.close()
    return int(position)
