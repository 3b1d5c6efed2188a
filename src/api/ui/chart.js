// Exact sums of costs, and charts of them. What the API tells is put in as text.
"use strict";

// --- Elements ---

const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function draw(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A table: heads and cells are texts, elements or [class, text, title].
function table(caption, heads, rows, foot) {
  const cell = (name, given, scope) => {
    const attributes = scope ? { scope } : {};
    if (!Array.isArray(given)) return make(name, attributes, given);
    if (given[0]) attributes.class = given[0];
    if (given[2]) attributes.title = given[2];
    return make(name, attributes, given[1]);
  };
  // The first cell of a row says what it is about.
  const row = (cells) => make("tr", {}, ...cells.map((given, at) => (at ? cell("td", given) : cell("th", given, "row"))));
  const made = make("table", {}, make("caption", {}, caption),
    make("thead", {}, make("tr", {}, ...heads.map((head) => cell("th", head, "col")))),
    make("tbody", {}, ...rows.map(row)));
  if (foot) made.append(make("tfoot", {}, row(foot)));
  return made;
}

// --- Decimals ---

// Numbers are counted in units of 10^-28, so that sums are exact.
const SCALE = 28;
const ONE = 10n ** BigInt(SCALE);

// A number of the API, digit for digit as it was written.
function decimal(number) {
  const [, sign, whole, part, exponent] = /^(-?)(\d+)\.?(\d*)(?:e([+-]?\d+))?$/.exec(String(number)) || [];
  if (whole === undefined) return 0n;
  const shift = SCALE - part.length + Number(exponent || 0);
  const digits = BigInt(whole + part);
  const value = shift >= 0 ? digits * 10n ** BigInt(shift) : digits / 10n ** BigInt(-shift);
  return sign ? -value : value;
}

// As text, rounded half up to so many places; with all of them if `places` is null.
function plain(value, places) {
  const negative = value < 0n;
  let size = negative ? -value : value;
  if (places !== null) {
    const step = 10n ** BigInt(SCALE - places);
    size = ((size + step / 2n) / step) * step;
  }
  const part = String(size % ONE).padStart(SCALE, "0");
  const kept = places === null ? part.replace(/0+$/, "") : part.slice(0, places);
  return (negative && size ? "-" : "") + size / ONE + (kept && "." + kept);
}

const near = (value) => Number(value) / Number(ONE);

// --- Charts ---

// Steps of an axis that people like: 1, 2 or 5 times a power of ten.
function steps(low, high) {
  const rough = (high - low || 1) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) || 10);
  const found = [];
  for (let at = Math.floor(low / step); at * step < high + step; at += 1) found.push(at * step);
  return found;
}

// Stacked columns. `data`: names of series, and columns with a name, a position (0, 1,
// ...) and a cost for each series.
function chart(data, width, places, label) {
  const [left, right, top, bottom, height] = [64, 8, 10, 24, 240];
  const shown = data.columns;
  const sum = (column, keep) => column.costs.reduce((total, cost) => (keep(cost) ? total + near(cost) : total), 0);
  const high = Math.max(0, ...shown.map((column) => sum(column, (cost) => cost > 0n)));
  const low = Math.min(0, ...shown.map((column) => sum(column, (cost) => cost < 0n)));
  const ticks = steps(low, high || (low ? 0 : 1));
  const [first, last] = [ticks[0], ticks[ticks.length - 1]];
  const y = (value) => top + ((last - value) / (last - first || 1)) * (height - top - bottom);
  const count = Math.max(...shown.map((column) => column.at)) + 1;
  const slot = (width - left - right) / count;
  const bar = Math.max(slot * 0.8, Math.min(slot, 1));
  const made = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const tick of ticks) {
    const at = y(tick).toFixed(1);
    made.append(draw("line", { x1: left, x2: width - right, y1: at, y2: at, class: tick ? "grid" : "zero" }),
      draw("text", { x: left - 6, y: at, dy: "0.35em", "text-anchor": "end" }, Number(tick.toPrecision(6)).toLocaleString("en", { maximumFractionDigits: 8 })));
  }
  const every = Math.ceil(count / Math.max(1, Math.floor((width - left) / 90)));
  for (const column of shown) {
    const x = left + column.at * slot + (slot - bar) / 2;
    if (column.at % every === 0 && x + bar / 2 < width - 30) {
      made.append(draw("text", { x: (x + bar / 2).toFixed(1), y: height - 6, "text-anchor": "middle" }, column.short));
    }
    let [up, down] = [0, 0];
    column.costs.forEach((cost, at) => {
      const value = near(cost);
      if (!value) return;
      const from = value > 0 ? up : down;
      if (value > 0) up += value; else down += value;
      const [a, b] = [y(Math.max(from, from + value)), y(Math.min(from, from + value))];
      made.append(draw("rect", { x: x.toFixed(2), y: a.toFixed(2), width: bar.toFixed(2), height: (b - a).toFixed(2), class: "s" + data.series[at].color },
        draw("title", {}, `${column.name}\n${data.series[at].name}: ${plain(cost, places)}`)));
    });
  }
  return made;
}

function clear(place) {
  while (place.lastElementChild !== place.firstElementChild) place.lastElementChild.remove();
  place.redraw = null;
}

// A chart with what its colours mean, and the same numbers as a table.
function figure(place, data, places, what) {
  const text = (cost) => ["number", plain(cost, places), plain(cost, null)];
  const total = (costs) => costs.reduce((sum, cost) => sum + cost, 0n);
  clear(place);
  if (!data.columns.length) {
    place.append(make("p", { class: "none" }, "Nothing was rated in this time."));
    return;
  }
  const name = (series) => make("span", {}, make("span", { class: "swatch s" + series.color, "aria-hidden": "true" }), series.name);
  const redraw = () => {
    const drawn = chart(data, Math.max(280, Math.round(place.clientWidth - 34)), places, `Costs per ${what} over time; the table below has the numbers`);
    const old = place.querySelector("svg");
    if (old) old.replaceWith(drawn); else place.append(drawn);
  };
  redraw();
  place.redraw = redraw;
  place.append(table(data.word, [what, ["number", "Cost"]],
    data.series.map((series) => [name(series), text(series.total)]),
    ["All", text(total(data.series.map((series) => series.total)))]));
  const numbers = make("details", {}, make("summary", {}, "Numbers over time"));
  numbers.addEventListener("toggle", () => {
    if (numbers.childElementCount > 1) return;
    const region = make("div", { class: "wide", role: "region", tabindex: "0", "aria-label": `Costs per ${what} over time` });
    region.append(table(`Costs per ${what} over time`, ["Begin", ...data.series.map((series) => ["number", series.name]), ["number", "All"]],
      data.columns.map((column) => [column.name, ...column.costs.map(text), text(total(column.costs))])));
    numbers.append(region);
  });
  place.append(numbers);
}
