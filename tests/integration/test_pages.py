"""The HTML pages in a real browser: nothing runs but their own script, nothing is asked for, everybody can use them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from reconcile import verbs
from reconcile.planning.planfile import open_plan
from reconcile.rendering import html
from reconcile.rendering.html import to_html
from reconcile.rendering.output import rendered_plan, rendered_report
from reconcile.rendering.pages import BYTES, NAME, Column, Page, Section, Table, Verdict
from tests.archives import new_sqlite
from tests.servers.chromium import Chromium
from tests.unit.test_rendering import NASTY, nasty_plan
from tests.world import DB, DB2, World, localfs

# Each text's contrast with what is painted behind it, the worst one; 4.5 is what WCAG AA asks for.
WORST_CONTRAST = """(() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0) return colour;
    }
    return [255, 255, 255, 1];
  };
  let worst = [99, ""];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !node.getClientRects().length || node.closest(":disabled")) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(parse(node.closest("svg") ? style.fill : style.color)), light(behind(node))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < worst[0]) worst = [contrast, node.outerHTML.slice(0, 200)];
  }
  return worst;
})()"""


@pytest.fixture
def browser(chromium: Chromium) -> Chromium:
    chromium.resize(1280)
    chromium.prefer("light")
    chromium.scripts(allowed=True)
    return chromium


@pytest.fixture
def world(folder: Path) -> World:
    return World(folder, new_sqlite(folder))


def saved(world: World, name: str = "p.json") -> Path:
    path = world.folder / f"{name}.html"
    path.write_text("".join(rendered_plan(open_plan(world.folder / name), "html")))
    return path


def filled(world: World, count: int = 60) -> Path:
    world.fill(count)
    world.plan(world.config("config", DB), world.config("dest", localfs(world.folder / "archive"), DB2))
    return saved(world)


def column(browser: Chromium, table: str, number: int) -> list[str]:
    """Return the texts of a column of what a table shows."""
    return browser.run(f"[...document.querySelectorAll('#{table} tbody tr')].map((r) => r.cells[{number}].textContent)")


def said(browser: Chromium, table: str) -> str:
    return browser.run(f"document.querySelector('#{table} [role=status]').textContent")


def filter_by(browser: Chromium, table: str, text: str) -> None:
    browser.run(
        f"(async () => {{ const box = document.querySelector('#{table} input'); box.value = {json.dumps(text)};"
        " box.dispatchEvent(new Event('input')); await new Promise((done) => setTimeout(done, 200)); })()"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_are_text_and_nothing_is_asked_for(world: World, browser: Chromium, scheme: str) -> None:
    nasty_plan(world)
    path = saved(world)
    browser.prefer(scheme)
    browser.open(path)
    assert browser.requested == [path.as_uri()]
    assert browser.said == []
    assert browser.run("document.querySelectorAll('img, iframe, script:not([type]):not(:last-of-type)').length") == 0
    shown = "\n".join(column(browser, "moves", 0))
    assert NASTY[0] in shown
    assert "&amp;" in shown
    filter_by(browser, "blocked", "onerror")
    assert len(column(browser, "blocked", 0)) == 1 + len(NASTY)  # one by its own name, the others by their URL
    assert browser.said == []


def test_what_got_into_the_page_all_the_same_could_do_nothing(world: World, browser: Chromium) -> None:
    """The policy is a second wall: no script but the page's own runs, nothing is fetched."""
    path = filled(world)
    smuggled = (
        '<script>document.title = "ran"</script><img src="http://127.0.0.1:9/x.png" onerror="document.title = 1">'
    )
    path.write_text(path.read_text().replace("<nav", f"{smuggled}<nav"))
    browser.open(path)
    assert browser.run("document.title").startswith("Plan: Move 60 documents")
    assert len([text for text in browser.said if "Content Security Policy" in text]) >= 2
    assert said(browser, "moves") == "60 rows"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(world: World, browser: Chromium, scheme: str) -> None:
    world.row("tape", b"x", content_url="tape://x")
    path = filled(world)
    browser.prefer(scheme)
    browser.open(path)
    dark = browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(17, 21, 26)"
    assert dark == (scheme == "dark")
    contrast, where = browser.run(WORST_CONTRAST)
    assert contrast >= 4.5, where


