"""The bar of a phase, as it fits on a terminal of any width."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
)
from rich.table import Column, Table
from rich.text import Text


def _text(template: str, *, right: bool = False) -> TextColumn:
    column = Column(no_wrap=True, overflow="ellipsis", justify="right" if right else "left")
    return TextColumn(template, markup=False, table_column=column)


class _Count(ProgressColumn):
    """How many of how many."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{int(task.completed):,}/{int(task.total):,}")


class _Of(ProgressColumn):
    """What is counted."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else "documents")


class _Left(ProgressColumn):
    """How long it still takes, or for how long nothing has been done."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["left"](), style="progress.remaining", no_wrap=True, overflow="ellipsis")


_NAME, _OF = _text("{task.description}", right=True), _Of()
_COUNT, _PERCENT, _RATE, _LEFT = _Count(), TaskProgressColumn(), _text("{task.fields[rate]}"), _Left()
_LAYOUTS: tuple[tuple[int, tuple[ProgressColumn, ...]], ...] = (  # what there is room for, by the terminal's columns
    (100, (_NAME, BarColumn(20), _COUNT, _OF, _RATE, _LEFT)),
    (70, (_NAME, BarColumn(15), _COUNT, _OF, _LEFT)),
    (40, (_NAME, _COUNT, _PERCENT)),
    (0, (_NAME, _PERCENT)),
)


class Bar(Progress):
    """One bar, which shows what the terminal has room for at each refresh: it may be resized.

    ``left`` says how long the phase will still take.
    """

    def __init__(self, console: Console, left: Callable[[], str]) -> None:
        self._screen, self._left = console, left
        super().__init__(console=console)

    def begin(self, name: str, documents: int | None, done: int) -> None:
        """Show the bar of a phase; without ``documents`` it is one without counts."""
        self.add_task(name, total=documents, completed=done, rate="", left=self._left)

    def move(self, documents: int, rate: str) -> None:
        """Move the bar on by so many documents."""
        self.update(self.task_ids[-1], advance=documents, rate=rate)

    def end(self) -> None:
        """Show the bar as it is at last, and take it away."""
        self.refresh()
        self.remove_task(self.task_ids[-1])

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        self.columns = next(columns for width, columns in _LAYOUTS if self._screen.width >= width)
        return super().make_tasks_table(tasks)
