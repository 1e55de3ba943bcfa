"""A terminal of a recording: what is on its screen, and an SVG that plays it.

The programs that rendered recordings are no longer maintained, and pyte, which knows every terminal there is, has had
no release since 2023. `Screen` knows what reconcile's output has, and raises on anything else.
"""

from __future__ import annotations

import re
from html import escape
from itertools import groupby

from attrs import Factory, define, evolve, frozen

_TOKEN = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([\r\n\b])|([^\x1b\r\n\b]+)")

_BASIC = ["#1b1f26", "#ff6b68", "#5fd068", "#e5c453", "#6ca8ff", "#d58cff", "#4fd0d8", "#d6dae1"]
_BRIGHT = ["#7b8494", "#ff8a87", "#86e28d", "#f2d980", "#93c0ff", "#e3b0ff", "#7fe3e9", "#ffffff"]
_INK, _PAPER, _EDGE = "#d6dae1", "#15181e", "#3a414d"
_CELL, _LINE, _MARGIN = 8.4, 19, 14  # in pixels, at a font size of 14


@frozen
class Style:
    """How a character looks; ``fill`` is its colour."""

    fill: str = _INK
    bold: bool = False
    dim: bool = False


@frozen
class Cell:
    """One place on the screen."""

    char: str = " "
    style: Style = Style()


Row = tuple[Cell, ...]


@frozen
class Frame:
    """What a screen shows for some seconds. The poster is what shows where nothing may move."""

    seconds: float
    rows: tuple[Row, ...]
    is_poster: bool = False


@define
class Screen:
    """What a terminal of this size shows of what was written to it."""

    columns: int
    rows: int
    lines: list[list[Cell]] = Factory(lambda self: [self.blank() for _row in range(self.rows)], takes_self=True)
    row: int = 0
    column: int = 0
    style: Style = Style()

    def blank(self) -> list[Cell]:
        """Return an empty line."""
        return [Cell()] * self.columns

    def write(self, text: str) -> None:
        """Show a text. Raises `ValueError` for a control sequence that is not known here."""
        at = 0
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise ValueError(f"not known: {text[at : at + 20]!r}")
            at = token.end()
            parameters, command, control, plain = token.groups()
            if command:
                self._command(command, parameters)
            elif control == "\r":
                self.column = 0
            elif control == "\b":
                self.column = max(0, self.column - 1)
            elif control:
                self._next_line()
            for char in plain or "":
                if self.column == self.columns:
                    self.column = 0
                    self._next_line()
                self.lines[self.row][self.column] = Cell(char, self.style)
                self.column += 1

    def shown(self) -> tuple[Row, ...]:
        """Return the lines as they are now."""
        return tuple(tuple(line) for line in self.lines)

    def _next_line(self) -> None:
        self.row += 1
        if self.row == self.rows:
            self.lines = [*self.lines[1:], self.blank()]
            self.row -= 1

    def _command(self, command: str, parameters: str) -> None:
        match command, parameters:
            case "m", _:
                self._restyle([int(number or 0) for number in parameters.split(";")])
            case "K", "" | "0":
                self.lines[self.row][self.column :] = self.blank()[self.column :]
            case "K", "2":
                self.lines[self.row] = self.blank()
            case "A", _:
                self.row = max(0, self.row - int(parameters or 1))
            case "H", "":
                self.row = self.column = 0
            case "J", "2":
                self.lines = [self.blank() for _row in range(self.rows)]
            case "h" | "l", "?25":
                pass  # whether the cursor shows
            case _:
                raise ValueError(f"not known: CSI {parameters} {command}")

    def _restyle(self, numbers: list[int]) -> None:
        match numbers:
            case []:
                return
            case [0, *rest]:
                self.style = Style()
            case [1, *rest]:
                self.style = evolve(self.style, bold=True)
            case [2, *rest]:
                self.style = evolve(self.style, dim=True)
            case [39, *rest]:
                self.style = evolve(self.style, fill=_INK)
            case [38, 5, number, *rest]:
                self.style = evolve(self.style, fill=_colour(number))
            case [number, *rest] if 30 <= number <= 37:  # noqa: PLR2004 - as terminals count colours
                self.style = evolve(self.style, fill=_BASIC[number - 30])
            case [number, *rest] if 90 <= number <= 97:  # noqa: PLR2004
                self.style = evolve(self.style, fill=_BRIGHT[number - 90])
            case _:
                raise ValueError(f"not known: SGR {numbers}")
        self._restyle(rest)


