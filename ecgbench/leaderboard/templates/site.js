// The script of a board: nothing on the site needs it but sorting, filters, comparison and copying.
"use strict";

const root = document.currentScript.dataset.root;
const page = document.documentElement;
page.classList.add("scripted");

// What data files hand over, by the name of what they hold.
const ecgbench = {
  rows: new Map(), sampleSets: new Map(), drawn: new Map(), comparisons: new Map(), known: [], all: [],
  row(one) { this.rows.set(one.id, one); },
  samples(one) { this.sampleSets.set(one.name, one); },
  draws(one) { this.drawn.set(one.groups, bytes(one.times)); },
  pairs(one) { this.comparisons.set(one.name, one); },
  index(all) { this.known = all; },
  results(all) { this.all = all; },
};
window.ecgbench = ecgbench;

const byId = (id) => document.getElementById(id);

function element(name, facts = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(facts)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function bytes(text) {
  return Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
}

// A page on a disk may load no other kind of file than scripts.
const loading = new Map();
function load(path) {
  if (!loading.has(path)) {
    loading.set(path, new Promise((done, failed) => {
      const script = element("script", { src: root + path });
      script.onload = done;
      script.onerror = () => failed(new Error(`${path} cannot be read.`));
      document.head.append(script);
    }));
  }
  return loading.get(path);
}

function save(name, type, text) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function remember(name, value) {
  try { localStorage.setItem(name, value); } catch { /* a browser may keep nothing of a file */ }
}

function remembered(name) {
  try { return localStorage.getItem(name); } catch { return null; }
}

// The address keeps the state, so that a link shows what was seen.
function state() {
  return new URLSearchParams(location.hash.slice(1));
}

let written = null;
function keep(facts) {
  written = "#" + facts.toString();
  history.replaceState(null, "", written === "#" ? location.pathname + location.search : written);
}

// ------------------------------------------------------------------------------------------------ light and dark

function isDark() {
  return page.dataset.theme ? page.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

const theme = remembered("ecgbench-theme");
if (theme === "dark" || theme === "light") page.dataset.theme = theme;

function switches() {
  const button = document.querySelector("[data-theme-switch]");
  const say = () => button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", () => {
    page.dataset.theme = isDark() ? "light" : "dark";
    remember("ecgbench-theme", page.dataset.theme);
    say();
  });
  say();
}

// ------------------------------------------------------------------------------------------------ copying

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = element("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  const said = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = said; }, 1500);
}

function copies() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => copy(byId(button.dataset.copy).textContent, button));
  }
  const link = byId("link");
  if (link) link.addEventListener("click", () => copy(location.href, link));
}

// ------------------------------------------------------------------------------------------------ sorting

