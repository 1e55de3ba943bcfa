"""The plan's file: JSON with one move a line, streamed both ways, under a digest over all that precedes it.

A file appears whole or not at all: it is written beside its final name, synced, and renamed. It holds no
credential, yet names every document, so its mode is 0600.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shlex
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar, cast

import attrs
import msgspec
from attrs import define, field

from reconcile.errors import PlanFileError, PlanLineError, UsageError
from reconcile.limits import exceeded
from reconcile.logs import printable
from reconcile.planning.model import FORMAT_VERSION, Blocker, Move, PlanHeader

T = TypeVar("T")

_BLOCKERS, _MOVES, _END, _DIGEST = b'"blockers": [\n', b'"moves": [\n', b"],\n", b'"digest": '
_LONGEST_LINE = 4 << 20  # bytes: many times what the names of a row can have, and little memory
_encode = msgspec.json.Encoder(order=None).encode
_decode_move = msgspec.json.Decoder(Move).decode
_decode_blocker = msgspec.json.Decoder(Blocker).decode


@define
class PlanWriter:
    """Collects moves and blockers as they come, then writes the file under a header known only at the end."""

    path: Path
    _stack: ExitStack
    _moves: BinaryIO
    _blockers: BinaryIO
    _lines: dict[int, int] = field(factory=dict)

    def add_move(self, move: Move) -> None:
        """Append a move. Order is the order of the file."""
        self._append(self._moves, move)

    def add_blocker(self, blocker: Blocker) -> None:
        """Append a blocker."""
        self._append(self._blockers, blocker)

    def taken_moves(self) -> Iterator[Move]:
        """Take out the moves that were added so far, one by one; others, or the same, may be added meanwhile."""
        taken, self._moves = self._moves, cast("BinaryIO", self._stack.enter_context(_spool(self.path)))
        taken.seek(0)
        for line in taken:
            yield _decode_move(line.rstrip(b",\n"))

    def _append(self, spool: BinaryIO, item: Move | Blocker) -> None:
        separator = b",\n" if self._lines.get(id(spool)) else b""
        self._lines[id(spool)] = 1
        line = _encode(item)
        if len(line) + len(separator) > _LONGEST_LINE:
            name = f"{item.userId}/{item.bucket}/{item.archiveId}"[:80]
            raise PlanFileError(f"{self.path}: the names in the row of {printable(name)}... are too long for a plan")
        spool.write(separator + line)

    def save(self, header: PlanHeader) -> str:
        """Write the file; return its digest."""
        with _new_file(self.path) as file:
            digest = hashlib.sha256()

            def put(data: bytes) -> None:
                digest.update(data)
                file.write(data)

            put(b"{\n")
            for name, value in attrs.asdict(header, recurse=False).items():
                put(b'"%s": %s,\n' % (name.encode(), _encode(value)))
            for start, spool in ((_BLOCKERS, self._blockers), (_MOVES, self._moves)):
                put(start)
                spool.seek(0)
                while chunk := spool.read(1 << 20):
                    put(chunk)
                put((b"\n" if spool.tell() else b"") + _END)
            text = f"sha256:{digest.hexdigest()}"
            file.write(_DIGEST + _encode(text) + b"\n}\n")
        return text


@contextmanager
def new_plan(path: Path, *, replace: bool = False) -> Iterator[PlanWriter]:
    """Open a writer for a plan file. Raises `UsageError` if the file exists and may not be replaced."""
    if path.exists() and not replace:
        raise UsageError(f"{path}: this file exists already", hint="name another with --out, or remove it first")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            moves, blockers = (cast("BinaryIO", stack.enter_context(_spool(path))) for _ in range(2))
            yield PlanWriter(path, stack, moves, blockers)
    except OSError as error:
        raise PlanFileError(
            f"{path}: cannot be written: {error.strerror}", hint="name a file that you may write with --out"
        ) from None


def _spool(path: Path) -> IO[bytes]:
    """Return a file without a name beside the plan, mode 0600."""
    return tempfile.TemporaryFile(dir=path.parent)


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as raw:
            with _compressor(path, raw) as file:
                yield file
            raw.flush()
            os.fsync(raw.fileno())
        temporary.replace(path)
        descriptor = os.open(path.parent, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def _compressor(path: Path, raw: IO[bytes]) -> Iterator[IO[bytes]]:
    if path.suffix == ".gz":
        with gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as file:
            yield cast("IO[bytes]", file)
    elif path.suffix == ".zst":
        with _zstd().open(raw, "wb") as file:
            yield file
    else:
        yield raw


def _zstd() -> Any:  # noqa: ANN401 - one of two modules
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415
    else:
        from backports import zstd  # noqa: PLC0415
    return zstd


@define
class PlanFile:
    """A plan file that can be read: header at once, blockers and moves as streams.

    Once `verify` has returned its digest, all that is read comes from a file of that digest, or `PlanFileError` is
    raised: what was shown is what is done. ``_head`` is the digest of the header's lines.
    """

    path: Path
    header: PlanHeader
    _head: str
    digest: str | None = None

    def blockers(self) -> Iterator[Blocker]:
        """Yield the blockers."""
        return self._items(_BLOCKERS, _decode_blocker)

    def moves(self) -> Iterator[Move]:
        """Yield the moves in their order. Raises `PlanFileError` at a line that is not one."""
        return self._items(_MOVES, _decode_move)

    def _items(self, start: bytes, decode: Any) -> Iterator[Any]:  # noqa: ANN401
        with _opened(self.path) as file:
            reading = _Reading(self.path, file)
            for line in reading.lines():
                if line == start:
                    break
            for line in reading.lines():
                if line == _END:
                    break
                yield _decoded(self.path, reading.number, line, decode)
            if self.digest is not None:
                for _line in reading.lines():
                    pass
                self._check(reading)

    def verify(self) -> str:
        """Return the file's digest. Raises `PlanFileError` if the file is cut short, was edited or replaced."""
        with _opened(self.path) as file:
            reading = _Reading(self.path, file)
            for _line in reading.lines():
                pass
            rest = file.read(16)
        if not reading.last or rest != b"}\n":
            raise PlanFileError(f"{self.path}: the plan is incomplete: its last line is missing", hint=_ANEW)
        if reading.last != _DIGEST + _encode(reading.text) + b"\n":
            raise PlanFileError(
                f"{self.path}: the plan was changed after it was made: its digest does not match", hint=_ANEW
            )
        self._check(reading)
        self.digest = reading.text
        return reading.text

    def _check(self, reading: _Reading) -> None:
        if reading.head != self._head or self.digest not in (None, reading.text):
            raise PlanFileError(
                f"{self.path}: the file was replaced by another plan while this command was using it",
                hint="run the same command again: it shows the new plan",
            )


