// How the daemon does, and what is spent: reads v2/ratekitty/status and v2/summary.
"use strict";

const $ = (id) => document.getElementById(id);

// --- The API ---

const KEY = "ratekitty-token";
// Where a browser keeps nothing, the token lasts as long as the page.
let token = "";
try { token = sessionStorage.getItem(KEY) || ""; } catch { /* not kept */ }

function keep(value) {
  token = value;
  try {
    if (value) sessionStorage.setItem(KEY, value); else sessionStorage.removeItem(KEY);
  } catch { /* not kept */ }
}

class Trouble extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, given) {
  const query = new URLSearchParams(Object.entries(given).filter(([, value]) => value !== ""));
  const headers = token ? { "X-Auth-Token": token } : {};
  let answer;
  try {
    answer = await fetch(path + "?" + query, { headers, redirect: "error", cache: "no-store" });
  } catch (error) {
    throw new Trouble(0, `The API does not answer (${error.message}).`);
  }
  const body = await answer.json().catch(() => null);
  if (answer.ok && body) return body;
  const said = body && (body.message || (body.error && body.error.message));
  const later = answer.headers.get("Retry-After");
  throw new Trouble(answer.status, `${answer.status}: ${said || answer.statusText || "no JSON"}` +
    (later ? ` Try again in ${later} s.` : ""));
}

// All rows of a summary, as objects.
async function rows(given) {
  const found = [];
  for (;;) {
    const page = await ask("v2/summary", { ...given, limit: 5000, offset: found.length });
    for (const row of page.results) found.push(Object.fromEntries(page.columns.map((name, at) => [name, row[at]])));
    if (!page.results.length || found.length >= page.total) return found;
  }
}

// --- Texts ---

function span(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([length]) => Math.abs(seconds) >= length);
  if (first < 0) return "0 s";
  let rest = Math.abs(seconds);
  return parts.slice(first, first + 2).map(([length, unit]) => {
    const count = Math.floor(rest / length);
    rest -= count * length;
    return count ? `${count} ${unit}` : "";
  }).filter(Boolean).join(" ");
}

const time = (text) => make("time", { datetime: text, title: text }, text.slice(0, 16).replace("T", " "));
const count = (number) => number.toLocaleString("en");
const since = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;

function put(place, made) {
  $(place).replaceChildren(made);
}

function nothing(place, text) {
  put(place, make("p", { class: "none" }, text));
}

// --- Status ---

const SHOWN = 25;
// A processor tells of itself twice a minute.
const LOST = 100;
const state = { offset: 0, search: "", status: null, looks: new Map(), asked: 0 };

// Points per second between the last two looks, of one processor; null before.
function rate(processor) {
  const seen = Date.parse(processor.seen) / 1000;
  const known = state.looks.get(processor.id);
  if (!known) {
    state.looks.set(processor.id, { seen, points: processor.points, rate: null });
  } else if (seen > known.seen) {
    const rate = (processor.points - known.points) / (seen - known.seen);
    state.looks.set(processor.id, { seen, points: processor.points, rate });
  }
  return state.looks.get(processor.id).rate;
}

function showTiles(status) {
  const { behind } = status;
  const running = status.processors.filter((processor) => since(processor.seen, status.now) <= LOST);
  const tiles = [
    ["Scopes" + (state.search ? " found" : ""), count(status.total), ""],
    ["Scopes behind", count(behind.scopes), behind.scopes ? "warn-text" : "good-text"],
    ["Periods behind", count(behind.periods), behind.periods ? "warn-text" : "good-text"],
    ["Largest lag", span(behind.lag_seconds), behind.lag_seconds > status.period_seconds ? "bad-text" : ""],
    ["Scopes failing", count(status.failing), status.failing ? "bad-text" : "good-text"],
    ["Processors", count(running.length), running.length ? "" : "bad-text"],
  ];
  $("tiles").replaceChildren(...tiles.map(([name, value, look]) =>
    make("div", {}, make("dt", {}, name), make("dd", look ? { class: look } : {}, value))));
}

function showScopes(status) {
  const last = state.offset + status.scopes.length;
  $("page").textContent = status.scopes.length ? `${state.offset + 1} to ${last} of ${status.total}` : "";
  $("before").disabled = state.offset === 0;
  $("after").disabled = last >= status.total;
  if (!status.scopes.length) return nothing("scopes", state.search ? "No scope is called so." : "There are no scopes yet.");
  const rows = status.scopes.map((scope) => {
    const late = scope.lag_seconds > status.period_seconds ? " bad-text" : scope.lag_seconds ? " warn-text" : "";
    return [
      scope.scope_id,
      scope.active ? "rated" : ["warn-text", "switched off"],
      time(scope.rated_until),
      ["number", span(since(scope.rated_until, status.now))],
      ["number", scope.active ? count(scope.periods_behind) : "–"],
      ["number" + late, scope.active ? span(scope.lag_seconds) : "–"],
    ];
  });
  const word = `Periods of ${span(status.period_seconds)}, rated when ${status.wait_periods} more have passed. Lag: time since the oldest period that is due became so.`;
  put("scopes", table(word, [status.scope_key, "State", "Rated until", ["number", "Ago"], ["number", "Periods behind"], ["number", "Lag"]], rows));
}

