"""The plan's file: JSON with one move a line, streamed both ways, under a digest over all that precedes it.

A file appears whole or not at all: it is written beside its final name, synced, and renamed. It holds no
credential, yet names every document, so its mode is 0600.
"""

from __future__ import annotations

import gzip
import hashlib
import os
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

from reconcile.errors import PlanFileError, UsageError
from reconcile.planning.model import FORMAT_VERSION, Blocker, Move, PlanHeader

T = TypeVar("T")

_BLOCKERS, _MOVES, _END, _DIGEST = b'"blockers": [\n', b'"moves": [\n', b"],\n", b'"digest": '
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
        spool.write(separator + _encode(item))

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
        raise PlanFileError(f"{path}: cannot be written: {error.strerror}") from None


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
    """A plan file that can be read: header at once, blockers and moves as streams."""

    path: Path
    header: PlanHeader

    def blockers(self) -> Iterator[Blocker]:
        """Yield the blockers."""
        return self._items(_BLOCKERS, _decode_blocker)

    def moves(self) -> Iterator[Move]:
        """Yield the moves in their order. Raises `PlanFileError` at a line that is not one."""
        return self._items(_MOVES, _decode_move)

    def _items(self, start: bytes, decode: Any) -> Iterator[Any]:  # noqa: ANN401
        with _opened(self.path) as file:
            lines = enumerate(file, 1)
            for _number, line in lines:
                if line == start:
                    break
            for number, line in lines:
                if line == _END:
                    return
                yield _decoded(self.path, number, line, decode)

    def verify(self) -> str:
        """Return the file's digest. Raises `PlanFileError` if the file is cut short or was edited."""
        digest, last = hashlib.sha256(), b""
        with _opened(self.path) as file:
            for line in file:
                if line.startswith(_DIGEST):
                    last = line
                    break
                digest.update(line)
            rest = file.read(16)
        if not last or rest != b"}\n":
            raise PlanFileError(f"{self.path}: the plan is cut short: its last line is missing", hint=_ANEW)
        expected = f"sha256:{digest.hexdigest()}"
        if last != _DIGEST + _encode(expected) + b"\n":
            raise PlanFileError(
                f"{self.path}: the plan was changed after it was made: its digest does not fit", hint=_ANEW
            )
        return expected


_ANEW = "make a new one with reconcile plan; a plan cannot be edited, only its inputs can"


def open_plan(path: Path) -> PlanFile:
    """Read a plan's header. Raises `PlanFileError` for what is not a plan of a format we know."""
    header_lines = [b"{"]
    with _opened(path) as file:
        first = file.readline()
        if first != b"{\n":
            raise PlanFileError(f"{path}: not a plan: it is not JSON as reconcile plan writes it", hint=_ANEW)
        for line in file:
            if line == _BLOCKERS:
                break
            header_lines.append(line)
        else:
            raise PlanFileError(f"{path}: not a whole plan: its blockers and moves are missing", hint=_ANEW)
    text = b"".join(header_lines).rstrip(b",\n") + b"}"
    fields = _decoded(path, 1, text, msgspec.json.decode)
    _check_version(path, fields)
    return PlanFile(path, _decoded(path, 1, text, msgspec.json.Decoder(PlanHeader).decode))


def _check_version(path: Path, fields: dict[str, Any]) -> None:
    version = fields.get("format_version")
    if not isinstance(version, str):
        raise PlanFileError(f"{path}: not a plan: it has no format_version", hint=_ANEW)
    if version.partition(".")[0] != FORMAT_VERSION.partition(".")[0]:
        raise PlanFileError(
            f"{path}: the plan has format {version}, this reconcile reads format {FORMAT_VERSION}",
            hint="use the reconcile that made it, or make a new plan",
        )


def _decoded(path: Path, number: int, line: bytes, decode: Any) -> Any:  # noqa: ANN401
    try:
        return decode(line.rstrip(b",\n"))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PlanFileError(f"{path}: line {number} is not what a plan holds there: {error}", hint=_ANEW) from None


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
            f"{path}: no such plan file", hint="reconcile plan SOURCE DEST makes one, in plans/ unless --out says where"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise PlanFileError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def undo_path(path: Path) -> Path:
    """Return where the undo plan of a plan file goes: ``p.json.gz`` gives ``p.undo.json.gz``."""
    compression = path.suffix if path.suffix in (".gz", ".zst") else ""
    name = path.name.removesuffix(compression).removesuffix(".json")
    return path.with_name(f"{name}.undo.json{compression}")
