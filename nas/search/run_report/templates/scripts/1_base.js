"use strict";
// Values of the run, formats, and small builders of elements. Text always goes in as text, never as HTML.
const F = JSON.parse(document.getElementById("facts").textContent);
const RUN = F.run, COST = RUN.cost, GAIN = RUN.gain;
const COLUMNS = Object.fromEntries(F.columns.map((c) => [c.name, c]));
const BY_ID = Object.fromEntries(F.candidates.map((c) => [c.id, c]));
const $ = (id) => document.getElementById(id);
const NARROW = innerWidth < 760;
const SUP = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const NS = "http://www.w3.org/2000/svg";

function el(tag, given, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(given || {})) {
    if (name === "class") node.className = value;
    else if (name === "style") for (const [key, v] of Object.entries(value)) node.style.setProperty(key, v);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) if (child !== null && child !== undefined && child !== false) node.append(child instanceof Node ? child : String(child));
  return node;
}
function svg(tag, given, ...children) {
  const node = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(given || {})) {
    if (name === "style") for (const [key, v] of Object.entries(value)) node.style.setProperty(key, v);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  for (const child of children.flat(Infinity)) if (child) node.append(child instanceof Node ? child : String(child));
  return node;
}
function put(id, ...children) { $(id).replaceChildren(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false)); }

// formats: the same as those of nas.core.units
const PREFIXES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
function significant(value, digits) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e6) return value.toPrecision(digits);
  const exponent = Number(value.toExponential(digits - 1).split("e")[1]);
  return value.toFixed(Math.max(0, digits - 1 - exponent));
}
function number(value, digits = 3) {
  if (value === null || value === undefined || !isFinite(value)) return "–";
  if (Math.abs(value) < 1e4) return significant(value, digits).replace("-", "−");
  const [scale, prefix] = PREFIXES.find(([s]) => Math.abs(value) >= s);
  return significant(value / scale, digits).replace("-", "−") + "\u202f" + prefix;
}
function half(e) { return e.low === null || e.high === null ? null : (e.high - e.low) / 2; }
function places(h) { const x = Math.floor(Math.log10(h)); return Math.max(0, (h < 2 * 10 ** x ? 1 : 0) - x); }
function quantity(e, unit = e.unit) {
  const h = half(e), u = unit ? "\u202f" + unit : "";
  if (!h || Math.abs(e.value) >= 1e4 || Math.abs(e.value) < 1e-6) return number(e.value) + u;
  return `${e.value.toFixed(places(h))} ± ${h.toFixed(places(h))}${u}`;
}
function signed(value, digits = 2) { return (value > 0 ? "+" : "") + number(value, digits); }
// A change and its interval with the same decimals: those that the half width of the interval deserves.
function fixed(v, p) { const text = v.toFixed(p); return Number(text) === 0 ? text.replace("-", "") : (v > 0 ? "+" : "") + text.replace("-", "−"); }
function decimals(d) { const h = d.low === null || d.low === undefined ? 0 : (d.high - d.low) / 2; return h > 0 ? places(h) : 3; }
function change(d, unit) { return Math.abs(d.value) < 1e4 ? fixed(d.value, decimals(d)) + (unit ? "\u202f" + unit : "") : signed(d.value) + (unit ? "\u202f" + unit : ""); }
function range(d) { return d.low === null || d.low === undefined ? "exact" : `${fixed(d.low, decimals(d))} to ${fixed(d.high, decimals(d))}`; }
function count(v) { return Math.abs(v) < 1e4 ? (v > 0 ? "+" : "") + String(Math.round(v)).replace("-", "−") : signed(v, 2); }
function trimmed(v) { return String(Number(significant(v, 4))); }
function percent(share, digits = 0) { return (100 * share).toFixed(digits) + "\u202f%"; }
function seconds(s) { return s < 90 ? `${number(s, 2)} s` : s < 5400 ? `${number(s / 60, 2)} min` : `${number(s / 3600, 2)} h`; }
function unitOf(name) { return COLUMNS[name] ? COLUMNS[name].unit : ""; }
function labelOf(name) { return COLUMNS[name] ? COLUMNS[name].label : name; }
function titled(name) { const unit = unitOf(name); return unit ? `${labelOf(name)} (${unit})` : labelOf(name); }
const RUNTIMES = { onnxruntime: "ONNX Runtime", openvino: "OpenVINO", ncnn: "ncnn", mnn: "MNN", torch: "PyTorch", tensorrt: "TensorRT", "tensorrt-rtx": "TensorRT-RTX" };
function targetName(text) { const [runtime, ...rest] = text.split(":"); return [RUNTIMES[runtime] || runtime, ...rest].join(", "); }
function lower(text) { return /^[A-Z][a-z]/.test(text) ? text[0].toLowerCase() + text.slice(1) : text; }