function showFailures(status) {
  if (!status.failures.length) return nothing("failures", state.search ? "No such scope fails." : "No scope fails.");
  const rows = status.failures.map((failure) => [
    failure.scope_id,
    failure.begin ? time(failure.begin) : "not known",
    ["", failure.stage],
    ["text", failure.error],
    ["number", count(failure.tries)],
    time(failure.failed),
  ]);
  const word = status.failing > rows.length ? `The newest ${rows.length} of ${status.failing} scopes that fail.` : "They are tried again.";
  put("failures", table(word, [status.scope_key, "Period", "Stage", "Error", ["number", "Tries"], "Last try"], rows));
}

function showProcessors(status) {
  if (!status.processors.length) return nothing("processors", "No processor runs.");
  const rows = status.processors.map((processor) => {
    const silent = since(processor.seen, status.now);
    const now = rate(processor);
    const age = since(processor.started, processor.seen);
    const word = processor.problem ? ["text bad-text", processor.problem]
      : silent > LOST ? ["text bad-text", `not seen for ${span(silent)}`] : ["text", "runs"];
    return [
      `${processor.host}, ${processor.pid}`,
      processor.version,
      time(processor.started),
      ["number", now === null ? "–" : now.toFixed(1)],
      ["number", age > 0 ? (processor.points / age).toFixed(1) : "–"],
      ["number", count(processor.points)],
      ["number", count(processor.periods)],
      word,
    ];
  });
  const word = "Points per second between the last two times that it told of itself, which is twice a minute, and since its start.";
  put("processors", table(word, ["Host, process", "Version", "Started", ["number", "Points/s"], ["number", "Since start"], ["number", "Points"], ["number", "Periods"], "State"], rows));
}

function say(trouble) {
  $("trouble").hidden = !trouble;
  $("trouble").textContent = trouble || "";
}

function hide(...names) {
  for (const name of names) $(name).hidden = true;
}

function wantToken(word) {
  keep("");
  hide("admin", "costs", "details", "word", "leave", "refresh");
  $("about").textContent = $("looked").textContent = "";
  state.status = null;
  // Who comes next may not see what is there.
  for (const name of ["tiles", "scopes", "failures", "processors"]) $(name).replaceChildren();
  for (const name of ["by-type", "by-scope"]) clear($(name));
  $("login").hidden = false;
  say(word);
  $("token").focus();
}

// Tells of trouble; gives whether it is that the token is no good.
function failed(error) {
  if (error.status === 401) {
    wantToken(token ? "The token is not good, or has ended." : "");
    return true;
  }
  say(error.message);
  return false;
}

async function look() {
  const number = ++state.asked;
  let status = null;
  try {
    status = await ask("v2/ratekitty/status", { offset: state.offset, limit: SHOWN, search: state.search });
  } catch (error) {
    if (number !== state.asked) return;
    if (error.status !== 403) return failed(error);
  }
  // Somebody has asked for something else meanwhile.
  if (number !== state.asked) return;
  say("");
  hide("login");
  $("leave").hidden = !token;
  $("refresh").hidden = false;
  $("looked").textContent = "Looked at " + new Date().toLocaleTimeString("en-GB");
  $("word").hidden = Boolean(status);
  $("admin").hidden = $("details").hidden = $("by-scope").hidden = !status;
  if (status) {
    $("about").textContent = `${status.version}, dataframes in ${status.storage}`;
    for (const key of document.querySelectorAll(".key")) key.textContent = status.scope_key;
    showTiles(status);
    showScopes(status);
    showFailures(status);
    showProcessors(status);
  } else {
    $("word").textContent = "This token may not see how the daemon does. Here is what its own project costs.";
  }
  const first = $("costs").hidden;
  $("costs").hidden = false;
  state.status = status;
  if (first) await showCosts();
}

// --- Costs ---

const MOST = 8;
// More columns than that are not drawn.
const COLUMNS = 1500;

const label = (value) => (value === null || value === "" ? "(none)" : String(value));

// Where a row belongs: a key, how it is called, and its time.
function column(row, per) {
  if (per === "period") {
    const name = row.begin.slice(0, 16).replace("T", " ");
    return { time: Date.parse(row.begin), name, short: name.slice(5) };
  }
  // A day is told by its number in the year.
  const day = new Date(Date.UTC(Number(row.year), 0, Number(row.day_of_the_year)));
  const name = day.toISOString().slice(0, 10);
  return { time: day.getTime(), name, short: name.slice(5) };
}

