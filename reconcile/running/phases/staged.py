"""What is recorded of a document that was staged, and whether its source must stay."""

from __future__ import annotations

from typing import Any

from reconcile.payload import md5, recode
from reconcile.running.phases.copy import Copy, CopyOutcome
from reconcile.running.record.states import MoveState, Origin
from reconcile.running.record.work_moves import Original, encode_original
from reconcile.stores import Content, Stat, Transferred


def staged_row(outcome: CopyOutcome, *, is_undo: bool, taken: bool) -> dict[str, Any]:
    """Return the columns of a staged move; ``taken``: its copy was taken over from another run."""
    copy, content, stat = outcome.copy, outcome.copy.content, outcome.stat
    assert content is not None  # noqa: S101 - staged means read
    assert stat is not None  # noqa: S101
    row = {
        "seq": copy.work.seq,
        "state": MoveState.STAGED,
        "reason": None,
        "detail": None,
        "origin": Origin.WRITTEN if taken else outcome.origin,
        "keep": copy.work.keep or _must_keep(copy, content, stat, is_undo=is_undo),
        "source_version": content.version,
        "copy_version": stat.version,
        "copy_mark": stat.mark,
        "read_back": encode_original(Original(content.md5, dict(content.attributes))),
    }
    if copy.work.move.after.pinned is None:
        row |= {"after_is_compressed": copy.compressed, "after_digest": stat.md5, "after_size": stat.size}
    return row


def _must_keep(copy: Copy, content: Content | Transferred, stat: Stat, *, is_undo: bool) -> bool:
    """Tell whether no copy can restore the source byte for byte (R5)."""
    move = copy.work.move
    if is_undo:
        return False
    if move.before.content_url == move.after.content_url:
        return True
    if not content.reproducible or (copy.write is not None and stat.md5 != copy.write.md5):
        return True
    was_compressed = bool(move.before.is_compressed)
    if copy.write is None or was_compressed == copy.compressed:
        return False
    back = recode(copy.write.data, is_compressed=copy.compressed, compressed=was_compressed)
    return md5(back) != content.md5