def test_tables_sort_filter_and_page(world: World, browser: Chromium) -> None:
    browser.open(filled(world))
    assert said(browser, "moves") == "60 rows"
    assert len(column(browser, "moves", 0)) == 25
    browser.run("document.querySelectorAll('#moves th button')[3].click()")
    assert browser.run("document.querySelectorAll('#moves th')[3].getAttribute('aria-sort')") == "descending"
    assert column(browser, "moves", 3)[:3] == ["2.9 KiB"] * 3
    browser.run("document.querySelectorAll('#moves th button')[3].click()")
    assert column(browser, "moves", 3)[0] == "13 B"
    filter_by(browser, "moves", "TEAM-A policy")
    assert said(browser, "moves") == "10 of 60 match"
    assert all(name.startswith("team-a/policy_bundles/") for name in column(browser, "moves", 0))
    filter_by(browser, "moves", "")
    browser.run("document.querySelectorAll('#moves .pages button')[1].click()")
    browser.run("document.querySelectorAll('#moves .pages button')[1].click()")
    assert browser.run("document.querySelector('#moves .pages span').textContent") == "Page 3 of 3"
    assert len(column(browser, "moves", 0)) == 10
    assert browser.run("document.querySelectorAll('#moves .pages button')[1].disabled")


def test_a_sample_says_that_it_is_one(world: World, browser: Chromium, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "SEARCHABLE", 20)
    browser.open(filled(world))
    text = said(browser, "moves")
    assert text.startswith("20 rows: an even sample of 60. All of them: reconcile show ")
    assert text.endswith("p.json --moves.")


def test_the_keyboard_does_all_of_it(world: World, browser: Chromium) -> None:
    """Tab reaches every control in turn; an arrow draws the diagram by documents; Enter sorts."""
    browser.open(filled(world))
    visible = "[...document.querySelectorAll('svg.flow')].map((s) => getComputedStyle(s).display !== 'none')"
    assert browser.run(visible) == [True, False]
    browser.run("document.querySelector('#by-bytes').focus()")
    browser.key("ArrowRight")
    assert browser.run(visible) == [False, True]
    for _press in range(20):
        browser.key("Tab")
        if browser.run("document.activeElement.textContent") == "Documents":
            break
    browser.key("Enter", "\r")
    assert browser.run("document.activeElement.closest('th').getAttribute('aria-sort')") == "descending"
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_without_scripts_it_can_be_read(world: World, browser: Chromium) -> None:
    world.row("tape", b"x", content_url="tape://x")
    path = filled(world)
    browser.scripts(allowed=False)
    browser.open(path)
    browser.scripts(allowed=True)  # of the page's own none has run
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")  # as a click does
    text = browser.run("document.querySelector('main').innerText")
    for wanted in (
        "Move 60 documents",
        "tape://x",
        "unknown_scheme",
        "25 of 60 rows, evenly taken.",
        "reconcile apply",
    ):
        assert wanted in text, wanted
    assert browser.run("document.querySelectorAll('table').length") == 6
    assert browser.run("document.querySelectorAll('button, input[type=search]').length") == 0
    assert browser.run("document.querySelectorAll('svg.flow path').length") > 0


def test_narrow_windows_and_paper(world: World, browser: Chromium) -> None:
    path = filled(world)
    browser.resize(380)
    browser.open(path)
    assert browser.run("document.documentElement.scrollWidth") <= 380
    browser.resize(1000)
    browser.prefer("dark", media="print")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("getComputedStyle(document.querySelector('.tools')).display") == "none"
    assert browser.run(WORST_CONTRAST)[0] >= 4.5


def test_a_hundred_thousand_moves_can_be_searched(world: World, browser: Chromium) -> None:
    columns = (Column("Document", NAME), Column("Bytes", BYTES))
    table = Table("moves", columns, lambda: ((f"admin/b/sha256:{n:064}", n) for n in range(100_000)), 100_000, "")
    path = world.folder / "many.html"
    path.write_text(
        "".join(
            to_html(
                Page("Plan", "many", Verdict("good", "Ready"), (), (), (), (), {}, (Section("Moves", table=table),), ())
            )
        )
    )
    browser.open(path)
    filter_by(browser, "moves", "99998")
    assert column(browser, "moves", 0) == [f"admin/b/sha256:{99998:064}"]
    assert said(browser, "moves") == "1 of 100,000 match"


def test_a_report_is_such_a_page_too(world: World, browser: Chromium) -> None:
    filled(world, 12)
    world.apply("p.json")
    path = world.folder / "r.html"
    path.write_text("".join(rendered_report(verbs.report(source=world.folder / "config.yaml"), "html")))
    browser.open(path)
    assert browser.requested == [path.as_uri()]
    assert browser.said == []
    assert browser.run("document.querySelector('h1').textContent").startswith("12 documents")
    assert column(browser, "sources", 0) == ["deleted"]
    assert "sqlite3" in browser.run("document.querySelector('main').innerText")
    assert browser.run(WORST_CONTRAST)[0] >= 4.5


