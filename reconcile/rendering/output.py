"""Plans and reports in every form, and the files that they are written to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from reconcile.errors import ReconcileError, UsageError
from reconcile.planning.planfile import PlanFile
from reconcile.planning.render import plan_json, plan_text
from reconcile.rendering.helm import helm_values
from reconcile.rendering.html import to_html
from reconcile.rendering.markdown import to_markdown
from reconcile.rendering.plan_page import plan_page
from reconcile.rendering.report_page import report_page
from reconcile.rendering.text import to_text
from reconcile.running.record.report import Report

FORMS = ("text", "json", "markdown", "html")
PLAN_FORMS = (*FORMS, "helm-values")


def rendered_plan(plan: PlanFile, form: str, *, moves: bool = False) -> Iterator[str]:
    """Yield a plan in one of `PLAN_FORMS`, piece by piece. ``moves`` lists every one of them in text and JSON."""
    digest = plan.verify()
    if form == "json":
        return plan_json(plan, moves=moves)
    if form == "text":
        return plan_text(plan, moves=moves)
    if form == "helm-values":
        return helm_values(plan)
    page = plan_page(plan, digest)
    return to_html(page) if form == "html" else iter([to_markdown(page)])


def rendered_report(report: Report, form: str, width: int | None = None) -> Iterator[str]:
    """Yield the report of a run in one of `FORMS`, piece by piece; tables of text fit ``width`` columns."""
    if form == "json":
        return iter([msgspec.json.encode(report).decode(), "\n"])
    page = report_page(report)
    if form == "text":
        return (f"{line}\n" for line in to_text(page, width))
    return to_html(page) if form == "html" else iter([to_markdown(page)])


def write_new(path: Path, pieces: Iterable[str]) -> None:
    """Write a new file, mode 0600: it names documents. Raises `UsageError` if there is one already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(
            f"{path}: this file exists already", hint="name another with --out, or remove it first"
        ) from None
    except OSError as error:
        raise _unwritten(path, error) from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(pieces)
    except BaseException as error:
        with suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            raise _unwritten(path, error) from None
        raise


def _unwritten(path: Path, error: OSError) -> ReconcileError:
    return ReconcileError(f"{path}: cannot be written: {error.strerror}", hint="name another file with --out")
