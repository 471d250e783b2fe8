// The search, trust, themes, and the start of the page.
function lineChart(series, { x, y, percentY = false, step = false, zero = false }) {
  const W = NARROW ? 358 : 560, H = NARROW ? 210 : 250, L = 56, B = 42, T = 10, R = 14, all = series.flatMap((s) => s.points);
  if (!all.length) return el("p", { class: "soft" }, "No points.");
  const [x0, x1] = extent([...all.map((p) => p[0]), ...(zero ? [0] : [])]), lo = Math.min(...all.map((p) => p[1])), hi = Math.max(...all.map((p) => p[1]));
  const y0 = percentY ? 0 : Math.min(0, lo), y1 = percentY ? 1 : hi > y0 ? hi : y0 + 1;
  const X = (v) => L + ((v - x0) / (x1 - x0)) * (W - L - R), Y = (v) => H - B - ((v - y0) / (y1 - y0)) * (H - B - T), nodes = [];
  for (const v of ticks(y0, y1, 4)) nodes.push(svg("line", { x1: L, x2: W - R, y1: Y(v), y2: Y(v), stroke: "var(--line)" }), svg("text", { x: L - 8, y: Y(v) + 4, "text-anchor": "end", "font-size": 12, class: "soft" }, percentY ? `${Math.round(100 * v)} %` : tick(v)));
  for (const v of ticks(x0, x1, 6)) nodes.push(svg("text", { x: X(v), y: H - B + 18, "text-anchor": "middle", "font-size": 12, class: "soft" }, tick(v)));
  nodes.push(svg("text", { x: (L + W - R) / 2, y: H - 6, "text-anchor": "middle", "font-size": 12 }, x), svg("line", { x1: L, x2: W - R, y1: H - B, y2: H - B, stroke: "var(--soft)" }));
  for (const s of series) {
    const points = s.points.flatMap(([a, b], i) => (step && i ? [[a, s.points[i - 1][1]], [a, b]] : [[a, b]]));
    nodes.push(svg("polyline", { points: points.map(([a, b]) => `${X(a).toFixed(1)},${Y(b).toFixed(1)}`).join(" "), fill: "none", stroke: s.colour, "stroke-width": 1.8, "stroke-linejoin": "round" }));
  }
  return el("div", {}, series.length > 1 ? el("p", { class: "key", style: { margin: "0 0 4px" } }, series.map((s) => el("span", {}, el("i", { style: { background: s.colour } }), s.name))) : null, svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${y} against ${x}` }, nodes));
}
function tick(v) { return Math.abs(v) >= 1e4 ? number(v, 3) : String(Number(v.toPrecision(4))).replace("-", "−"); }
function ticks(lo, hi, count) {
  const raw = (hi - lo) / count, base = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 2.5, 5, 10].map((m) => m * base).find((s) => s >= raw), found = [];
  for (let v = Math.ceil(lo / step) * step; v <= hi + 1e-9 * step; v += step) found.push(Number(v.toPrecision(12)));
  return found;
}
function hbars(rows, colour, text) {
  const most = Math.max(...rows.map((r) => r.high ?? r.value), 1e-12);
  return el("div", { class: "hbars" }, rows.flatMap((r) => [el("span", { class: "wraps" }, r.name), el("div", { class: "track" }, el("i", { style: { width: `${(100 * (r.main ?? r.value)) / most}%`, background: colour } }), r.main === undefined ? null : el("i", { style: { width: `${(100 * Math.max(0, r.value - r.main)) / most}%`, background: colour, opacity: .4 } }), r.low === undefined ? null : el("i", { class: "err", style: { left: `${(100 * r.low) / most}%`, width: `${(100 * (r.high - r.low)) / most}%`, height: "2px", background: "var(--ink)" } })), el("span", { class: "num" }, text(r))]));
}
function search() {
  const S = F.search, colour = "var(--blue)", parts = [];
  const total = Object.values(S.seconds).reduce((a, b) => a + b, 0), o = S.outcomes;
  const told = Object.entries(o).filter(([, n]) => n).map(([k, n]) => `${n} ${k}`).join(", ");
  parts.push(el("p", { class: "intro" }, `${Object.values(o).reduce((a, b) => a + b, 0)} candidates: ${told || "none"}. Evaluating them took ${seconds(total)} of work${S.points.length ? `, ${seconds(S.points[S.points.length - 1].seconds)} by the clock` : ""}. ${S.pruning ? S.pruning + "." : ""}`));
  if (S.confidence.length) parts.push(el("ul", { class: "small soft", style: { margin: "0 0 8px", "padding-left": "18px" } }, S.confidence.map((l) => el("li", {}, l))));
  const p = S.points, cells = [];
  cells.push(el("div", {}, el("h3", {}, "Hypervolume, share of the final one, against candidates"), lineChart([{ name: "hypervolume", colour, points: p.map((q) => [q.trial, q.hypervolume]) }], { x: "candidates", y: "hypervolume", percentY: true, step: true })));
  cells.push(el("div", {}, el("h3", {}, "The same against time"), lineChart([{ name: "hypervolume", colour, points: p.map((q) => [q.seconds / 60, q.hypervolume]) }], { x: "minutes of evaluation", y: "hypervolume", percentY: true, step: true, zero: true })));
  for (const i of F.importance) {
    const shown = i.choices.filter((c) => c.total > .005).slice(0, 10).map((c) => ({ name: choiceName(c.choice), value: c.total, main: c.main, low: c.low, high: c.high }));
    const trusted = i.explained >= .5 ? "" : " This is little: take the order with care.";
    cells.push(el("div", {}, el("h3", {}, `What decides ${lower(labelOf(i.objective))}`), hbars(shown, colour, (r) => percent(r.value)), el("p", { class: "small soft", style: { "margin-top": "8px" } }, `Share of the variance over the space by the surrogate (functional analysis of variance): dark alone, light with interactions, line the 95 % interval. Out of sample the surrogate explains ${percent(Math.max(0, i.explained))} of the candidates’ variance.${trusted}`)));
  }
  const log = S.supernet, losses = ["cls", "iou", "dfl"].filter((n) => log[n]), colours = ["var(--blue)", "var(--pick)", "var(--green)"];
  if (losses.length && log.step.length > 1) cells.push(el("div", {}, el("h3", {}, "Training of the supernet: losses"), lineChart(losses.map((n, k) => ({ name: n, colour: colours[k], points: log.step.map((s, j) => [s, log[n][j]]) })), { x: "steps", y: "loss" })));
  const times = Object.entries(S.seconds).filter(([, s]) => s > 0).map(([name, value]) => ({ name: labelOf(name), value }));
  if (times.length) cells.push(el("div", {}, el("h3", {}, "Time of evaluation by step"), hbars(times, "var(--grey)", (r) => seconds(r.value))));
  parts.push(el("div", { class: "cols" }, cells));
  const reasons = Object.entries(S.reasons);
  if (reasons.length) parts.push(el("h3", {}, "Candidates that were not evaluated to the end"), el("table", {}, el("tbody", {}, reasons.map(([why, n]) => el("tr", {}, el("td", { class: "num" }, String(n)), el("td", { class: "wraps" }, why))))));
  put("search-body", parts);
}
function facts(rows) { return el("dl", { class: "facts" }, rows.filter(([, v]) => v !== null && v !== undefined && v !== "").flatMap(([k, v]) => [el("dt", {}, k), el("dd", {}, v)])); }
function counts(table) { return Object.entries(table).map(([k, n]) => `${n} ${k}`).join(", "); }
function trust() {
  const T = F.trust, d = T.device, measured = Object.values(T.verdicts).reduce((a, b) => a + b, 0);
  const commands = T.commands.join("\n");
  put("trust-body",
    el("div", { class: "cols" },
      el("div", {}, el("h3", {}, "Where"), facts([["Device", [d.accelerator, d.cpu].filter(Boolean).join(", ")], ["Cores, memory", d.cores ? `${d.cores} logical cores, ${d.memory_gib} GiB` : ""], ["Instruction sets", (d.flags || []).join(", ")], ["Runtime", T.runtime], ["System", Object.values(T.system).join(", Python ")], ["Target", RUN.target], ["Data set", RUN.data ? `${RUN.data}${RUN.data_fingerprint ? `, fingerprint ${RUN.data_fingerprint}` : ""}` : ""], ["Classes", RUN.classes.join(", ")], ["Seed", String(T.seed)]])),
      el("div", {}, el("h3", {}, "How well"), facts([["Measurements", measured ? `${measured}: ${counts(T.verdicts)}` : "none in the latency database"], ["Clock", counts(T.clocks)], ["CPU used by others", T.busy_elsewhere === null ? "" : `${percent(T.busy_elsewhere)}, median`], ["Withheld by a hypervisor", T.steal_share === null ? "" : `at most ${percent(T.steal_share, 1)}`], ["Throttling", T.throttle_events === null ? "" : `${T.throttle_events} events`], ["Speed of the machine", T.reference_spread === null ? "" : `varied by ${percent(T.reference_spread, 1)} (standard deviation of the reference model); latencies are scaled to its nominal speed`], ["Repeatability", T.repeatability === null ? "" : `${percent(T.repeatability, 1)} between the first and the second measurement of a chosen network, median`], ["Measured", T.measured.length ? `${T.measured[0].replace("T", " ").slice(0, 16)} to ${T.measured[1].replace("T", " ").slice(0, 16)} UTC` : ""]]))),
    el("h3", {}, "Commands that repeat it"), el("div", { class: "cmd" }, el("pre", {}, commands), copyButton(() => commands)),
    el("details", {}, el("summary", {}, `Files and their SHA-256 (${T.files.length}); of all together ${T.manifest.slice(0, 16)}…`), el("div", { class: "scroll" }, el("table", {}, el("tbody", {}, T.files.map((f) => el("tr", {}, el("td", {}, f.name), el("td", { class: "num" }, `${number(f.size)}B`), el("td", { class: "mono wraps" }, f.sha256))))))),
    el("details", {}, el("summary", {}, "Database keys and versions"), facts([...Object.entries(T.keys), ...Object.entries(T.versions)])));
}
function theme(name) {
  document.documentElement.dataset.theme = name;
  try { localStorage.setItem("nas-report-theme", name); } catch { /* a page from a file may have no storage */ }
  if (drawn) draw();
}
function preferred() {
  try { const kept = localStorage.getItem("nas-report-theme"); if (kept) return kept; } catch { /* no storage */ }
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
document.documentElement.dataset.theme = preferred();
$("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
header(); controls(); sliders(); panel(); update(); stockTable(); questions(); networks(); search(); trust();
tabs("why", F.explanations.map((e) => e.name), why);
if (!F.explanations.length) why(0);
tabs("time", F.picks.map((p) => p.name), time);
if (!F.picks.length) time(0);
addEventListener("resize", () => { clearTimeout(addEventListener.timer); addEventListener.timer = setTimeout(draw, 120); });
addEventListener("beforeprint", () => { document.documentElement.dataset.theme = "light"; for (const d of document.querySelectorAll("details")) d.open = true; draw(); });
const every = Number(document.body.dataset.refresh);
if (every > 0) setTimeout(() => location.reload(), 1000 * every);
