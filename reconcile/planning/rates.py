"""What `reconcile check` measured, and how long a run takes at those rates. Without rates no duration is given."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from pathlib import Path

import msgspec
from attrs import define, frozen

from reconcile.errors import UsageError
from reconcile.planning.model import Duration


@frozen
class Rates:
    """What one store was seen to do: documents and bytes a second. ``file`` is where that is written."""

    store: str
    file: str
    write_documents_per_second: float
    read_documents_per_second: float
    write_bytes_per_second: float
    read_bytes_per_second: float
    delete_documents_per_second: float


@define
class Work:
    """What a run has to do at one backend: documents and bytes."""

    reads: int = 0
    bytes_read: int = 0
    writes: int = 0
    bytes_written: int = 0
    deletes: int = 0


class _Measured(msgspec.Struct):
    write_documents_per_second: float
    read_documents_per_second: float
    write_bytes_per_second: float
    read_bytes_per_second: float
    delete_documents_per_second: float


class _Checked(msgspec.Struct):
    store: str
    rates: _Measured | None = None


class _Check(msgspec.Struct):
    format_version: str
    backends: list[_Checked]


def read_rates(paths: tuple[Path, ...]) -> tuple[Rates, ...] | None:
    """Read what ``reconcile check CONFIG --format json`` printed; None without files.

    Raises `UsageError` for a file that is none of it.
    """
    found = []
    for path in paths:
        try:
            check = msgspec.json.decode(path.read_bytes(), type=_Check)
        except OSError as error:
            raise UsageError(f"--rates {path}: cannot be read: {error.strerror}") from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _not_rates(path, str(error)) from None
        if check.format_version.partition(".")[0] != "1":
            raise _not_rates(
                path, f"it has format {check.format_version}, but this version of reconcile reads format 1"
            )
        for backend in check.backends:
            if backend.rates is not None:
                values = msgspec.structs.asdict(backend.rates)
                if min(values.values()) <= 0:
                    raise _not_rates(path, f"a rate of {backend.store} is not above zero")
                found.append(Rates(backend.store, str(path), **values))
    return tuple(found) if paths else None


def _not_rates(path: Path, why: str) -> UsageError:
    return UsageError(
        f"--rates {path}: not the JSON output of reconcile check: {why}",
        hint=f"reconcile check CONFIG --format json > {path}    measures a config's backends",
    )


def duration(work: Mapping[str, tuple[str, Work]], rates: tuple[Rates, ...]) -> Duration | None:
    """Return about how long it takes; None where a store's rates are not known.

    ``work`` is by backend, with its store. Reading and writing go on at the same time: the store that has longest to
    do decides. At one store they add up, and so do what each document takes and what its bytes take, which
    overestimates.
    """
    known = {rate.store: rate for rate in rates}
    if not work or any(store not in known for store, _work in work.values()):
        return None
    staging: dict[str, float] = {}
    cleaning: dict[str, float] = {}
    rests_on = []
    for name, (store, done) in sorted(work.items()):
        rate = known[store]
        staging[store] = staging.get(store, 0) + (
            done.reads / rate.read_documents_per_second
            + done.bytes_read / rate.read_bytes_per_second
            + done.writes / rate.write_documents_per_second
            + done.bytes_written / rate.write_bytes_per_second
        )
        cleaning[store] = cleaning.get(store, 0) + done.deletes / rate.delete_documents_per_second
        rests_on.append(f"{name} ({store}): {_said(done, rate)}, by {rate.file}")
    return Duration(ceil(max(staging.values())), ceil(max(cleaning.values())), rests_on)


def _said(done: Work, rate: Rates) -> str:
    mebi = 1024**2
    said = []
    if done.reads:
        said.append(
            f"reads {rate.read_documents_per_second:.0f} documents/s, {rate.read_bytes_per_second / mebi:.1f} MiB/s"
        )
    if done.writes:
        said.append(
            f"writes {rate.write_documents_per_second:.0f} documents/s, {rate.write_bytes_per_second / mebi:.1f} MiB/s"
        )
    if done.deletes:
        said.append(f"deletes {rate.delete_documents_per_second:.0f} documents/s")
    return ", ".join(said)
