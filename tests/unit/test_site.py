"""The documentation site and the pictures of the docs, as far as that shows without building them."""

from __future__ import annotations

import ast
import getpass
import json
import re
import socket
import struct
from pathlib import Path

import pytest

import reconcile
from docs.terminal import Frame, Screen, to_svg

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PICTURES = DOCS / "pictures"


def test_the_settings_of_the_site_are_valid() -> None:
    """They can be read without Sphinx, which is in the site's own environment."""
    settings = (DOCS / "conf.py").read_text()
    assert ast.get_docstring(ast.parse(settings))
    for name in re.findall(r'html_css_files = \["(.*)"\]', settings):
        assert (DOCS / "_static" / name).exists()


def test_what_builds_the_site_is_pinned() -> None:
    lines = [line for line in (DOCS / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[a-z-]+==[\d.]+", line) for line in lines), lines


def test_every_page_is_in_the_navigation_once() -> None:
    entries = re.findall(r"^   ([a-z0-9/-]+)$", (DOCS / "index.rst").read_text(), re.MULTILINE)
    pages = {str(path.relative_to(DOCS).with_suffix("")) for kind in ("*.md", "*.rst") for path in DOCS.rglob(kind)}
    assert sorted(entries) == sorted(pages - {"index"})


def test_the_navigation_has_the_kinds_of_the_readme() -> None:
    kinds = re.findall(r":caption: (.*)", (DOCS / "index.rst").read_text())
    text = (ROOT / "README.md").read_text()
    assert kinds[-1] == "Project"
    assert all(f"**{kind}" in text or f"## {kind}" in text for kind in kinds[:-1])


def test_the_api_reference_has_every_verb() -> None:
    named = re.findall(r"^\.\. autofunction:: (\w+)$", (DOCS / "api.rst").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(set(reconcile.__all__) - {"__version__"})


def test_pictures_show_nothing_of_a_machine() -> None:
    for name, largest in (("terminal.svg", 200), ("terminal.cast", 200), ("plan.png", 250)):
        picture = PICTURES / name
        assert 1 < picture.stat().st_size >> 10 < largest, name
    for name in ("terminal.svg", "terminal.cast"):
        text = (PICTURES / name).read_text()
        assert not re.search(r"/(tmp|home|root|work|Users|var|private|usr)/", text), name
        assert set(re.findall(r"\w+@\w+", text)) == {"operator@archive"}
        assert f"@{socket.gethostname()}" not in text
        assert f"{getpass.getuser()}@" not in text


def test_the_page_of_the_plan_is_1280_pixels_wide() -> None:
    assert struct.unpack(">I", (PICTURES / "plan.png").read_bytes()[16:20]) == (1280,)


def test_the_recording_is_asciinemas() -> None:
    header, *events = (json.loads(line) for line in (PICTURES / "terminal.cast").read_text().splitlines())
    assert (header["version"], header["width"], header["height"]) == (2, 100, 30)
    assert [event[0] for event in events] == sorted(event[0] for event in events)
    assert {event[1] for event in events} == {"o", "m"}
    typed = [event[2] for event in events if event[1] == "m"]
    assert [re.findall(r"^reconcile (\w+)", command)[0] for command in typed] == [
        *("plan", "show", "apply", "status", "undo", "verify")
    ]


def shown(text: str, columns: int = 10, rows: int = 3) -> list[str]:
    screen = Screen(columns, rows)
    screen.write(text)
    return ["".join(cell.char for cell in row).rstrip() for row in screen.shown()]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one\r\ntwo", ["one", "two", ""]),
        ("one\rtw", ["twe", "", ""]),
        ("one\r\x1b[2Ktwo", ["two", "", ""]),
        ("a\r\nb\r\nc\r\nd", ["b", "c", "d"]),
        ("a\r\nb\x1b[1A\rc", ["c", "b", ""]),
        ("0123456789ab", ["0123456789", "ab", ""]),
        ("0123456789\r\nab", ["0123456789", "ab", ""]),
        ("a\r\nb\x1b[2J\x1b[Hc", ["c", "", ""]),
        ("abc\b\bd\x1b[K", ["ad", "", ""]),
        ("\x1b[?25l\x1b[1;36ma\x1b[0m", ["a", "", ""]),
    ],
)
def test_what_a_screen_shows(text: str, lines: list[str]) -> None:
    assert shown(text) == lines


@pytest.mark.parametrize("text", ["\x1b[5n", "\x1b[48;5;1m", "\x1b]0;title\x07"])
def test_what_is_not_known_is_not_guessed(text: str) -> None:
    with pytest.raises(ValueError, match="not known"):
        shown(text)


def test_colours_of_a_screen() -> None:
    screen = Screen(10, 1)
    screen.write("\x1b[38;5;197ma\x1b[38;5;237mb\x1b[33mc\x1b[1md\x1b[0me\x1b[39mf")
    styles = [cell.style for cell in screen.shown()[0][:6]]
    assert [style.fill for style in styles[:3]] == ["#ff005f", "#3a3a3a", styles[3].fill]
    assert [style.bold for style in styles] == [False, False, False, True, False, False]
    assert styles[4] == styles[5]


def test_a_picture_plays_its_frames_and_is_of_text_alone() -> None:
    screen, frames = Screen(20, 2), []
    for text in ("<a> & b", "\r\nc"):
        screen.write(text)
        frames.append(Frame(1, screen.shown(), is_poster=text == "\r\nc"))
    picture = to_svg(frames, "two & two")
    assert "&lt;a&gt; &amp; b" in picture
    assert "two &amp; two" in picture
    assert picture.count("<text") == 2
    assert "50.000%{transform:translateX(-196px)}" in picture
    assert ".strip{transform:translateX(-196px)}" in picture
    assert not re.search(r"<(script|image|foreignObject)|url\((?!#)|href=\"(?!#)", picture)