def _colour(number: int) -> str:
    """Return one of the 256 colours: 16 that have names, a cube of 6 by 6 by 6, and 24 greys."""
    named, cube = [*_BASIC, *_BRIGHT], 16 + 6**3
    if number < len(named):
        return named[number]
    if number >= cube:
        return f"#{8 + 10 * (number - cube):02x}" + f"{8 + 10 * (number - cube):02x}" * 2
    levels = (0, 95, 135, 175, 215, 255)
    return "#" + "".join(f"{levels[(number - 16) // 6**place % 6]:02x}" for place in (2, 1, 0))


def to_svg(frames: list[Frame], title: str) -> str:
    """Return an SVG that plays frames, again and again: a strip of them that moves behind a window."""
    rows = len(frames[0].rows)
    width, height = round(len(frames[0].rows[0]) * _CELL) + 2 * _MARGIN, rows * _LINE + 2 * _MARGIN
    total = sum(frame.seconds for frame in frames)
    poster = next((number for number, frame in enumerate(frames) if frame.is_poster), 0)
    lines: dict[Row, str] = {}  # each is drawn once
    strip, moves, now = [], [], 0.0
    for number, frame in enumerate(frames):
        moves.append(f"{100 * now / total:.3f}%{{transform:translateX({-number * width}px)}}")
        now += frame.seconds
        uses = (
            f'<use href="#{lines.setdefault(row, f"l{len(lines)}")}" y="{_MARGIN + _LINE * place}"/>'
            for place, row in enumerate(frame.rows)
            if any(cell.char != " " for cell in row)
        )
        strip.append(f'<g transform="translate({number * width + _MARGIN})">{"".join(uses)}</g>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img" aria-labelledby="title"><title id="title">{escape(title)}</title><style>\n'
        f"text{{font:14px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}}\n"
        f".strip{{transform:translateX({-poster * width}px)}}\n"
        f"@media (prefers-reduced-motion:no-preference)"
        f"{{.strip{{animation:play {total:.1f}s step-end infinite}}}}\n"
        f"@keyframes play{{{''.join(moves)}}}\n</style>"
        f'<defs><clipPath id="window"><rect width="{width}" height="{height}" rx="8"/></clipPath>\n'
        + "\n".join(f'<g id="{name}">{_line(line)}</g>' for line, name in lines.items())
        + f'</defs>\n<g clip-path="url(#window)"><rect width="{width}" height="{height}" fill="{_PAPER}"/>'
        + '\n<g class="strip">'
        + "\n".join(strip)
        + f'</g></g><rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" fill="none"'
        f' stroke="{_EDGE}"/></svg>\n'
    )


def _line(line: Row) -> str:
    """Return what is on a line: each stretch of one style at its column, as wide as it is in any font."""
    texts, column = [], 0
    for style, group in groupby(line, lambda cell: cell.style):
        text = "".join(cell.char for cell in group)
        words = text.strip()
        if words:
            at = (column + len(text) - len(text.lstrip())) * _CELL
            looks = f' fill="{style.fill}"' + ' font-weight="700"' * style.bold + ' opacity=".7"' * style.dim
            texts.append(
                f'<text x="{at:.1f}" y="14" textLength="{len(words) * _CELL:.1f}"{looks}>{escape(words)}</text>'
            )
        column += len(text)
    return "".join(texts)