NARROW = (".diagram", ".stack", "td")
AXE = Path(sys.prefix) / "node" / "node_modules" / "axe-core" / "axe.min.js"


def report_of(world: World) -> Path:
    """Apply the plan; return the page of its report."""
    world.apply("p.json", leave_blocked=True)
    path = world.folder / "report.html"
    report = verbs.report(source=world.folder / "config.yaml")
    path.write_text("".join(rendered_report(report, "html")))
    return path


@pytest.mark.skipif(not AXE.exists(), reason="axe-core comes from npm, which is not there")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 768, 400])
def test_accessibility(world: World, browser: Chromium, width: int, scheme: str) -> None:
    """By axe-core, every rule of its own: of the plan's page and the report's, all that is folded opened."""
    world.add("long", b"x", bucket="a-logical-bucket-with-a-very-long-name-indeed")
    world.row("tape", b"x", content_url="tape://x")
    plan = filled(world)
    for page in (plan, report_of(world)):
        browser.resize(width)
        browser.prefer(scheme)
        browser.open(page)
        browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        browser.run(AXE.read_text() + "; true")
        found = browser.run("axe.run().then((all) => all.violations.map((v) => [v.id, v.nodes[0].html]))")
        assert found == [], page.name


@pytest.mark.parametrize("width", [1400, 768, 400])
def test_nothing_is_cut_off_and_no_page_is_endless(world: World, browser: Chromium, width: int) -> None:
    world.add("long", b"x", bucket="a-logical-bucket-with-a-very-long-name-indeed")
    plan = filled(world, 500)
    for page in (plan, report_of(world)):
        browser.resize(width)
        browser.open(page)
        wider = (
            "[...document.querySelectorAll('body *')].filter((e) => e.scrollWidth > e.clientWidth + 1"
            " && getComputedStyle(e).display !== 'inline').map((e) => e.outerHTML.slice(0, 300))"
        )
        assert browser.run("document.documentElement.scrollWidth") <= width, browser.run(wider)
        assert browser.run("document.documentElement.scrollHeight") < 9000
        narrow = width == 400
        assert browser.run("getComputedStyle(document.querySelector('.diagram')).display") == (
            "none" if narrow else "block"
        )
        assert browser.run("getComputedStyle(document.querySelector('.stack')).display") == (
            "block" if narrow else "none"
        )
        assert browser.run("getComputedStyle(document.querySelector('td')).display") == (
            "block" if narrow else "table-cell"
        )


def test_labels_do_not_collide(world: World, browser: Chromium) -> None:
    for number in range(4):
        world.add(f"long-{number}", b"x" * 3000, bucket=f"a-logical-bucket-with-a-very-long-name-indeed-{number}")
    browser.open(filled(world))
    overlaps = browser.run(
        "(() => { const boxes = [...document.querySelectorAll('.flow.bytes text')]"
        ".map((t) => t.getBoundingClientRect());"
        " return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => a.left < b.right && b.left < a.right"
        " && a.top + 2 < b.bottom && b.top + 2 < a.bottom)).length; })()"
    )
    assert overlaps == 0


def test_one_glance_answers_a_change_board(world: World, browser: Chromium) -> None:
    """May it be approved, what is deleted, how long are services down, how is it taken back; who planned it, why."""
    world.fill(60)
    source, dest = world.config("config", DB), world.config("dest", localfs(world.folder / "archive"), DB2)
    world.plan(source, dest, note="CHG-4711 <b>")
    browser.open(saved(world))
    verdict = browser.run("document.querySelector('.verdict').textContent")
    assert verdict.startswith("Ready, with open questions")
    tiles = browser.run("[...document.querySelectorAll('.tile dt')].map((t) => t.textContent)")
    assert tiles == ["Move", "Delete", "Downtime", "Undo"]
    text = browser.run("document.body.innerText")
    assert f"Digest: {open_plan(world.folder / 'p.json').verify()}" in text
    assert "CHG-4711 <b>" in text
    assert "Approved by:" in text
    assert "planned by" in text
    assert browser.run("document.querySelectorAll('section')[0].id") in ("notes", "section-0")
    assert "archive_data_dir" in "\n".join(column(browser, "config", 0))
    assert browser.run("document.querySelector('details').open") is False


def test_a_blocked_plan_is_not_ready(world: World, browser: Chromium) -> None:
    world.row("tape", b"x", content_url="tape://x")
    browser.open(filled(world))
    assert browser.run("document.querySelector('.verdict').textContent").startswith("1 document is blocked")
    assert "bad" in browser.run("document.querySelector('.verdict').className")