@define
class _Reading:
    """One pass over a plan's lines, up to its digest; ``number`` counts them, ``last`` is the line with the digest."""

    path: Path
    file: IO[bytes]
    number: int = 0
    head: str = ""
    last: bytes = b""
    _digest: Any = field(factory=hashlib.sha256)

    @property
    def text(self) -> str:
        """The digest of what was read so far, as plans have it."""
        return f"sha256:{self._digest.hexdigest()}"

    def lines(self) -> Iterator[bytes]:
        """Yield the lines that are left. Raises `PlanFileError` for one that no plan has: a line is held in memory."""
        while line := self.file.readline(_LONGEST_LINE + 1):
            self.number += 1
            if len(line) > _LONGEST_LINE:
                longest = f"line {self.number} is longer than {_LONGEST_LINE >> 20} MiB"
                raise PlanLineError(f"{self.path}: {longest}: this is not a plan", hint=_ANEW)
            if line.startswith(_DIGEST):
                self.last = line
                return
            if line == _BLOCKERS:
                self.head = self.text
            self._digest.update(line)
            yield line


_ANEW = "make a new plan with reconcile plan; change its configs or options, since a plan itself cannot be edited"


def _no_plan(path: Path) -> PlanFileError:
    if path.suffix in (".yaml", ".yml"):
        hint = f"reconcile plan SOURCE {shlex.quote(str(path))}    makes a plan with this config as the destination"
        return PlanFileError(f"{path}: not a plan; by its name it is a config", hint=hint)
    return PlanFileError(f"{path}: not a plan: it is not JSON written by reconcile plan", hint=_ANEW)


def open_plan(path: Path, digest: str | None = None) -> PlanFile:
    """Read a plan's header; ``digest`` is that of the file which was just written there.

    Raises `PlanFileError` for what is not a plan of a format we know.
    """
    header, size = list[bytes](), 0
    with _opened(path) as file:
        reading = _Reading(path, file)
        for line in reading.lines():
            if reading.number == 1 and line != b"{\n":
                raise _no_plan(path)
            if line == _BLOCKERS or size > _LONGEST_LINE:
                break
            header.append(line)
            size += len(line)
    if not header:
        raise _no_plan(path)
    if not reading.head:
        raise PlanFileError(f"{path}: the plan is incomplete: its blockers and moves are missing", hint=_ANEW)
    text = b"{" + b"".join(header[1:]).rstrip(b",\n") + b"}"
    fields = _decoded(path, 1, text, msgspec.json.decode)
    _check_version(path, fields)
    return PlanFile(path, _decoded(path, 1, text, msgspec.json.Decoder(PlanHeader).decode), reading.head, digest)


def open_whole_plan(path: Path) -> PlanFile:
    """Read a plan's header and verify the file: what is read of it later is of the same digest."""
    plan = open_plan(path)
    plan.verify()
    return plan


def _check_version(path: Path, fields: dict[str, Any]) -> None:
    version = fields.get("format_version")
    if not isinstance(version, str):
        raise PlanFileError(f"{path}: not a plan: it has no format_version", hint=_ANEW)
    if version.partition(".")[0] != FORMAT_VERSION.partition(".")[0]:
        raise PlanFileError(
            f"{path}: the plan has format {version}, but this version of reconcile reads format {FORMAT_VERSION}",
            hint="use the version of reconcile that made it, or make a new plan",
        )


def _decoded(path: Path, number: int, line: bytes, decode: Any) -> Any:  # noqa: ANN401
    try:
        return decode(line.rstrip(b",\n"))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PlanFileError(f"{path}: line {number} does not have the format of a plan: {error}", hint=_ANEW) from None


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as raw:
            if path.suffix == ".gz":
                yield cast("IO[bytes]", gzip.GzipFile(fileobj=raw, mode="rb"))
            elif path.suffix == ".zst":
                with _zstd().open(raw, "rb") as file:
                    yield file
            else:
                yield raw
    except FileNotFoundError:
        raise PlanFileError(
            f"{path}: no such plan file",
            hint="reconcile plan SOURCE DEST    makes one, in plans/ or in the file of --out",
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise exceeded(error) or PlanFileError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}",
            hint="name the file of a plan, such as one in plans/\nreconcile plan SOURCE DEST    makes one",
        ) from None


def undo_path(path: Path) -> Path:
    """Return where the undo plan of a plan file goes: ``p.json.gz`` gives ``p.undo.json.gz``."""
    compression = path.suffix if path.suffix in (".gz", ".zst") else ""
    name = path.name.removesuffix(compression).removesuffix(".json")
    return path.with_name(f"{name}.undo.json{compression}")
