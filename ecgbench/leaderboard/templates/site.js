// The script of a board: nothing on the site needs it but sorting, filters, comparison and copying.
// Here is what all pages share; rows.js and compare.js are loaded by their pages alone.
"use strict";

const root = document.currentScript.dataset.root;
const page = document.documentElement;
page.classList.add("scripted");

// What is done when the page is there; the scripts of single pages add to it.
const starts = [switches, copies, plainTables];

// What data files hand over, by the name of what they hold.
const ecgbench = {
  rows: new Map(), sampleSets: new Map(), drawn: new Map(), comparisons: new Map(), known: [], all: [],
  row(one) { this.rows.set(one.id, one); },
  samples(one) { this.sampleSets.set(one.name, one); },
  draws(one) { this.drawn.set(one.groups, Uint8Array.from(one.times, (sign) => sign.charCodeAt(0) - 48)); },
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

document.addEventListener("DOMContentLoaded", () => starts.forEach((start) => start()));
