"""What is said of a run when no process is working on it: stopped as requested, ended, undone, forgotten."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from reconcile import verbs
from reconcile.catalog.lock import run_lock
from reconcile.errors import StageFailedError
from reconcile.planning.planfile import open_plan
from reconcile.rendering.output import rendered_plan, rendered_report
from tests.archives import new_sqlite
from tests.cli.desk import filled, last_run, opened, planned, stage_only
from tests.cli.runner import Result, here, killed, on_terminal, reconcile
from tests.world import World, localfs

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def lite(folder: Path) -> World:
    return filled(World(folder, new_sqlite(folder)))


def run(world: World, *arguments: str) -> Result:
    return here(*arguments, cwd=world.folder)


def status(world: World, *arguments: str) -> str:
    return run(world, "status", *arguments, "--source", "config.yaml").out


def test_a_killed_run_is_resumed_by_its_engine_and_a_staged_one_is_switched_without(lite: World) -> None:
    """Its workers are sent away before the downtime."""
    planned(lite)
    killed("recorded", "apply", "p.json", "--yes", cwd=lite.folder)
    lite.sql("UPDATE reconcile_runs SET engine = 'processes:2'")
    assert "--engine processes:2    # resumes it" in status(lite)
    assert run(lite, "apply", "p.json", "--yes", "--stage-only").code == 0
    assert "switches; stop the services first" in status(lite)
    assert "--engine" not in status(lite)


@pytest.mark.parametrize("options", [("--stage-only",), ("--limit", "2"), ("--clean-later",)])
def test_a_run_that_stopped_where_it_was_asked_to_is_not_called_interrupted(
    lite: World, options: tuple[str, ...]
) -> None:
    """Nor does a watch wait for it to go on (exit 14)."""
    planned(lite)
    assert run(lite, "apply", "p.json", "--yes", *options).code in (0, 12)
    said = status(lite)
    assert said.startswith("stopped as requested; ")
    assert "INTERRUPTED" not in said
    assert reconcile("status", "--watch", "--interval", "0.1", "--source", "config.yaml", cwd=lite.folder).code == 14
    if options == ("--clean-later",):
        assert f"next: you can start the services with {lite.folder}/dest.yaml" in said
        assert f"reconcile clean {last_run(lite)} " in said
    killed("marked", "apply", "p.json", "--yes", cwd=lite.folder)
    assert status(lite).startswith("INTERRUPTED: ")


def test_an_error_is_told_from_an_interruption(lite: World) -> None:
    planned(lite)
    lite.sql("""UPDATE archive_document SET jsondata = 'damaged' WHERE "archiveId" = 'sha256:0002'""")
    with pytest.raises(StageFailedError):
        lite.apply("p.json")
    said = status(lite)
    assert said.startswith("STOPPED: no process is working on it")
    (remark,) = re.findall(r"remark +(.*)", said)
    assert not remark.endswith(":")


def test_what_ended_says_which_config_services_need(lite: World) -> None:
    """As long as no later run switched the catalog; an undo leads back to the old one."""
    lite.apply(planned(lite))
    first = last_run(lite)
    assert f"you can start the services with {lite.folder}/dest.yaml" in status(lite)
    shutil.copy(lite.folder / "config.yaml", lite.folder / "config.old.yaml")
    shutil.copy(lite.folder / "dest.yaml", lite.folder / "config.yaml")
    assert f"you can start the services with {lite.folder}/config.yaml" in status(lite)
    (lite.folder / "dest.yaml").unlink()
    assert f"you can start the services with {lite.folder}/config.yaml" in status(lite)
    assert run(lite, "undo", first, "--source", "config.yaml", "--dest", "config.old.yaml", "--yes").code == 0
    assert f"you can start the services with {lite.folder}/config.old.yaml" in status(lite)
    assert "you can start" not in status(lite, first)


def test_what_ended_says_that_a_part_is_elsewhere_still(lite: World) -> None:
    lite.plan(lite.folder / "config.yaml", lite.folder / "dest.yaml", limit=2)
    lite.apply("p.json")
    assert "NOT YET: services with " in status(lite)
    assert "could not read 4 documents, which are still at another driver" in status(lite)


def test_what_is_undone_or_forgotten_is_not_asked_about(lite: World) -> None:
    lite.apply(planned(lite))
    run_id = last_run(lite)
    lite.undo()
    for words in (("undo", run_id, "--source", "config.yaml"), ("undo", "p.undo.json"), ("apply", "p.undo.json")):
        done = on_terminal(*words, cwd=lite.folder)
        assert (done.code, "Type yes" in done.err) == (0, False), done.all
        assert "nothing to do: the run is undone already" in done.out
    assert run(lite, "forget", run_id, "--source", "config.yaml", "--yes").code == 0
    for words in (("undo", "p.undo.json"), ("apply", "p.undo.json")):
        done = on_terminal(*words, cwd=lite.folder)
        assert (done.code, "Type yes" in done.err) == (1, False), done.all
        assert f"this database has no run {run_id}" in done.err


def test_the_plan_of_a_forgotten_run_begins_none(lite: World) -> None:
    """Every row is elsewhere by now: that is seen before anything is recorded or marked, and said once."""
    lite.apply(planned(lite))
    tables = lite.tables()
    run(lite, "forget", last_run(lite), "--source", "config.yaml", "--yes")
    done = run(lite, "apply", "p.json", "--yes")
    assert done.code == 4
    assert "each of the plan's 6 rows has changed since the plan; no run was begun" in done.err
    assert "document not staged" not in done.err
    assert "no run is recorded" in run(lite, "runs", "--source", "config.yaml").out
    assert lite.tables() == tables


def test_an_undo_that_was_begun_can_be_given_up(lite: World) -> None:
    """The command for that is printed, and leaves the run as it was; its report does not count what was given up."""
    lite.apply(planned(lite))
    run_id, tables = last_run(lite), lite.tables()
    killed("recorded", "undo", "p.undo.json", "--yes", cwd=lite.folder)
    said = status(lite)
    (command,) = re.findall(r"reconcile (undo .*?)    # abandons it", said)
    assert run(lite, *command.split(), "--yes").code == 0
    assert lite.tables() == tables
    given_up = last_run(lite)
    assert "abandoned; the run it was to undo is unchanged" in status(lite)
    assert "to stage" not in status(lite)
    assert f"reconcile undo {run_id} " in status(lite)
    report = "".join(rendered_report(verbs.report(run_id=given_up, source=lite.folder / "config.yaml"), "markdown"))
    assert f"run {run_id} is unchanged" in report
    assert verbs.report(run_id=run_id, source=lite.folder / "config.yaml").undone_by == []


def test_an_undo_that_met_changes_takes_them_along(lite: World) -> None:
    """By the command that the refusal prints, and status too: the configs where they are by now, not as planned."""
    lite.apply(planned(lite))
    run_id = last_run(lite)
    shutil.copy(lite.folder / "config.yaml", lite.folder / "config.old.yaml")
    shutil.copy(lite.folder / "dest.yaml", lite.folder / "config.yaml")
    lite.sql("""UPDATE archive_metadata SET last_updated = 5 WHERE "archiveId" = 'sha256:0002'""")
    sides = ("--source", "config.yaml", "--dest", "config.old.yaml")
    refused = run(lite, "undo", run_id, *sides, "--yes")
    assert refused.code == 4, refused.all
    wanted = (
        f"reconcile undo {run_id} --with-changes --source {lite.folder}/dest.yaml --dest {lite.folder}/config.old.yaml"
    )
    words = set(wanted.split())
    for said in (refused.err, status(lite)):
        (command,) = (line for line in said.splitlines() if "--with-changes" in line)
        assert words <= set(command.split())
    assert run(lite, "undo", run_id, "--with-changes", *sides, "--yes").code == 0
    assert {url.partition(":")[0] for url in lite.urls()} == {"db"}


def test_the_report_of_an_undone_run_does_not_say_that_its_sources_are_gone(lite: World) -> None:
    lite.apply(planned(lite))
    run_id = last_run(lite)
    lite.undo()
    report = "".join(rendered_report(verbs.report(run_id=run_id, source=lite.folder / "config.yaml"), "markdown"))
    assert "Sources deleted" not in report
    assert "Not all sources" not in report


def test_deleting_later_does_not_tell_of_the_switch_again(lite: World) -> None:
    planned(lite)
    run(lite, "apply", "p.json", "--yes", "--clean-later")
    done = run(lite, "clean", last_run(lite), "--source", "config.yaml", "--yes")
    assert done.code == 0
    assert "you can start" not in done.err


def test_copies_are_not_called_sources(lite: World) -> None:
    """While a run that never switched is undone, what is deleted is what it had copied."""
    planned(lite)
    run(lite, "apply", "p.json", "--yes", "--stage-only")
    killed("marked", "undo", last_run(lite), "--source", "config.yaml", "--yes", cwd=lite.folder)
    said = status(lite)
    assert "sources" not in said.partition("next:")[0]
    assert "copies being deleted: " in said, said


def test_the_files_that_were_given_are_the_ones_that_are_shown(lite: World) -> None:
    planned(lite)
    (lite.folder / "dest.yaml").rename(lite.folder / "new.yaml")
    done = on_terminal("apply", "p.json", "--dest", "new.yaml", cwd=lite.folder, typed="no\n", columns=200)
    assert f"to {lite.folder}/new.yaml" in done.err
    assert f"to {lite.folder}/dest.yaml" not in done.err


def test_the_page_of_a_plan_says_every_step(lite: World) -> None:
    """In an order that works, by paths that hold wherever the page is read; of a plan with nothing to do, none."""
    planned(lite)
    here_too = os.path.relpath(lite.folder / "p.json")
    page = "".join(rendered_plan(open_plan(Path(here_too)), "markdown"))
    own, new, old = (lite.folder / name for name in ("config.yaml", "dest.yaml", "config.old.yaml"))
    steps = [
        f"reconcile apply {lite.folder}/p.json",
        f"cp -p {own} {old}",
        f"cp -p {new} {own}",
        f"reconcile undo {lite.folder}/p.undo.json --source {own} --dest {old}",
    ]
    assert [page.count(step) for step in steps] == [1] * 4
    assert sorted(steps, key=page.index) == steps
    lite.apply("p.json")
    lite.plan(new, new, "nothing.json")
    nothing = "".join(rendered_plan(open_plan(lite.folder / "nothing.json"), "markdown"))
    assert "there is nothing to apply" in nothing
    assert "reconcile apply" not in nothing
    assert "not forecast" not in nothing


def test_what_is_staged_is_switched_by_the_command_that_takes_in_what_came_since(lite: World) -> None:
    """Services ran since: without --refresh the switch would be refused, in the window."""
    planned(lite)
    run(lite, "apply", "p.json", "--yes", "--stage-only")
    lite.sql("UPDATE archive_metadata SET last_updated = 5 WHERE \"archiveId\" = 'sha256:0001'")
    command = re.search(r"next: reconcile (apply .*?)    ", status(lite))
    assert command is not None
    assert command[1].endswith(" --refresh")
    assert f"reconcile {command[1]}" in rendered(lite)
    assert run(lite, *command[1].split(), "--yes").code == 0


def test_what_is_staged_by_a_limited_plan_has_no_refresh(lite: World) -> None:
    """Which such a plan refuses (64)."""
    assert run(lite, "plan", "config.yaml", "dest.yaml", "--limit", "2", "--out", "p.json").code == 0
    said = run(lite, "apply", "p.json", "--yes", "--stage-only").out
    assert "next: stop the services, then: reconcile apply p.json\n" in said
    assert "--refresh" not in status(lite)
    assert run(lite, "apply", "p.json", "--yes").code == 0


def test_who_did_not_wait_for_services_is_given_a_command_that_does(lite: World) -> None:
    planned(lite)
    beat = {"hostid": "h", "servicename": "s", "base_url": "u", "status": True, "heartbeat": int(time.time())}
    lite.insert("services", beat)
    result = run(lite, "apply", "p.json", "--yes", "--wait-for-services", "0")
    assert result.code == 11
    command = re.search(r"next: stop them, then: (reconcile apply \S+)    # waits for their heartbeats", result.err)
    assert command is not None, result.err


def test_the_report_of_an_undo_under_way_has_how_to_go_on(lite: World) -> None:
    planned(lite)
    assert run(lite, "apply", "p.json", "--yes").code == 0
    killed("recorded", "undo", "p.undo.json", "--yes", cwd=lite.folder)
    said = rendered(lite)
    assert "Resume it" in said
    assert "Abandon it: its copies are deleted" in said
    command = json.loads(run(lite, "report", "--format", "json", "--source", "config.yaml").out)["resume"]
    assert run(lite, *shlex.split(command)[1:], "--yes").code == 0


def test_an_undo_with_changes_says_that_it_gives_another_up(lite: World) -> None:
    planned(lite)
    assert run(lite, "apply", "p.json", "--yes").code == 0
    killed("recorded", "undo", "p.undo.json", "--yes", cwd=lite.folder)
    result = on_terminal("undo", "p.undo.json", "--with-changes", cwd=lite.folder, typed="no\n")
    assert "an unfinished undo, is replaced by this one" in result.all
    assert "resuming" not in result.all


def test_a_document_that_changed_does_not_count_as_staged(lite: World) -> None:
    planned(lite)
    run(lite, "apply", "p.json", "--yes", "--limit", "5")
    lite.sql("UPDATE archive_metadata SET last_updated = 5")
    assert run(lite, "apply", "p.json", "--yes").code == 4
    counts = json.loads(run(lite, "status", "--format", "json", "--source", "config.yaml").out)["states"]
    assert counts["changed"]["documents"] > 0
    staged = counts.get("staged", {"documents": 0})["documents"]
    assert f"; {staged} of 6 documents are staged" in status(lite)


def test_a_clean_while_the_run_goes_on_is_told_to_watch(lite: World) -> None:
    planned(lite)
    stage_only(lite, open_plan(lite.folder / "p.json"))
    with opened(lite) as catalog, run_lock(catalog, 5):
        result = run(lite, "clean", last_run(lite), "--source", "config.yaml", "--yes")
    assert result.code == 1
    assert "--watch" in result.err
    assert "resumes it" not in result.err


def test_the_end_of_a_run_that_keeps_its_sources_says_how_they_go(lite: World) -> None:
    planned(lite)
    said = run(lite, "apply", "p.json", "--yes", "--keep-source").out
    lines = re.findall(r"(?m)^  (cp -p .*)$", said)
    assert len(lines) == 2
    for line in lines:
        subprocess.run(line, shell=True, check=True, cwd=lite.folder)
    command = re.search(r"all sources are kept; to delete them: reconcile (.*)", said)
    assert command is not None, said
    assert run(lite, *shlex.split(command[1]), "--max-rate", "1000", "--yes").out.startswith("run ")
    assert "deleted" in status(lite)


def test_a_config_that_is_not_the_one_planned_with_is_not_replaced_in_silence(lite: World) -> None:
    planned(lite)
    assert run(lite, "apply", "p.json", "--yes").code == 0
    lite.config("other", localfs(lite.folder / "other"))
    result = run(lite, "undo", "p.undo.json", "--yes", "--dest", "other.yaml")
    assert result.code == 0
    assert "the given file is not the config that the plan was made with" in result.err
    assert '"given": "other.yaml"' in result.err


def test_a_data_dir_whose_file_system_is_too_small(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lite.config("dest", localfs(lite.folder / "archive"))
    usage = shutil.disk_usage(lite.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    said = run(lite, "plan", "config.yaml", "dest.yaml", "--out", "p.json").out
    assert re.search(r"WARNING: dest.object_store: the file system of \S+ has 1000 B free on this machine", said)


def rendered(world: World) -> str:
    return html.unescape("".join(rendered_report(verbs.report(source=world.folder / "config.yaml"), "html")))