const NUMBER = /^\[?[+−-]?\d+(\.\d+)?(e[+-]?\d+)?/i;
const words = new Intl.Collator("en", { numeric: true });

// What a cell is sorted by: a number where it begins with one, else its text; null for an empty one.
function sortKey(text) {
  const number = NUMBER.exec(text);
  if (number) return Number(number[0].replace("[", "").replace("−", "-"));
  return text === "" || text === "—" ? null : text;
}

// The places of keys in their order: empty ones last, numbers before words; equal ones keep their order.
function ranked(keys, descending) {
  const order = keys.map((_, at) => at);
  const turn = descending ? -1 : 1;
  order.sort((one, other) => {
    const a = keys[one], b = keys[other];
    if (a === null || b === null) return (a === null) - (b === null) || one - other;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    const found = typeof a === "number" ? a - b : words.compare(a, b);
    return turn * found || one - other;
  });
  return order;
}

// Puts a button into each heading; `sort(column, descending)` is called when one is pressed.
function headings(table, sort) {
  for (const head of table.tHead.rows[0].cells) {
    if (head.classList.contains("pick") || !head.textContent.trim()) continue;
    const button = element("button", { type: "button" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const was = head.getAttribute("aria-sort");
      const first = head.classList.contains("number") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      sort(head.cellIndex, (was === first ? other : first) === "descending");
    });
  }
}

function pointAt(table, column, descending) {
  for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
  if (column > 0 || !table.id) {
    table.tHead.rows[0].cells[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
  }
}

function plainTables() {
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    if (table.tBodies[0].rows.length < 2) continue;
    headings(table, (column, descending) => {
      const rows = [...table.tBodies[0].rows];
      const keys = rows.map((row) => sortKey(row.cells[column].textContent.trim()));
      table.tBodies[0].append(...ranked(keys, descending).map((at) => rows[at]));
      pointAt(table, column, descending);
    });
  }
}

// ------------------------------------------------------------------------------------------------ all rows

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

// ------------------------------------------------------------------------------------------------ comparison

function bit(packed, at) {
  return (packed[at >> 3] >> (7 - (at & 7))) & 1;
}

// The share at `part` of sorted values, between two of them in proportion.
function quantile(values, part) {
  const place = (values.length - 1) * part, low = Math.floor(place);
  const high = Math.min(low + 1, values.length - 1);
  return values[low] + (place - low) * (values[high] - values[low]);
}

// Weight of samples by group and by who is right: neither, only B, only A, both.
function totals(a, b, samples) {
  const unit = bytes(samples.unit);
  const weight = typeof samples.weight === "number" ? null : new Float32Array(bytes(samples.weight).buffer);
  const table = new Float64Array(4 * samples.groups);
  for (let at = 0; at < samples.n; at += 1) {
    table[4 * unit[at] + 2 * bit(a, at) + bit(b, at)] += weight ? weight[at] : samples.weight;
  }
  return table;
}

function gain(cells) {
  return (cells[2] - cells[1]) / (cells[0] + cells[1] + cells[2] + cells[3]);
}

// The paired bootstrap over groups: the draws are the host's, so the interval is, too.
function paired(a, b, samples, times) {
  const table = totals(a, b, samples), groups = samples.groups;
  const tally = (count) => {
    const cells = [0, 0, 0, 0];
    for (let group = 0; group < groups; group += 1) {
      for (let cell = 0; cell < 4; cell += 1) cells[cell] += count(group) * table[4 * group + cell];
    }
    return gain(cells);
  };
  const drawn = [];
  for (let draw = 0; draw < times.length / groups; draw += 1) drawn.push(tally((group) => times[draw * groups + group]));
  drawn.sort((one, other) => one - other);
  return { difference: tally(() => 1), interval: [quantile(drawn, 0.025), quantile(drawn, 0.975)], p: null };
}

// By eps the difference, its interval and p-value; null where only the command line has them.
async function differences(a, b) {
  await load(`data/samples-${a.samples}.js`);
  const samples = ecgbench.sampleSets.get(a.samples);
  if (samples.paired) {
    await load(`data/pairs-${a.samples}.js`);
    const made = ecgbench.comparisons.get(a.samples);
    const found = a.id === b.id ? null : made.pairs[`${a.id} ${b.id}`];
    const rows = (found || []).map(([eps, difference, interval, p]) => ({ eps, difference, interval, p }));
    return { method: made.method, rows };
  }
  if (samples.groups === null) return null;
  await load(`data/draws-${samples.groups}.js`);
  const times = ecgbench.drawn.get(samples.groups);
  const rows = a.eps.filter((eps) => b.eps.includes(eps)).map((eps) => {
    const right = [a, b].map((row) => bytes(row.right[row.eps.indexOf(eps)]));
    return { eps, ...paired(...right, samples, times) };
  });
  const some = samples.groups === 1 ? "1 group, whose intervals mean nothing" : `${samples.groups} groups`;
  return { method: `paired bootstrap over ${some}`, rows };
}

function signed(value) {
  const text = Math.abs(value).toFixed(3);
  return (value < 0 && Number(text) !== 0 ? "−" : "+") + text;
}

function choose(select, ids, chosen) {
  select.replaceChildren(element("option", { value: "" }, "choose a row"));
  for (const [id, label] of ids) select.append(element("option", { value: id }, `${label} · ${id}`));
  select.value = ids.some(([id]) => id === chosen) ? chosen : "";
}

async function compareRows() {
  await load("data/index.js");
  const known = new Map(ecgbench.known.map((one) => [one[0], one]));
  const [first, second] = [byId("a"), byId("b")];

  async function show() {
    const facts = new URLSearchParams();
    if (first.value) facts.set("a", first.value);
    if (second.value) facts.set("b", second.value);
    keep(facts);
    if (first.value && second.value) await draw(first.value, second.value);
    else clear(first.value ? "Choose a second row; only those on the same samples are offered." : "Choose two rows.");
  }

  function rivals(chosen) {
    const samples = known.get(first.value)?.[2];
    choose(second, ecgbench.known.filter(([id, , on]) => id !== first.value && (!samples || on === samples)), chosen);
  }

  function read() {
    const facts = state();
    choose(first, ecgbench.known, facts.get("a"));
    const wanted = facts.get("b"), samples = known.get(first.value)?.[2];
    rivals(wanted);
    if (wanted && first.value && known.has(wanted) && known.get(wanted)[2] !== samples) {
      clear("These two rows did not meet the same samples, so they cannot be compared sample by sample.");
      return undefined;
    }
    return show();
  }

  first.addEventListener("change", () => { rivals(second.value); show(); });
  second.addEventListener("change", show);
  byId("swap").addEventListener("click", () => {
    const [a, b] = [first.value, second.value];
    if (!b) return;
    first.value = b;
    rivals(a);
    show();
  });
  addEventListener("hashchange", () => { if (location.hash !== written) read(); });
  await read();
}

function clear(said) {
  byId("said").textContent = said;
  byId("differences").hidden = true;
  byId("chart").replaceChildren();
  byId("method").textContent = "";
}

async function draw(idA, idB) {
  await Promise.all([load(`rows/${idA}.js`), load(`rows/${idB}.js`)]);
  const [a, b] = [ecgbench.rows.get(idA), ecgbench.rows.get(idB)];
  const found = await differences(a, b);
  const body = byId("differences").tBodies[0];
  body.replaceChildren();
  byId("chart").replaceChildren(chart([a, b]));
  byId("differences").hidden = found === null;
  if (found === null) {
    byId("said").textContent = "Too many rows share these samples for every pair to be compared here; the command line does it.";
    return;
  }
  for (const { eps, difference, interval, p } of found.rows) {
    const acc = [a, b].map((row) => row.acc[row.eps.indexOf(eps)].toFixed(3));
    const texts = [eps === 0 ? "0, clean" : String(eps), ...acc, signed(difference)];
    const cells = texts.map((text) => element("td", { class: "number" }, text));
    cells.push(element("td", {}, `[${interval.map(signed).join(", ")}]`));
    cells.push(element("td", { class: "number" }, p === null ? "—" : p < 1e-3 ? p.toExponential(1) : String(Number(p.toPrecision(2)))));
    const line = element("tr", {}, ...cells);
    line.dataset.eps = eps;
    line.dataset.difference = difference;
    line.dataset.interval = JSON.stringify(interval);
    body.append(line);
  }
  byId("said").textContent = verdict(found.rows);
  byId("method").textContent = `Method: ${found.method}, 1000 draws. An interval at one eps: nothing is corrected for looking at several.`;
}

function verdict(rows) {
  const sure = rows.filter(({ interval: [low, high] }) => low > 0 || high < 0);
  if (!sure.length) return "At no eps does the 95 % interval leave out 0: the two are not distinguishable here.";
  const say = (better) => {
    const at = sure.filter(({ difference }) => (difference > 0) === better).map(({ eps }) => (eps === 0 ? "clean" : `eps ${eps}`));
    return at.length ? [`${better ? "A" : "B"} is better at ${at.join(", ")}`] : [];
  };
  return `${[...say(true), ...say(false)].join("; ")}, by 95 % intervals.`;
}

// ------------------------------------------------------------------------------------------------ curves of two rows

function drawn(name, facts, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(facts)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function chart(rows) {
  const last = Math.max(...rows.flatMap((row) => row.eps)) || 1;
  const x = (eps) => (44 + (470 * eps) / last).toFixed(1);
  const y = (share) => (12 + 236 * (1 - share)).toFixed(1);
  const svg = drawn("svg", {
    class: "curves", viewBox: "0 0 600 292", role: "img", "aria-label": "Accuracy of A and B over eps; the table has the numbers.",
  });
  for (const share of [0, 0.2, 0.4, 0.6, 0.8, 1]) {
    svg.append(drawn("line", { class: "grid", x1: 44, x2: 514, y1: y(share), y2: y(share) }));
    svg.append(drawn("text", { class: "tick end", x: 38, y: Number(y(share)) + 4 }, share.toFixed(1)));
  }
  let before = Infinity;
  for (const eps of [...new Set(rows.flatMap((row) => row.eps))].sort((a, b) => b - a)) {
    if (before - eps < 0.07 * last) continue;
    before = eps;
    svg.append(drawn("line", { class: "mark", x1: x(eps), x2: x(eps), y1: 248, y2: 253 }));
    svg.append(drawn("text", { class: "tick middle", x: x(eps), y: 266 }, String(eps)));
  }
  const unit = rows[0].unit === "1" ? "" : ` ${rows[0].unit}`;
  svg.append(drawn("text", { class: "axis middle", x: 279, y: 287 }, `eps${unit}`));
  const ends = rows.map((row) => Number(y(row.acc.at(-1))));
  if (Math.abs(ends[0] - ends[1]) < 14) ends[ends[0] <= ends[1] ? 0 : 1] = Math.max(...ends) - 14;
  rows.forEach((row, at) => {
    const line = row.eps.map((eps, place) => `${x(eps)},${y(row.acc[place])}`);
    const low = row.eps.map((eps, place) => `${x(eps)},${y(row.interval[place][0])}`);
    const high = row.eps.map((eps, place) => `${x(eps)},${y(row.interval[place][1])}`).reverse();
    const group = drawn("g", { class: `series s${at}` });
    group.append(drawn("polygon", { class: "band", points: [...low, ...high].join(" ") }));
    group.append(drawn("polyline", { points: line.join(" ") }));
    for (const point of line) {
      const [cx, cy] = point.split(",");
      group.append(drawn("circle", { cx, cy, r: 3.2 }));
    }
    group.append(drawn("text", { x: Number(x(row.eps.at(-1))) + 10, y: ends[at] + 4 }, "AB"[at]));
    svg.append(group);
  });
  return svg;
}

document.addEventListener("DOMContentLoaded", () => {
  switches();
  copies();
  plainTables();
  if (document.body.dataset.page === "rows") allRows();
  if (document.body.dataset.page === "compare") compareRows();
});
