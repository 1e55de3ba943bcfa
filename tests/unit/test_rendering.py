"""Pages in Markdown, HTML and text: what a name holds stays a name, and what is cut is said to be cut."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from attrs import evolve
from markdown_it import MarkdownIt

from reconcile.errors import UsageError
from reconcile.planning.planfile import PlanFile
from reconcile.rendering import html as html_pages
from reconcile.rendering.flow import Diagram
from reconcile.rendering.html import to_html
from reconcile.rendering.markdown import LIMIT, to_markdown
from reconcile.rendering.output import FORMS, rendered_plan, write_new
from reconcile.rendering.pages import Band, Column, Page, Section, Table, Verdict
from reconcile.rendering.plan_page import plan_page
from reconcile.rendering.text import to_text
from tests.archives import connect, insert, md5, new_sqlite
from tests.world import DB, DB2, NOW, World

NASTY = (
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "a|b\\|c`d``e",
    "`|`",
    "two\nlines\r\n| x |",
    "sep\u2028par\u2029end",
    "*bold* _it_ [link](http://x.example) ![i](http://x.example/i.png)",
    "@everyone &lt;b&gt; &amp;",
    " blank ",
    "\x1b[31mred",
    '"><svg onload=alert(1)>',
)


@pytest.fixture
def world(folder: Path) -> World:
    return World(folder, new_sqlite(folder))


def add(world: World, names: list[tuple[str, str, str]], url: str | None = "db") -> None:
    """Add catalog rows: user, logical bucket, archiveId."""
    connection = connect(world.url)
    insert(
        connection,
        "archive_metadata",
        [
            {"bucket": bucket, "archiveId": archive_id, "userId": user, "documentName": f"{archive_id}.json"}
            | {"content_url": f"db://{user}/{bucket}/{archive_id}" if url == "db" else url, "is_compressed": False}
            | {"digest": md5(b""), "size": 1000, "created_at": NOW, "last_updated": NOW}
            for user, bucket, archive_id in names
        ],
    )
    connection.commit()
    connection.close()


def nasty_plan(world: World) -> PlanFile:
    """A plan in which every name that can be nasty is: of moves, of blocked documents, of logical buckets."""
    plain = [("admin", name.replace("/", ""), name) for name in NASTY]
    add(world, plain)
    add(world, [(name, "blocked", name) for name in NASTY], url=None)
    add(world, [("admin", "blocked", f"tape {name}") for name in NASTY], url=f"tape://{NASTY[0]}")
    return world.plan(world.config("config", DB), world.config("dest", DB2), allow_unreadable=True)


def page_of(plan: PlanFile) -> Page:
    return plan_page(plan, plan.verify())


def tables_of(markdown: str) -> list[list[list[str]]]:
    """Return the cells of each table, rendered to HTML by a Markdown parser."""
    rendered = MarkdownIt("commonmark").enable("table").render(markdown)
    tables = re.findall(r"<table>.*?</table>", rendered, re.DOTALL)
    return [
        [
            re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
            for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)
        ]
        for table in tables
    ]


def test_names_mean_nothing_in_markdown(world: World) -> None:
    plan = nasty_plan(world)
    markdown = to_markdown(page_of(plan))
    rendered = MarkdownIt("commonmark").enable("table").render(markdown)
    for tag in ("<img", "<svg", "<script", "<a ", "<strong>bold", "<em>"):
        assert tag not in rendered, tag
    assert "\x1b" not in markdown
    for table in tables_of(markdown):
        assert len({len(row) for row in table}) == 1, table
    cells = {cell for table in tables_of(markdown) for row in table for cell in row}
    names = {re.sub(r"&lt;", "<", re.sub(r"&gt;", ">", cell)) for cell in cells}
    assert any(NASTY[0] in name for name in names), names
    assert any("`|`" in name for name in names), names
    moves = next(table for table in tables_of(markdown) if table[0][-1] == "What")
    assert len(moves) == 1 + len(NASTY)


def test_markdown_stays_under_its_limit_and_says_what_was_cut(world: World) -> None:
    """However many moves, blockers and logical buckets, and however long their names."""
    add(world, [("admin", f"bucket-{number:05}-{'|<' * 140}", "x") for number in range(3000)])
    add(world, [("a|" * 900, "blocked", f"{number:05}{'`' * 900}") for number in range(3000)], url=None)
    plan = world.plan(world.config("config", DB), world.config("dest", DB2), allow_unreadable=True)
    markdown = to_markdown(page_of(plan))
    assert 20_000 < len(markdown) < LIMIT
    assert "of 3,000 rows are shown. All of them are in" in markdown
    assert "reconcile apply" in markdown
    assert plan.verify() in markdown
    assert markdown.index("**Move:** 3,000") < markdown.index("## ")


def test_markdown_of_a_page_with_endless_notes_and_sections() -> None:
    notes = tuple(f"note {number} {'<' * 5000}" for number in range(500))
    table = Table("t", (Column("x"),), lambda: [("<" * 1000,)] * 1000, 1000, "In the file.")
    sections = tuple(Section(f"section {number}", ("<" * 5000,), table=table) for number in range(12))
    page = Page(
        "Plan",
        "<" * 9000,
        Verdict("good", "<" * 90),
        (("a", "`" * 9000),),
        (),
        notes,
        (),
        {},
        sections,
        (("digest", "x"),),
    )
    markdown = to_markdown(page)
    assert len(markdown) < LIMIT
    assert "and 480 more" in markdown


class Reader(HTMLParser):
    """Collects the elements of a page, the texts of its cells and its embedded data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data: dict[str, str] = {}
        self._id: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._id = dict(attrs).get("id") if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._id = None

    def handle_data(self, data: str) -> None:
        if self._id:
            self.data[self._id] = self.data.get(self._id, "") + data


