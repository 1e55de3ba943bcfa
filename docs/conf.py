"""The documentation site: ``make site`` builds it into ``build/site``, and any warning fails the build.

Sphinx with the theme Furo and MyST for Markdown are chosen for the long run: all three have regular releases, while
mkdocs-material, the obvious other choice, is in maintenance only.

The pages are written for GitHub first. What is different in the site is changed here: links that lead out of ``docs/``,
callouts, and diagrams, which become pictures where npm and Chromium are there.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinxcontrib.mermaid import mermaid, render_mm

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

import reconcile  # noqa: E402 - the repository has to be on the path first
from tests.servers import chromium  # noqa: E402

project = "reconcile"
version = release = reconcile.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

myst_enable_extensions = ["alert"]  # GitHub's callouts: > [!NOTE]
myst_heading_anchors = 6  # links to headings are as GitHub makes them
smartquotes = False  # it makes one dash of an option's two
highlight_language = "text"  # of code blocks that name none

python_maximum_signature_line_length = 80
default_role = "code"  # docstrings have names in single backticks
toc_object_entries = False  # a page's contents are its headings

html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/icon.svg"
html_copy_source = html_show_copyright = False

# Where the files of the repository's root are in the site. Folders have no page; other files are downloads.
PAGES = {
    ROOT / "README.md": DOCS / "index.rst",
    **{ROOT / f"{page.stem.upper()}.md": page for page in (DOCS / "project").glob("*.md")},
}

_LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\(([^()\s]+)\)")
_ELSEWHERE = re.compile(r"#|[a-z]+:")

_MMDC = Path(sys.prefix) / "node" / "node_modules" / ".bin" / "mmdc"
_BROWSER = chromium.find()
DRAWN = _MMDC.exists() and _BROWSER is not None

if DRAWN:
    _options = ROOT / "build" / "puppeteer.json"
    _options.parent.mkdir(exist_ok=True)
    _options.write_text(json.dumps({"executablePath": _BROWSER, "args": ["--no-sandbox"]}))
    extensions.append("sphinxcontrib.mermaid")
    myst_fence_as_directive = ["mermaid"]
    mermaid_output_format = "svg"  # else its pages fetch a script from elsewhere
    mermaid_cmd = str(_MMDC)
    mermaid_params = ["--puppeteerConfigFile", str(_options), "--backgroundColor", "white", "--quiet"]
else:
    sys.stderr.write("no npm or no Chromium: the diagrams are shown as their source\n")


def repointed(text: str, folder: Path, page: Path) -> str:
    """Return a text of a folder with its links as they are to be on a page of the site."""

    def replaced(link: re.Match[str]) -> str:
        label, target = link.groups()
        if _ELSEWHERE.match(target):
            return link[0]
        name, mark, heading = target.partition("#")
        there = Path(os.path.normpath(folder / name))
        if there.is_dir():
            return label
        there = PAGES.get(there, there)
        label = "" if label.strip("`").endswith(".md") else label  # the site has its title there
        heading = "" if there.suffix == ".rst" else f"{mark}{heading}"  # headings of the README are not in index.rst
        return f"[{label}]({os.path.relpath(there, page.parent)}{heading})"

    return _LINK.sub(replaced, text)


def _page(app: Sphinx, docname: str, source: list[str]) -> None:
    path = Path(app.env.doc2path(docname))
    source[0] = repointed(source[0], path.parent, path)


def _included(app: Sphinx, relative_path: Path, _parent: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(app.env.docname))
    source[0] = repointed(source[0], (DOCS / relative_path).resolve().parent, page)


def _diagram(writer: Any, node: Any) -> None:
    name, path = render_mm(writer, node["code"], node["options"], "svg")
    drawn = Path(path).read_text().replace("my-svg", Path(path).stem)  # ids have to differ from another diagram's
    writer.body.append(f'<figure class="diagram"><a href="{name}" title="The diagram alone">{drawn}</a></figure>\n')
    raise SkipNode


def setup(app: Sphinx) -> None:
    """Have links changed as pages are read, and diagrams put into the page: as objects they have no size."""
    app.add_lexer("mermaid", TextLexer)
    if DRAWN:
        app.add_node(mermaid, override=True, html=(_diagram, None))
    app.connect("source-read", _page)
    app.connect("include-read", _included)