const WORDS = { hidden: "inner width", depth: "depth", block: "block", width: "width" };
function choiceName(name) {
  if (name === "width") return "Base width";
  if (name === "head_width") return "Head width";
  const match = /^([a-z]+)(\d+)_(\w+)$/.exec(name);
  if (match) return `${match[1][0].toUpperCase()}${match[1].slice(1)} ${match[2]} ${WORDS[match[3]] || match[3].replaceAll("_", " ")}`;
  const text = name.replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}

// the rule of nas.search.selection
const VALUE = (c, name) => (c.estimates[name] ? c.estimates[name].value : null);
const byId = (a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
function withinBudget(bound) {
  const order = F.candidates.filter((c) => VALUE(c, COST) <= bound);
  order.sort((a, b) => VALUE(b, GAIN) - VALUE(a, GAIN) || VALUE(a, COST) - VALUE(b, COST) || byId(a, b));
  return order[0] || null;
}
function reaching(goal) {
  const order = F.candidates.filter((c) => VALUE(c, GAIN) >= goal);
  order.sort((a, b) => VALUE(a, COST) - VALUE(b, COST) || VALUE(b, GAIN) - VALUE(a, GAIN) || byId(a, b));
  return order[0] || null;
}
const FASTEST = [...F.candidates].sort((a, b) => VALUE(a, COST) - VALUE(b, COST) || byId(a, b))[0];
const BEST = [...F.candidates].sort((a, b) => VALUE(b, GAIN) - VALUE(a, GAIN) || byId(a, b))[0];
const FRONT = F.candidates.filter((c) => c.on_front).sort((a, b) => VALUE(a, COST) - VALUE(b, COST));
const IS_TIME = unitOf(COST) === "ms";

function fps(ms) { return ms > 0 ? `${number(1000 / ms, 3)} images/s` : "–"; }
function css(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
function copyButton(text) {
  return el("button", { type: "button", onclick: (event) => { navigator.clipboard?.writeText(text()); event.target.textContent = "Copied"; setTimeout(() => { event.target.textContent = "Copy"; }, 1200); } }, "Copy");
}
function save(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const link = el("a", { href: url, download: name });
  document.body.append(link); link.click(); link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// The architecture file of a candidate: that of the run where it was chosen, else one with the same fields.
function fileOf(candidate) {
  const pick = F.picks.find((p) => p.id === candidate.id && p.file);
  if (pick) return [`${pick.name}.json`, pick.file];
  const given = structuredClone(F.artifact);
  given.name = candidate.id;
  given.architecture = { ...given.architecture, choices: candidate.choices, id: candidate.architecture };
  if (candidate.precision) given.precision = candidate.precision;
  given.estimates = Object.entries(candidate.estimates).map(([name, e]) => ({ name, value: e.value, unit: e.unit, low: e.low, high: e.high, source: e.source, target: e.target }));
  given.study = { ...given.study, trial: candidate.trial };
  return [`${candidate.id}.json`, JSON.stringify(given, null, 2) + "\n"];
}

function tabs(group, names, show) {
  const bar = document.querySelector(`[data-tabs="${group}"]`);
  const buttons = names.map((name, i) => el("button", { type: "button", onclick: () => choose(i) }, name));
  function choose(i) { buttons.forEach((b, k) => { b.className = k === i ? "on" : ""; b.setAttribute("aria-pressed", k === i); }); show(i); }
  bar.replaceChildren(...buttons);
  if (names.length) choose(0);
}
