// The table of all rows: sorting, filters, columns, picking two, downloads of what is shown.
"use strict";

starts.push(allRows);

const FIRST = 500;

function allRows() {
  const table = byId("rows"), body = table.tBodies[0];
  const rows = [...body.rows];
  const names = [...table.tHead.rows[0].cells].map((head) => head.dataset.name || "");
  const filters = [...document.querySelectorAll("[data-filter]")];
  const columns = [...document.querySelectorAll("[data-column]")];
  const usual = columns.filter((box) => box.checked).map((box) => box.dataset.name).join(" ");
  const cache = new Map();
  const asBuilt = rows.map((_, at) => at);
  let order = { column: 0, descending: false, places: asBuilt };
  let fits = rows.map(() => true);
  let all = false;
  let picked = [];

  const cells = (column) => {
    if (!cache.has(column)) {
      const texts = rows.map((row) => row.cells[column].textContent.trim());
      cache.set(column, { texts, keys: texts.map(sortKey) });
    }
    return cache.get(column);
  };

  function sort(column, descending) {
    const moved = column > 0 || order.column > 0;
    order = { column, descending, places: column === 0 ? asBuilt : ranked(cells(column).keys, descending) };
    arrange();
    if (moved) body.append(...order.places.map((at) => rows[at]));
    pointAt(table, column, descending);
  }

  // Of a long table the first lines are shown, until a reader asks for all: laying out thousands takes a second.
  function arrange() {
    let count = 0;
    for (const at of order.places) {
      const hidden = !fits[at] || (!all && count >= FIRST);
      if (rows[at].hidden !== hidden) rows[at].hidden = hidden;
      count += fits[at];
    }
    const cut = !all && count > FIRST;
    byId("count").textContent = `${count} of ${rows.length} rows${cut ? `, the first ${FIRST} shown` : ""}`;
    byId("all").hidden = !cut;
  }

  function has(text, word) {
    return word === "-" ? text === "" : text === word || text.split(", ").includes(word);
  }

  function filter() {
    const wanted = filters.filter((one) => one.value).map((one) => [names.indexOf(one.dataset.filter), one.value]);
    const find = byId("find").value.trim().toLowerCase();
    fits = rows.map((row, at) => wanted.every(([column, word]) => has(cells(column).texts[at], word))
      && (!find || row.textContent.toLowerCase().includes(find)));
    arrange();
  }

  function chosenRows() {
    return order.places.filter((at) => fits[at]).map((at) => rows[at]);
  }

  function show() {
    for (const box of columns) table.classList.toggle(`h${box.dataset.column}`, !box.checked);
  }

  function tell() {
    const facts = new URLSearchParams();
    for (const one of filters) if (one.value) facts.set(one.dataset.filter, one.value);
    if (byId("find").value) facts.set("find", byId("find").value);
    if (order.column) facts.set("sort", (order.descending ? "-" : "") + names[order.column]);
    const chosen = columns.filter((box) => box.checked).map((box) => box.dataset.name).join(" ");
    if (chosen !== usual) facts.set("columns", chosen);
    if (picked.length) facts.set("pick", picked.join(" "));
    if (all) facts.set("all", "1");
    keep(facts);
  }

  function pick() {
    for (const row of rows) row.cells[0].firstElementChild.checked = picked.includes(row.id);
    byId("tray").hidden = picked.length === 0;
    byId("picked").textContent = picked.length === 1 ? `${picked[0]}: pick a second row` : picked.join(" and ");
    byId("compare").hidden = picked.length !== 2;
    byId("compare").href = `compare.html#${new URLSearchParams({ a: picked[0] || "", b: picked[1] || "" })}`;
  }

  function read() {
    const facts = state();
    for (const one of filters) {
      const value = facts.get(one.dataset.filter) || "";
      one.value = [...one.options].some((option) => option.value === value) ? value : "";
    }
    byId("find").value = facts.get("find") || "";
    const chosen = (facts.get("columns") ?? usual).split(" ");
    for (const box of columns) box.checked = chosen.includes(box.dataset.name);
    const by = facts.get("sort") || "";
    const known = new Set(rows.map((row) => row.id));
    picked = (facts.get("pick") || "").split(" ").filter((id) => known.has(id)).slice(0, 2);
    all = facts.get("all") === "1";
    show();
    sort(Math.max(0, names.indexOf(by.replace(/^-/, "") || "none")), by.startsWith("-"));
    filter();
    pick();
  }

  function reset() {
    keep(new URLSearchParams());
    read();
  }

  headings(table, (column, descending) => { sort(column, descending); tell(); });
  for (const one of filters) one.addEventListener("change", () => { filter(); tell(); });
  for (const box of columns) box.addEventListener("change", () => { show(); tell(); });
  byId("find").addEventListener("input", () => { filter(); tell(); });
  byId("all").addEventListener("click", () => { all = true; arrange(); tell(); });
  byId("reset").addEventListener("click", reset);
  byId("unpick").addEventListener("click", () => { picked = []; pick(); tell(); });
  body.addEventListener("change", (event) => {
    const id = event.target.closest("tr").id;
    picked = event.target.checked ? [...picked, id].slice(-2) : picked.filter((one) => one !== id);
    pick();
    tell();
  });
  byId("csv").addEventListener("click", () => save("ecgbench.csv", "text/csv", csv(table, chosenRows())));
  byId("json").addEventListener("click", async () => {
    await load("data/results.js");
    const known = new Map(ecgbench.all.map((row) => [row.id, row]));
    const chosen = chosenRows().map((row) => known.get(row.id));
    save("ecgbench.json", "application/json", JSON.stringify(chosen, null, 1) + "\n");
  });
  addEventListener("hashchange", () => { if (location.hash !== written) read(); });
  read();
}

// These rows, in the columns that are shown.
function csv(table, rows) {
  const heads = [...table.tHead.rows[0].cells];
  const columns = heads.filter((head) => head.dataset.name && getComputedStyle(head).display !== "none");
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = [["row", ...columns.map((head) => head.dataset.name)]];
  for (const row of rows) lines.push([row.id, ...columns.map((head) => row.cells[head.cellIndex].textContent.trim())]);
  return lines.map((line) => line.map(quoted).join(",") + "\r\n").join("");
}
