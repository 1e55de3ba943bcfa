"""The documentation site as `make site` builds it, served and opened in a real browser."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin
from urllib.request import urlopen

import pytest

from tests.servers.chromium import Chromium

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "site"
MERMAID = ROOT / ".venv" / "site" / "node" / "node_modules" / ".bin" / "mmdc"  # is not there without npm
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

FOUND = """(async () => {
  for (let tries = 0; tries < 200; tries++) {
    const found = [...document.querySelectorAll('#search-results li a')].map((one) => one.textContent);
    if (found.includes('Undo after days')) return true;
    await new Promise((done) => setTimeout(done, 100));
  }
  return false;
})()"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def text_of(url: str) -> str:
    with urlopen(url, timeout=30) as answer:
        return answer.read().decode(errors="replace")


def links_of(url: str, page: str) -> set[str]:
    """Return the links of a page that stay in the site, and what it loads."""
    targets = re.findall(r"""<[^>]+?\s(?:href|src)="([^"]*)\"""", re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL))
    absolute = {urljoin(url, unescape(target)) for target in targets}
    return {target for target in absolute if target.startswith(url[: url.index("/", 8)])}


def all_links(start: str) -> dict[str, set[str]]:
    """Return what links lead to, each file with the anchors that are asked of it; fail where one is dead."""
    asked: dict[str, set[str]] = {start: set()}
    texts: dict[str, str] = {}
    while new := asked.keys() - texts.keys():
        for url in new:
            texts[url] = text_of(url)
            for target in links_of(url, texts[url]) if url.endswith((".html", "/")) else ():
                file, anchor = urldefrag(target)
                asked.setdefault(file.partition("?")[0], set()).add(unquote(anchor))
    for url, anchors in asked.items():
        for anchor in anchors - {""}:
            assert f'id="{anchor}"' in texts[url], f"{url}#{anchor}"
    return asked


@pytest.mark.matrix
@pytest.mark.timeout(900)  # the first time it installs what builds the site
def test_the_site(chromium: Chromium) -> None:
    """One test: the site is built in one place, and only once."""
    built = subprocess.run(
        ["make", "--silent", "site"], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    drawn = [path.stem for path in sorted((ROOT / "docs").glob("*.md")) if "\n```mermaid" in path.read_text()]
    with served(SITE) as site:
        asked = all_links(site)
        assert len([url for url in asked if url.endswith(".html")]) > 30
        for name in ("index", "safety", "api", "project/changelog", *drawn):
            assert f"{site}{name}.html" in asked or name == "index"
            for width in (390, 1280):
                look_at(chromium, site, name, width, diagrams=name in drawn and MERMAID.exists())
        chromium.visit(f"{site}search.html?q=undo")
        assert chromium.run(FOUND)


def look_at(chromium: Chromium, site: str, name: str, width: int, *, diagrams: bool) -> None:
    """Open a page in a window of this width; fail if it asks for anything elsewhere, or does not fit."""
    chromium.scripts(allowed=True)
    chromium.prefer("light")
    chromium.resize(width)
    chromium.visit(f"{site}{name}.html")
    assert [url for url in chromium.requested if not url.startswith((site, "data:"))] == []
    assert chromium.said == []
    assert chromium.run("document.documentElement.scrollWidth") <= width, name
    search = chromium.run("document.querySelector('.sidebar-search').getBoundingClientRect().toJSON()")
    assert search["width"] > 100
    if width > 1000:  # in a narrow window it slides in, with the navigation
        assert 0 <= search["left"] < search["right"] <= width
    assert chromium.run("document.querySelectorAll('figure.diagram svg').length > 0") == diagrams
    assert chromium.run("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
