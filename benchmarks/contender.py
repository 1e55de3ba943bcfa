"""One contender's turn, in a process of its own: does the work, prints what it took as one line of JSON.

python -m benchmarks.contender ours|two|blind|serial|bare|least|rclone|s5cmd|aws < spec.json

``two`` is this tool with two worker processes, whose CPU is not counted.
``blind`` is this tool without a look at the copies and at owner marks before sources are deleted: what that look costs.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import yaml

from benchmarks import bare, peers, serial
from benchmarks.spec import End, Spec


def main(who: str, spec: Spec) -> None:
    """Work, and print the figures."""
    counts: Counter[str] = Counter()
    started, cpu = time.monotonic(), time.process_time()
    seconds: float | None = None
    used: float | None = None
    if who in peers.PEERS:
        seconds, used = peers.run(who, spec)
    elif who == "bare":
        seconds, used = bare.run(spec)
    elif who == "least":
        seconds, used = bare.move(spec)
    elif who == "serial":
        serial.run(spec)
    else:
        if who == "blind":
            _look_at_nothing()
        seconds, cpu = _ours(spec, counts, processes=2 if who == "two" else 0)
    figures = {
        "documents": spec.documents,
        "seconds": time.monotonic() - started if seconds is None else seconds,
        "cpu_seconds": time.process_time() - cpu if used is None else used,
        "peak_mib": peak_mib(),
        "statements": counts["statements"],
        "requests": counts["requests"],
    }
    if who in peers.PEERS:
        del figures["peak_mib"]  # not the program's
    print(json.dumps(figures))  # noqa: T201


def peak_mib() -> float:
    """Return this process's own high-water mark; that of ``getrusage`` begins with its parent's size."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))


def _ours(spec: Spec, counts: Counter[str], processes: int) -> tuple[float, float]:
    """Plan, then apply; return the seconds that apply took, and the CPU that was used before it."""
    from reconcile import verbs  # noqa: PLC0415
    from reconcile.catalog import DatabaseOptions  # noqa: PLC0415
    from reconcile.engines import Setup  # noqa: PLC0415
    from reconcile.engines.processes import Processes  # noqa: PLC0415
    from reconcile.logs import configure  # noqa: PLC0415
    from reconcile.running.phases.options import RunOptions  # noqa: PLC0415

    configure("error")
    folder = Path(spec.folder)
    source, dest = (_config(folder / f"{name}.yaml", spec.url, end) for name, end in _ends(spec))
    plan = verbs.plan(source, dest, out=folder / "plan.json")
    if plan.header.summary.moves.documents != spec.documents:
        raise ValueError(plan.header.summary)
    _count(counts)
    prepared = verbs.prepare(plan.path)
    setup = Setup("reconcile.workers.worker:Worker", DatabaseOptions(), source, dest)
    engine = Processes(processes, setup) if processes else None
    started, cpu = time.monotonic(), time.process_time()
    outcome = verbs.apply(prepared, options=RunOptions(workers=spec.workers or None, engine=engine))
    if outcome.documents != spec.documents or outcome.kept:
        raise ValueError(outcome)
    seconds = time.monotonic() - started
    if engine is not None:
        engine.close()
    return seconds, cpu


def _look_at_nothing() -> None:
    """Leave out what clean asks of the other side."""
    from reconcile.running.phases import clean_part  # noqa: PLC0415
    from reconcile.running.phases.counterparts import Looked  # noqa: PLC0415
    from reconcile.running.phases.owner_mark import Owner  # noqa: PLC0415

    nothing = frozenset[int]()
    clean_part.look_at_copies = lambda *_, **__: Looked(nothing, nothing, nothing)  # type: ignore[attr-defined]
    Owner.check = lambda *_, **__: None  # type: ignore[method-assign]


def _ends(spec: Spec) -> list[tuple[str, End]]:
    return [("source", spec.source), ("dest", spec.dest)]


def _config(path: Path, url: str, end: End) -> Path:
    content = {
        "credentials": {"database": {"db_connect": url}},
        "services": {"catalog": {"object_store": end.section()}},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def _count(counts: Counter[str]) -> None:
    """Count statements and requests from here on, by wrapping what sends them."""
    import boto3  # noqa: PLC0415
    import obstore  # noqa: PLC0415
    import sqlalchemy as sa  # noqa: PLC0415

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def _statement(*_arguments: object) -> None:
        counts["statements"] += 1

    def counted(verb: Any) -> Any:  # noqa: ANN401
        def wrapper(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            counts["requests"] += 1
            return verb(*arguments, **named)

        return wrapper

    for name in ("put", "get", "head", "delete"):
        setattr(obstore, name, counted(getattr(obstore, name)))
    make = boto3.session.Session.client

    def client(self: Any, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        made = make(self, *arguments, **named)
        made.meta.events.register("before-send.s3", lambda **_named: counts.update(requests=1))
        return made

    boto3.session.Session.client = client


if __name__ == "__main__":
    main(sys.argv[1], msgspec.json.decode(sys.stdin.read(), type=Spec))
