"""The man pages and the completion scripts: complete, and accepted by what reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from reconcile.cli.main import cli
from reconcile.cli.manual import EXIT_CODES, manual
from tests.cli.runner import here

DOCS = Path(__file__).parents[2] / "docs"
PAGES = manual(datetime(2026, 1, 2, tzinfo=UTC))
READERS = {"groff": ["-man", "-ww", "-Tutf8"], "mandoc": ["-Tlint", "-W", "warning"]}
CHECKS = {"bash": ["-n"], "zsh": ["-n"], "fish": ["--no-execute"]}


def verbs() -> dict[str, click.Command]:
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def read(page: str) -> str:
    """Return what a page says once its escapes are read."""
    return page.replace(r"\fB", "").replace(r"\fR", "").replace(r"\-", "-").replace(r"\(aq", "'")


def installed(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def test_each_verb_has_a_page_with_each_of_its_options() -> None:
    assert set(PAGES) == {"reconcile.1", *(f"reconcile-{name}.1" for name in verbs())}
    for name, command in {"": cli, **verbs()}.items():
        page = read(PAGES[f"reconcile-{name}.1" if name else "reconcile.1"])
        options = [option for parameter in command.params for option in parameter.opts if option.startswith("-")]
        for option in (*options, "--help"):
            assert re.search(rf"^\.TP\n(?:-h, )?{option}\b", page, re.MULTILINE), f"{name} {option}"
    assert all(f"reconcile-{name}(1)" in read(PAGES["reconcile.1"]) for name in verbs())


def test_every_exit_code_is_on_the_page() -> None:
    table = (DOCS / "exit-codes.md").read_text().partition("## At three")[0]
    assert re.findall(r"^\| (\d[\d, ]*) \|", table, re.MULTILINE) == list(EXIT_CODES)


def test_a_page_is_the_same_for_the_same_date() -> None:
    assert manual(datetime(2026, 1, 2, tzinfo=UTC)) == PAGES
    assert PAGES["reconcile-plan.1"].startswith(r".TH RECONCILE\-PLAN 1 2026-01-02 ")


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_of_roff_finds_nothing_wrong(reader: str, tmp_path: Path) -> None:
    program = installed(reader)
    for name, page in PAGES.items():
        (tmp_path / name).write_text(page)
        command = [program, *READERS[reader], tmp_path / name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert (done.returncode, done.stderr) == (0, ""), f"{name}\n{done.stdout}"


@pytest.mark.parametrize("shell", CHECKS)
def test_a_shell_accepts_its_completion_script(shell: str, tmp_path: Path) -> None:
    program = installed(shell)
    script = here("completion", shell, cwd=tmp_path)
    assert script.code == 0, script.all
    (tmp_path / "script").write_text(script.out)
    command = [program, *CHECKS[shell], tmp_path / "script"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
