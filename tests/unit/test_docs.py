"""What the docs list is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import click

from reconcile import errors
from reconcile.cli.main import cli
from reconcile.cli.reference import reference
from reconcile.planning.model import REASONS
from reconcile.running import apply as _apply  # noqa: F401 - loads every step
from reconcile.running.phases.steps import Step, carried_out_by

DOCS = Path(__file__).parents[2] / "docs"


def test_every_reason_is_in_the_docs() -> None:
    text = (DOCS / "plan-format.md").read_text()
    for code, meaning in REASONS.items():
        assert f"| `{code}` | {meaning} |" in text


def test_every_reason_is_produced_by_a_test() -> None:
    tests = Path(__file__).parents[1]
    text = "".join(file.read_text() for file in tests.rglob("test_*.py"))
    assert not [code for code in REASONS if not re.search(rf"[\"' :=]{code}\b", text)]


def test_safety_names_tests_for_each_rule_and_they_are_there() -> None:
    text = (DOCS / "safety.md").read_text()
    rules = re.split(r"\n\*\*(R\d) ", text.partition("## The rules")[2].partition("\n## ")[0])
    assert rules[1::2] == [f"R{number}" for number in range(1, 9)]
    for rule, section in zip(rules[1::2], rules[2::2], strict=True):
        assert "*Tests:*" in section, rule
    root = DOCS.parent
    for file in re.findall(r"`(tests/[^`]+)`", text):
        assert (root / file).exists(), file
    written = "".join(file.read_text() for file in (root / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_[a-z_0-9]+)`", text):
        assert f"def {name}(" in written, name


def test_the_order_of_things_is_that_of_the_steps() -> None:
    table = (DOCS / "safety.md").read_text().partition("## The order of things")[2].partition("With `--refresh`")[0]
    named = re.findall(r"^\| (\d+) ([a-z ]+?)(?:, a batch at a time)? \|", table, re.MULTILINE)
    assert named == [(str(number), step.value) for number, step in enumerate(Step, 1)]
    assert all(carried_out_by(step) for step in Step)


def test_every_exit_code_is_in_the_docs() -> None:
    text = (DOCS / "exit-codes.md").read_text()
    codes = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.ReconcileError)
    }
    for code in codes | {errors.EXIT_CHANGES, errors.EXIT_INCOMPLETE}:
        assert f"\n| {code} |" in text


def test_every_option_of_a_run_is_in_the_docs() -> None:
    guides = [path for path in DOCS.glob("*.md") if path.name != "commands.md"]  # that one names everything anyway
    text = "".join(path.read_text() for path in guides)
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        assert f"`reconcile {name}" in text or f"\nreconcile {name}" in text or f"   reconcile {name}" in text
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and option not in ("--help", "--format", "--out", "--detailed-exitcode"):
                    assert option in text, f"{name} {option}"


def test_the_command_reference_is_what_the_help_texts_give() -> None:
    assert (DOCS / "commands.md").read_text() == reference(), "make docs writes it anew"


def test_every_link_leads_somewhere() -> None:
    """Between the docs, to other files of the repository, and to headings."""
    for page in (*DOCS.parent.glob("*.md"), *DOCS.glob("*.md")):
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if target.startswith(("http:", "https:")):
                continue
            file, _hash, heading = target.partition("#")
            there = page.parent / file if file else page
            assert there.exists(), f"{page.name}: {target}"
            if heading:
                assert heading in _anchors(there.read_text()), f"{page.name}: {target}"


def test_what_contributors_are_led_to_is_there() -> None:
    """Files, folders, and the functions and classes that are named beside them."""
    root = DOCS.parent
    code = "".join(file.read_text() for room in ("reconcile", "tests") for file in (root / room).rglob("*.py"))
    for page in ("CONTRIBUTING.md", "SECURITY.md"):
        for name in re.findall(r"`([\w./-]+)`", (root / page).read_text()):
            if "/" in name and "NAME" not in name:
                assert (root / name).exists(), f"{page}: {name}"
            elif re.fullmatch(r"test_\w+|_?[A-Z]+(_[A-Z]+)*|([A-Z][a-z]+)+|[a-z]+_[a-z_]+", name):
                assert re.search(rf"^ *(def|class) {name}\b|^{name} = ", code, re.MULTILINE), f"{page}: {name}"


def _anchors(text: str) -> set[str]:
    """Return the anchors of the headings as they are made where Markdown is shown."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_guide_is_in_the_index_and_run() -> None:
    index = (DOCS.parent / "README.md").read_text()
    followed = "".join(file.read_text() for file in (DOCS.parent / "tests" / "guides").glob("test_*.py"))
    for page in DOCS.glob("*.md"):
        assert f"(docs/{page.name}" in index, page.name
        if "```sh\n" in page.read_text():
            assert f"docs/{page.name}" in followed, page.name
