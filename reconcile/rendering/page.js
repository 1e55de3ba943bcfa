"use strict";
// Tables that sort, filter and page. Everything is shown as text: no markup is ever made of what a page holds.
(() => {
  const PAGE = 25;
  const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

  function bytes(size) {
    let unit = 0;
    while (size >= 1024 && unit < UNITS.length - 1) { size /= 1024; unit += 1; }
    return (unit ? size.toFixed(1) : String(size)) + " " + UNITS[unit];
  }

  function shown(value, kind) {
    if (value === null) return "";
    if (typeof value === "number") return kind === "bytes" ? bytes(value) : value.toLocaleString("en");
    return value;
  }

  function element(name, settings = {}, ...children) {
    const made = Object.assign(document.createElement(name), settings);
    made.append(...children);
    return made;
  }

  function compare(a, b) {
    if (a === b) return 0;
    if (a === null) return -1;
    if (b === null) return 1;
    return a < b ? -1 : 1;
  }

  function enliven(box) {
    const source = document.getElementById(box.dataset.rows);
    const data = JSON.parse(source.textContent);
    source.remove();
    const { kinds, total, rest, title } = data.about;
    const body = box.querySelector("tbody");
    const heads = [...box.querySelectorAll("th")];
    const words = heads.map((head) => head.className);
    const titles = heads.map((head) => head.textContent);
    let rows = data.rows, page = 0, sorted = -1, down = false, texts = null;

    const said = element("span", { className: "quiet" });
    said.setAttribute("role", "status");
    const filter = element("input", { type: "search", placeholder: "Filter", spellcheck: false });
    filter.setAttribute("aria-label", "Filter: " + title);
    const tools = element("div", { className: "tools" }, filter, said);
    const back = element("button", { type: "button", textContent: "Previous" });
    const on = element("button", { type: "button", textContent: "Next" });
    const place = element("span");
    const pages = element("div", { className: "pages" }, back, on, place);
    box.querySelector(".shown").remove();
    if (data.rows.length > 5) box.prepend(tools);
    box.append(pages);

    function cell(i, value) {
      const made = element("td", { className: words[i], textContent: shown(value, kinds[i]) });
      made.dataset.title = titles[i];
      return made;
    }

    function draw() {
      const last = Math.max(0, Math.ceil(rows.length / PAGE) - 1);
      page = Math.min(page, last);
      body.replaceChildren(...rows.slice(page * PAGE, (page + 1) * PAGE).map((row) =>
        element("tr", {}, ...row.map((value, i) =>
          cell(i, value)))));
      const all = data.rows.length;
      let text = filter.value ? `${rows.length.toLocaleString("en")} of ${all.toLocaleString("en")} match` : `${all.toLocaleString("en")} rows`;
      if (all < total) text += `: an even sample of ${total.toLocaleString("en")}. ${rest}`;
      said.textContent = text;
      pages.hidden = last === 0;
      back.disabled = page === 0;
      on.disabled = page === last;
      place.textContent = `Page ${page + 1} of ${last + 1}`;
    }

    function select() {
      const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      texts ??= wanted.length ? data.rows.map((row) => row.join("\n").toLowerCase()) : null;
      rows = wanted.length ? data.rows.filter((_row, i) => wanted.every((word) => texts[i].includes(word))) : [...data.rows];
      if (sorted >= 0) rows.sort((a, b) => (down ? -1 : 1) * compare(a[sorted], b[sorted]));
      page = 0;
      draw();
    }

    heads.forEach((head, i) => {
      const button = element("button", { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        down = sorted === i ? !down : kinds[i] === "number" || kinds[i] === "bytes";
        sorted = i;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        select();
      });
    });
    let timer = 0;
    filter.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(select, 120); });
    back.addEventListener("click", () => { page -= 1; draw(); });
    on.addEventListener("click", () => { page += 1; draw(); });
    draw();
  }

  document.querySelectorAll(".table").forEach(enliven);
})();
