"""What is recorded of a document that was staged, and whether its source must stay."""

from __future__ import annotations

from typing import Any

from reconcile.payload import md5, recode
from reconcile.running.phases.copy_outcome import CopyOutcome, Encoded, Known
from reconcile.running.record.states import MoveState, Origin
from reconcile.running.record.work_moves import Original, encode_original
from reconcile.stores import Stat


def staged_row(outcome: CopyOutcome, *, is_undo: bool, taken: bool) -> dict[str, Any]:
    """Return the columns of a staged move; ``taken``: its copy was taken over from another run."""
    copy, stat = outcome.copy, outcome.stat
    assert isinstance(copy, Encoded | Known)  # noqa: S101 - staged means that what is copied is known
    assert stat is not None  # noqa: S101
    content = copy.content
    row = {
        "seq": copy.work.seq,
        "state": MoveState.STAGED,
        "reason": None,
        "detail": None,
        "origin": Origin.WRITTEN if taken else outcome.origin,
        "keep": copy.work.keep or _must_keep(copy, stat, is_undo=is_undo),
        "source_version": content.version,
        "copy_version": stat.version,
        "copy_mark": stat.mark,
        "read_back": encode_original(Original(content.md5, dict(content.attributes))),
    }
    if copy.work.move.after.pinned is None:
        row |= {"after_is_compressed": copy.compressed, "after_digest": stat.md5, "after_size": stat.size}
    return row


def _must_keep(copy: Encoded | Known, stat: Stat, *, is_undo: bool) -> bool:
    """Tell whether no copy can restore the source byte for byte (R5)."""
    move = copy.work.move
    if is_undo:
        return False
    if move.before.content_url == move.after.content_url:
        return True
    if not copy.content.reproducible:
        return True
    if isinstance(copy, Known):
        return False
    if stat.md5 != copy.write.md5:
        return True
    was_compressed = bool(move.before.is_compressed)
    if was_compressed == copy.compressed:
        return False
    back = recode(copy.write.data, is_compressed=copy.compressed, compressed=was_compressed)
    return md5(back) != copy.content.md5
