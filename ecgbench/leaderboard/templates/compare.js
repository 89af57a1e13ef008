// The comparison of two rows on the same samples, by the resamples of the host, and their curves.
"use strict";

starts.push(compareRows);

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
    group.append(drawn("path", { d: line.map((point) => `M${point}h0`).join("") }));
    group.append(drawn("text", { x: Number(x(row.eps.at(-1))) + 10, y: ends[at] + 4 }, "AB"[at]));
    svg.append(group);
  });
  return svg;
}