// What a chart shows: the groups with the highest costs, and all others together.
async function series(group, asked, per, whole) {
  const totals = await rows({ ...asked, groupby: group });
  const size = (row) => { const cost = decimal(row.rate); return cost < 0n ? -cost : cost; };
  totals.sort((a, b) => (size(b) > size(a) ? 1 : size(b) < size(a) ? -1 : 0));
  const isAll = totals.length <= MOST;
  // Others cannot be asked for by name.
  const top = totals.filter((row) => isAll || (typeof row[group] === "string" && /^[^,:]+$/.test(row[group]))).slice(0, MOST);
  const times = per === "day" ? "time-y,time-d" : "time";
  const filters = isAll ? {} : { filters: top.map((row) => `${group}:${row[group]}`).join(",") };
  const parts = top.length ? await rows({ ...asked, ...filters, groupby: `${times},${group}` }) : [];
  const places = new Map(top.map((row, at) => [label(row[group]), at]));
  const columns = new Map();
  for (const row of whole) {
    const { time, name, short } = column(row, per);
    columns.set(time, { time, name, short, costs: [...top.map(() => 0n), decimal(row.rate)] });
  }
  for (const row of parts) {
    const found = columns.get(column(row, per).time);
    const at = places.get(label(row[group]));
    // Rated since the whole was asked for: it is there with the next look.
    if (!found || at === undefined) continue;
    found.costs[at] += decimal(row.rate);
    found.costs[top.length] -= decimal(row.rate);
  }
  const sorted = [...columns.values()].sort((a, b) => a.time - b.time);
  let step = per === "day" ? 86400000 : Infinity;
  if (per !== "day") {
    for (let at = 1; at < sorted.length; at += 1) step = Math.min(step, sorted[at].time - sorted[at - 1].time);
  }
  for (const one of sorted) one.at = step === Infinity ? 0 : Math.round((one.time - sorted[0].time) / step);
  if (sorted.length && sorted[sorted.length - 1].at >= COLUMNS) {
    throw new Trouble(400, `More than ${COLUMNS} columns cannot be drawn: ask for less time, or for days.`);
  }
  const made = top.map((row, at) => ({ name: label(row[group]), color: at }));
  // Without others, what is left are digits that numbers of the API do not have.
  if (isAll) for (const one of sorted) one.costs.pop(); else made.push({ name: "others", color: MOST });
  made.forEach((one, at) => { one.total = sorted.reduce((sum, found) => sum + found.costs[at], 0n); });
  const word = isAll ? "" : `The ${top.length} with the highest costs of ${totals.length}; the rest is others.`;
  return { series: made, columns: sorted, word };
}

let drawn = 0;
async function showCosts() {
  const number = ++drawn;
  const per = $("per").value;
  const asked = { begin: $("begin").value, end: $("end").value };
  const places = $("places").value === "" ? null : Number($("places").value);
  if (!(asked.begin < asked.end)) {
    $("costs-word").textContent = "The begin has to be before the end.";
    return;
  }
  $("costs-word").textContent = "Reading …";
  try {
    const whole = await rows({ ...asked, groupby: per === "day" ? "time-y,time-d" : "time" });
    const groups = [["by-type", "type", "type"]];
    if (state.status) groups.push(["by-scope", state.status.scope_key, state.status.scope_key]);
    const all = await Promise.all(groups.map(([, group]) => series(group, asked, per, whole)));
    if (number !== drawn) return;
    groups.forEach(([place, , what], at) => figure($(place), all[at], places, what));
    $("costs-word").textContent = (places === null ? "Costs with all digits that the API gives."
      : `Costs are rounded to ${places} places; a number under the pointer shows all digits.`) +
      " From and until are UTC, days those of the server.";
  } catch (error) {
    if (number === drawn && !failed(error)) $("costs-word").textContent = "Not read.";
  }
}

// --- Start ---

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  keep($("token").value.trim());
  $("token").value = "";
  look();
});
$("leave").addEventListener("click", () => wantToken(""));
$("refresh").addEventListener("click", look);
$("window").addEventListener("submit", (event) => {
  event.preventDefault();
  say("");
  showCosts();
});
$("find").addEventListener("submit", (event) => {
  event.preventDefault();
  [state.search, state.offset] = [$("search").value.trim(), 0];
  look();
});
$("before").addEventListener("click", () => { state.offset = Math.max(0, state.offset - SHOWN); look(); });
$("after").addEventListener("click", () => { state.offset += SHOWN; look(); });
addEventListener("resize", () => {
  for (const place of document.querySelectorAll("figure")) if (place.redraw) place.redraw();
});
setInterval(() => {
  if (!document.hidden && $("login").hidden) look();
}, 30000);

const today = new Date();
const month = (more) => new Date(Date.UTC(today.getUTCFullYear(), today.getUTCMonth() + more, 1)).toISOString().slice(0, 10);
$("begin").value = month(0);
$("end").value = month(1);
look();
