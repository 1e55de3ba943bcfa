"use strict";
// One page that asks its own server how the run is, and shows the answer as text.
(() => {
  const EVERY = 2000;
  const SVG = "http://www.w3.org/2000/svg";
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  const at = (id) => document.getElementById(id);
  const say = (id, text) => { if (at(id).textContent !== text) at(id).textContent = text; };
  const number = (value) => value.toLocaleString("en", { maximumFractionDigits: 0 });
  const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

  function bytes(size) {
    let unit = 0;
    while (size >= 1024 && unit < UNITS.length - 1) { size /= 1024; unit += 1; }
    return (unit ? size.toFixed(1) : String(Math.round(size))) + " " + UNITS[unit];
  }

  function seconds(value) {
    const whole = Math.round(value);
    if (whole < 120) return `${whole} s`;
    const minutes = Math.round(whole / 60);
    return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }

  function made(name, text, kind = "") {
    const node = document.createElement(name);
    node.textContent = text;
    if (kind) node.className = kind;
    return node;
  }

  function drawn(name, attributes, text = "") {
    const node = document.createElementNS(SVG, name);
    Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
    node.textContent = text;
    return node;
  }

  function plot(speeds) {
    const most = Math.max(1, ...speeds.map((speed) => speed.documents_per_second));
    const first = speeds.length ? speeds[0].at : 0, last = speeds.length ? speeds[speeds.length - 1].at : 1;
    const x = (time) => 70 + (time - first) / Math.max(1, last - first) * 930;
    const y = (value) => 190 - value / most * 176;
    const parts = [0, .5, 1].flatMap((share) => [
      drawn("line", { class: "grid", x1: 70, x2: 1000, y1: y(most * share), y2: y(most * share) }),
      drawn("text", { class: "quiet", x: 62, y: y(most * share) + 4, "text-anchor": "end" }, number(most * share)),
    ]);
    const phases = [...new Set(speeds.map((speed) => speed.phase))];
    phases.forEach((phase, i) => {
      const points = speeds.filter((speed) => speed.phase === phase).map((speed) => `${x(speed.at)},${y(speed.documents_per_second)}`);
      parts.push(drawn("polyline", { class: `line l${i % 8}`, points: points.join(" ") }));
    });
    at("plot").replaceChildren(...parts);
    say("caption", speeds.length ? `${phases.join(", ")}; ${speeds.length} samples` : "No samples yet.");
  }

  function show(data) {
    const status = data.status;
    document.title = `reconcile: ${data.headline}`;
    say("headline", data.headline);
    say("state", data.state);
    at("verdict").className = `verdict ${data.kind}`;
    if (!status.run) return;
    say("run", `Run ${status.run.run_id}`);
    say("who", status.at_work ? `Executed by ${status.run.executor}` : `Last executed by ${status.run.executor}; no process is working on it now`);
    const { done, total } = status;
    say("done", `${number(done.documents)} of ${number(total.documents)}`);
    say("bytes", `${bytes(done.bytes)} of ${bytes(total.bytes)}`);
    const rate = status.at_work ? status.rate : null;
    say("rate", rate ? `${number(rate.documents_per_second)}/s` : "–");
    say("throughput", rate ? `${bytes(rate.bytes_per_second)}/s` : status.finished ? "it has ended" : "no process is working");
    say("left", status.at_work && status.seconds_left !== null ? seconds(status.seconds_left) : "–");
    const failed = (status.states.failed || { documents: 0 }).documents, blocked = (status.states.blocked || { documents: 0 }).documents;
    say("failed", number(failed));
    say("blocked", blocked ? `${number(blocked)} blocked` : "");
    at("failures").className = failed ? "tile warning" : "tile";
    say("to-type", status.at_work ? "What to type if it stops" : "What to type next");
    say("next", status.next);
    at("phases").replaceChildren(...data.phases.map((phase) => {
      const item = made("li", "", phase.is_over ? "over" : phase.is_now ? "now" : "");
      item.append(made("strong", phase.name), made("span", phase.said));
      return item;
    }));
    at("troubles").replaceChildren(...status.troubles.map((one) => made("li", `${one.document}: ${one.reason}`)));
    plot(data.speeds);
  }

  let heard = null;
  async function ask() {
    const time = new Date().toLocaleTimeString();
    try {
      const answer = await fetch("data", { headers: token ? { Authorization: `Bearer ${token}` } : {}, cache: "no-store" });
      const data = await answer.json();
      if (!answer.ok) throw new Error(data.error);
      heard = time;
      show(data);
      say("asked", `As of ${time}. Updated every ${EVERY / 1000} seconds; this page changes nothing.`);
    } catch (error) {
      at("verdict").className = "verdict bad";
      say("state", error instanceof TypeError ? "reconcile status --serve does not answer; it may have ended" : error.message);
      say("asked", heard ? `Last update at ${heard}. Trying again…` : "Trying again…");
    }
    setTimeout(ask, EVERY);
  }
  ask();
})();
