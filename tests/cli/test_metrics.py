"""``--metrics-file`` and ``--metrics-push``: what other programs read of a run, checked by those programs."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.archives import new_sqlite
from tests.cli.desk import filled, last_run, planned
from tests.cli.runner import here, killed, reconcile
from tests.servers.moto import MotoServer
from tests.world import World, s3

REPOSITORY = Path(__file__).parents[2]
MONITORING = REPOSITORY / "deploy" / "monitoring"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")


@pytest.fixture
def lite(folder: Path) -> World:
    return filled(World(folder, new_sqlite(folder)))


def parsed(text: str) -> dict[tuple[str, ...], float]:
    """Return the samples of an exposition by name and the values of their labels, in the order of the labels' names."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(world: World) -> dict[tuple[str, ...], float]:
    return parsed((world.folder / "m.prom").read_text())


def promtool(*arguments: str, given: str = "") -> str:
    done = subprocess.run([PROMTOOL or "", *arguments], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Gateway(BaseHTTPRequestHandler):
    """What a Pushgateway is to those who push: it takes whatever is put."""

    seen: ClassVar[list[tuple[str, str, str | None, str]]]
    status = 200

    def do_PUT(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.seen.append((self.command, self.path, self.headers.get("Authorization"), text))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[type[Gateway]]:
    class Mine(Gateway):
        seen: ClassVar[list[tuple[str, str, str | None, str]]] = []
        port = 0

    server = ThreadingHTTPServer(("127.0.0.1", 0), Mine)
    Mine.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Mine
    server.shutdown()
    server.server_close()


def test_each_verb_has_its_metrics(lite: World, moto: MotoServer) -> None:
    """Documents and bytes by phase, backend and state; requests by store; the exit code."""
    lite.config("dest", s3(moto, "metrics"))
    file = ("--metrics-file", "m.prom")
    assert here("plan", "config.yaml", "dest.yaml", "--out", "p.json", *file, cwd=lite.folder).code == 0
    assert read(lite)["reconcile_exit_code",] == 0
    lite.insert("services", {"hostid": "a", "servicename": "catalog", "base_url": "u", "status": True, "heartbeat": 1})
    assert here("apply", "p.json", "--yes", *file, cwd=lite.folder).code == 0
    found = read(lite)
    size = found["reconcile_document_bytes_total", "dest.object_store", "stage", "staged"]
    assert size == sum(len(content) for content in lite.read(lite.folder / "dest.yaml").values())
    assert found["reconcile_documents_total", "dest.object_store", "stage", "staged"] == 6
    assert found["reconcile_documents_total", "source.object_store", "clean", "deleted"] == 6
    assert found["reconcile_store_requests_total", "s3"] >= 6
    assert found["reconcile_switched_timestamp_seconds",] <= found["reconcile_ended_timestamp_seconds",]
    assert found["reconcile_downtime_seconds",] > 60
    run = last_run(lite)
    assert [key[1] for key in found if key[0] == "reconcile_info"] == [run]
    assert not [key for key in found if key[0] == "reconcile_phase"]
    assert here("verify", "dest.yaml", *file, cwd=lite.folder).code == 0
    assert read(lite)["reconcile_documents_total", "object_store", "verify", "intact"] == 6
    assert here("undo", "p.undo.json", "--yes", *file, cwd=lite.folder).code == 0
    assert read(lite)["reconcile_documents_total", "dest.object_store", "stage", "staged"] == 6


def test_failures_are_counted_by_reason_and_a_killed_run_leaves_its_last_state(lite: World) -> None:
    planned(lite)
    lite.sql("UPDATE archive_document SET jsondata = 'other' WHERE \"archiveId\" = 'sha256:0001'")
    assert here("apply", "p.json", "--yes", "--metrics-file", "m.prom", cwd=lite.folder).code == 1
    found = read(lite)
    assert [value for key, value in found.items() if key[0] == "reconcile_failures_total"] == [1]
    assert found["reconcile_exit_code",] == 1
    assert found["reconcile_warnings_total",] >= 1
    options = ("--yes", "--leave-failed", "--metrics-file", "m.prom")
    killed("after the switch", "apply", "p.json", *options, cwd=lite.folder)
    assert read(lite)["reconcile_exit_code",] == -1


def test_what_is_refused_has_its_exit_code(lite: World) -> None:
    result = here("apply", "none.json", "--yes", "--metrics-file", "m.prom", cwd=lite.folder)
    assert read(lite)["reconcile_exit_code",] == result.code != 0


def test_bad_input_changes_nothing(lite: World) -> None:
    planned(lite)
    for option, value in (("--metrics-file", "no/such/folder/m.prom"), ("--metrics-push", "pushgateway")):
        result = here("apply", "p.json", "--yes", option, value, cwd=lite.folder)
        assert (result.code, option in result.err) == (64, True), result.all
    assert here("runs", "--source", "config.yaml", cwd=lite.folder).out.startswith("no run")


def test_pushes_to_a_gateway(lite: World, gateway: Any) -> None:
    """With a user and a password, which are said to nobody else (R8)."""
    planned(lite)
    url = f"http://someone:canary%2Fof-metrics@127.0.0.1:{gateway.port}"
    done = reconcile(
        *("--verbose", "apply", "p.json", "--yes", "--metrics-file", "m.prom", "--events", "e.jsonl"),
        cwd=lite.folder,
        RECONCILE_METRICS_PUSH=url,
    )
    assert done.code == 0
    method, path, authorization, text = gateway.seen[-1]
    assert (method, path.split("/")[:5]) == ("PUT", ["", "metrics", "job", "reconcile", "instance"])
    assert authorization == "Basic " + base64.b64encode(b"someone:canary/of-metrics").decode()
    assert parsed(text)["reconcile_exit_code",] == 0
    same = [(key, value) for key, value in read(lite).items() if not math.isnan(value)]
    assert [(key, parsed(text)[key]) for key, _value in same] == same
    said = done.all + text + (lite.folder / "e.jsonl").read_text() + (lite.folder / "m.prom").read_text()
    assert "canary" not in said


@pytest.mark.parametrize("status", [500, None])
def test_a_gateway_in_trouble_stops_no_run(lite: World, gateway: Any, status: int | None) -> None:
    """It is warned of, once; the password in its URL is not in the warning (R8)."""
    planned(lite)
    gateway.status = status
    port = gateway.port if status else 9
    url = f"http://u:canary-of-metrics@127.0.0.1:{port}"
    done = reconcile("apply", "p.json", "--yes", cwd=lite.folder, RECONCILE_METRICS_PUSH=url)
    assert done.code == 0
    assert done.err.count("metrics could not be written") == 1
    assert "canary" not in done.all


def test_a_link_is_followed_and_what_is_no_file_is_not_replaced(lite: World) -> None:
    real, link, fifo = (lite.folder / name for name in ("real.prom", "link.prom", "fifo"))
    real.touch()
    link.symlink_to(real)
    assert here("verify", "config.yaml", "--metrics-file", "link.prom", cwd=lite.folder).code == 0
    assert link.is_symlink()
    assert "reconcile_exit_code 0.0" in real.read_text()
    os.mkfifo(fifo)
    for name in ("fifo", "/dev/null"):
        result = here("verify", "config.yaml", "--metrics-file", name, cwd=lite.folder)
        assert (result.code, "exists already and is not a file" in result.err) == (64, True)
    assert fifo.is_fifo()


@needs_promtool
def test_promtool_accepts_the_metrics_and_the_alert_rules(lite: World) -> None:
    planned(lite)
    assert here("apply", "p.json", "--yes", "--metrics-file", "m.prom", cwd=lite.folder).code == 0
    promtool("check", "metrics", given=(lite.folder / "m.prom").read_text())
    assert "4 rules found" in promtool("check", "rules", str(MONITORING / "alerts.yaml"))


@needs_promtool
def test_alerts_come_when_they_should(folder: Path) -> None:
    """By promtool's own trial of rules, on series as a run leaves them."""
    quiet = {"eval_time": "4m", "alertname": "ReconcileNoProgress", "exp_alerts": []}

    def case(series: dict[str, str], expected: dict[str, dict[str, str]]) -> dict[str, Any]:
        names = ("ReconcileNoProgress", "ReconcileFailed", "ReconcileDocumentsFail", "ReconcileStoreKeepsFailing")
        return {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "alert_rule_test": [
                {"eval_time": "20m", "alertname": name, "exp_alerts": [{"exp_labels": expected[name]}]}
                if name in expected
                else {"eval_time": "20m", "alertname": name, "exp_alerts": []}
                for name in names
            ],
        }

    one, critical, warning = {"instance": "a"}, {"severity": "critical"}, {"severity": "warning"}
    stuck = {
        'reconcile_exit_code{instance="a"}': "-1x30",
        'reconcile_last_progress_timestamp_seconds{instance="a"}': "0x30",
    }
    goes_on = stuck | {'reconcile_last_progress_timestamp_seconds{instance="a"}': "0+60x30"}
    ended = goes_on | {'reconcile_exit_code{instance="a"}': "1x30"}
    limited = goes_on | {'reconcile_exit_code{instance="a"}': "12x30"}
    fails = goes_on | {'reconcile_failures_total{instance="a",reason="refused"}': "0+1x30"}
    retries = goes_on | {
        'reconcile_store_requests_total{instance="a",scheme="s3"}': "0+100x30",
        'reconcile_store_retries_total{instance="a",scheme="s3"}': "0+50x30",
    }
    cases = [
        case(stuck, {"ReconcileNoProgress": one | warning}),
        case(goes_on, {}),
        case(ended, {"ReconcileFailed": one | critical}),
        case(limited, {}),
        case(fails, {"ReconcileDocumentsFail": one | warning | {"reason": "refused"}}),
        case(retries, {"ReconcileStoreKeepsFailing": one | warning | {"scheme": "s3"}}),
    ]
    for number, trial in enumerate(cases):
        rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
        for rule in rules["groups"][0]["rules"]:
            rule.pop("annotations")  # what they say is not what is tried
        (folder / "alerts.yaml").write_text(yaml.safe_dump(rules))
        trial["alert_rule_test"].append(quiet)
        (folder / f"{number}.yaml").write_text(
            yaml.safe_dump({"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": [trial]})
        )
        promtool("test", "rules", str(folder / f"{number}.yaml"))


def _documented() -> set[str]:
    return set(re.findall(r"(?m)^\| `(reconcile_\w+)` \|", (REPOSITORY / "docs" / "metrics.md").read_text()))


def test_every_metric_is_documented_and_no_other_is_used(lite: World) -> None:
    planned(lite)
    assert here("apply", "p.json", "--yes", "--metrics-file", "m.prom", cwd=lite.folder).code == 0
    families = text_string_to_metric_families((lite.folder / "m.prom").read_text())
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    created = {name for name in names if name.endswith("_created")}
    assert names - created == _documented()
    for file in MONITORING.iterdir():
        assert set(re.findall(r"\breconcile_\w+", file.read_text())) <= _documented(), file


def test_the_dashboard_is_one(lite: World) -> None:
    board = json.loads((MONITORING / "dashboard.json").read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(target["expr"] and "$instance" in target["expr"] for panel in panels for target in panel["targets"])
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
