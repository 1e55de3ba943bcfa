"""The table that benchmarks print, and the JSON beside it."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS

RESULTS = Path(__file__).parent / "results"


PATH = RESULTS / "routes.json"


def save(row: dict[str, Any], about: dict[str, Any]) -> None:
    """Save a route's medians beside those of other routes, in place of its own earlier ones."""
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()}
    RESULTS.mkdir(exist_ok=True)
    found = json.loads(PATH.read_text()) if PATH.exists() else {}
    found[row["route"]] = {"about": machine | about, "table": _row(row), "medians": row}
    PATH.write_text(json.dumps(found, indent=1) + "\n")


def show(routes: list[str]) -> None:
    """Print the table of these routes."""
    found = json.loads(PATH.read_text())
    _print([found[route]["table"] for route in routes])
    print(f"saved in {PATH}", file=sys.stderr)  # noqa: T201


def _row(row: dict[str, Any]) -> dict[str, Any]:
    ours = row["ours"]
    line: dict[str, Any] = {"route": row["route"], "documents/s": round(_rate(ours))}
    if "serial" in row:
        line["times serial"] = round(_rate(ours) / _rate(row["serial"]), 1)
    if "two" in row:
        line["two processes"] = round(_rate(row["two"]) / _rate(ours), 2)
    if "bare" in row:
        line["of bare's time"] = round(_rate(row["bare"]) / _rate(ours), 2)
    if "least" in row:
        line["of the least move's time"] = round(_rate(row["least"]) / _rate(ours), 2)
    best = max((_rate(row[name]) for name in PEERS if name in row), default=None)
    if best is not None:
        line["times best peer"] = round(_rate(ours) / best, 2)
    documents = ours["documents"]
    return line | {
        "CPU ms/document": round(ours["cpu_seconds"] * 1000 / documents, 2),
        "PostgreSQL": round(ours["postgresql_seconds"] * 1000 / documents, 2),
        "S3": round(ours["s3_seconds"] * 1000 / documents, 2),
        "requests/document": round(ours["requests"] / documents, 2),
        "statements/document": round(ours["statements"] / documents, 3),
        "WAL KiB/document": round(ours["wal_bytes"] / 1024 / documents, 1),
        "peak MiB": round(ours["peak_mib"]),
    }


def _rate(figures: dict[str, float]) -> float:
    return figures["documents"] / figures["seconds"]


def _print(table: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for line in table for name in line))
    lines = [names, *([str(line.get(name, "")) for name in names] for line in table)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())  # noqa: T201