def test_names_cannot_break_out_of_the_html(world: World) -> None:
    text = "".join(to_html(page_of(nasty_plan(world))))
    reader = Reader(text)
    names = {tag for tag, _attributes in reader.tags}
    assert not names & {"img", "iframe", "object", "embed", "link", "base", "form"}
    assert [attributes for tag, attributes in reader.tags if any(name.startswith("on") for name in attributes)] == []
    assert sum(tag == "script" for tag, _attributes in reader.tags) == len(reader.data) + 1
    rows = json.loads(reader.data["data-moves"])["rows"]
    assert len(rows) == len(NASTY)
    assert any(row[0].endswith(NASTY[0]) for row in rows)
    for content in reader.data.values():
        assert not set("<>&\u2028\u2029") & set(content)


def test_the_html_refers_to_nothing_and_its_policy_allows_nothing(world: World) -> None:
    text = "".join(to_html(page_of(nasty_plan(world))))
    reader = Reader(text)
    references = [a for _tag, attributes in reader.tags for a in attributes if a in ("src", "href", "action", "srcset")]
    assert set(references) == {"href"}
    assert all(a["href"].startswith("#") for _tag, a in reader.tags if a.get("href"))
    policy = next(a["content"] for tag, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_an_even_sample_is_embedded_of_very_many_moves(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html_pages, "SEARCHABLE", 100)
    add(world, [("admin", "b", f"{number:04}") for number in range(1000)])
    plan = world.plan(world.config("config", DB), world.config("dest", DB2))
    data = json.loads(Reader("".join(to_html(page_of(plan)))).data["data-moves"])
    assert [row[0] for row in data["rows"]] == [f"admin/b/{number:04}" for number in range(0, 1000, 10)]
    assert data["about"]["total"] == 1000


def test_moves_are_streamed(world: World) -> None:
    """No list of them is made: the page comes piece by piece, a move after the other."""
    add(world, [("admin", "b", f"{number:04}") for number in range(500)])
    page = page_of(world.plan(world.config("config", DB), world.config("dest", DB2)))
    taken = 0

    def count(row: tuple[object, ...]) -> tuple[object, ...]:
        nonlocal taken
        taken += 1
        return row

    sections = []
    for section in page.sections:
        table = section.table
        if table and table.name == "moves":
            rows = table.rows
            table = evolve(table, rows=lambda rows=rows: map(count, rows()))
        sections.append(evolve(section, table=table))
    seen = {}
    for piece in to_html(evolve(page, sections=tuple(sections))):
        if match := re.search(r"admin/b/(\d{4})", piece.removeprefix(",\n")):
            seen[match[1]] = taken
    assert seen["0100"] < seen["0400"] <= 2 * 500


def test_the_diagram_is_to_scale() -> None:
    bands = [
        Band("source.object_store", "a", "dest.object_store", 1, 300),
        Band("source.object_store", "b", "d", 3, 100),
    ]
    diagram = Diagram(bands, {})
    assert bars(diagram.by_bytes())[:2] == [225.0, 75.0]
    assert bars(diagram.by_documents())[:2] == [225.0, 75.0]
    assert re.findall(r"<title>(b|a): ", diagram.by_documents()) == ["a", "b"]
    assert Diagram([Band("s", "a", "d", 4, 0)], {}).by_bytes() == ""


def bars(svg: str) -> list[float]:
    """Return the heights of the logical buckets' bars, the largest first."""
    return sorted((float(h) for h in re.findall(r'class="bucket[^>]*height="([\d.]+)"', svg)), reverse=True)


def test_the_diagram_puts_the_least_logical_buckets_together() -> None:
    bands = [Band("s", f"<bucket {number}>", "d", number, 10 * number) for number in range(1, 41)]
    svg = Diagram(bands, {}).by_bytes()
    assert "26 other buckets" in svg
    assert svg.count('<rect class="bucket') == 15
    assert "<bucket" not in svg
    assert sum(bars(svg)) == pytest.approx(300, abs=1)


def test_text_drives_no_terminal(world: World) -> None:
    for line in to_text(page_of(nasty_plan(world))):
        assert not {"\x1b", "\r", "\n", "\u2028"} & set(line)


def test_nothing_to_move_has_a_page_too(world: World) -> None:
    world.fill(2)
    source = world.config("config", DB)
    plan = world.plan(source, world.config("dest", DB))
    for form in FORMS:
        assert "othing to move" in "".join(rendered_plan(plan, form)) or form in ("text", "json")


def test_a_file_is_new_and_for_its_owner_alone(folder: Path) -> None:
    path = folder / "page.html"
    write_new(path, ["a", "b"])
    assert path.read_text() == "ab"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="exists already"):
        write_new(path, ["c"])

    def broken() -> object:
        yield "a"
        raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        write_new(folder / "half.html", broken())  # type: ignore[arg-type]
    assert not (folder / "half.html").exists()
