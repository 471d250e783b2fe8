// The front: figure, side panel, sliders that move S, M and L, stock networks, and the three questions.
const BLUE = "--blue", PICK = "--pick", GREEN = "--green";
const XS = F.columns.filter((c) => c.direction === "min" && F.candidates.some((k) => k.estimates[c.name]));
const YS = F.columns.filter((c) => c.direction === "max" && F.candidates.some((k) => k.estimates[c.name]));
const view = { x: COST, y: GAIN, log: false, mode: RUN.at_least ? "goal" : "budget", pinned: F.picks[0] ? F.picks[0].id : FRONT[0] ? FRONT[0].id : F.candidates[0].id };
{
  const costs = F.candidates.map((c) => VALUE(c, COST)).filter((v) => v > 0);
  view.log = Math.max(...costs) / Math.min(...costs) > 8;
}
// name -> {bound, id}: bound is null until a slider has moved; then the rule of `nas select` decides
const chosen = F.picks.map((p) => ({ name: p.name, id: p.id, bound: null, budget: p.budget }));

function header() {
  const picks = F.picks.map((p) => ({ ...p, c: BY_ID[p.id] }));
  put("kicker", `Search report · ${RUN.name}`);
  const where = targetName(RUN.target);
  const shown = [...new Set(picks.map((p) => p.id))].length;
  const words = ["No network yet", "One network", "Two networks", "Three networks", "Four networks"];
  put("headline", RUN.finished ? `${words[shown] || `${shown} networks`} for ${where}` : `A search under way on ${where}`);
  const device = F.trust.device.accelerator || F.trust.device.cpu || "";
  const parts = [
    `Of ${words2(RUN.architectures)} possible networks of the space ${RUN.space}, the search evaluated ${F.candidates.length}; ${FRONT.length} of them form the Pareto front of ${lower(labelOf(COST))} and ${labelOf(GAIN)}.`,
    device ? ` Measured on ${device}` : "", device && RUN.data ? `, accuracy on ${RUN.data}.` : device ? "." : RUN.data ? ` Accuracy on ${RUN.data}.` : "",
    RUN.accuracy === "supernet" ? " Accuracy is that of the supernet’s weights, before the networks are trained." : "",
  ];
  put("lede", parts.join(""));
  put("cards", picks.map((p) => {
    const cost = p.c.estimates[COST], gain = p.c.estimates[GAIN];
    const rows = [[labelOf(COST), quantity(cost)], [labelOf(GAIN), quantity(gain)]];
    if (p.c.estimates.params) rows.push(["Parameters", number(p.c.estimates.params.value)]);
    if (IS_TIME) rows.push(["Rate", fps(cost.value)]);
    const left = p.budget === null ? "" : `Budget ${number(p.budget)} ${cost.unit}, ${number(Math.max(0, p.budget - cost.value), 2)} ${cost.unit} unused: the most accurate candidate within it.`;
    return el("div", { class: "card" }, el("span", { class: "badge" }, p.name), el("dl", {}, rows.map(([k, v]) => el("div", {}, el("dt", {}, k), el("dd", {}, splitUnit(v))))), left ? el("p", { class: "why" }, left) : null);
  }));
  put("nav", [...document.querySelectorAll("main section")].map((s) => el("a", { href: `#${s.id}` }, s.dataset.title)));
  const intro = `Each point is an evaluated network; to the left is ${IS_TIME ? "faster" : "cheaper"}, up is more accurate. Bars are 95 % intervals. ` + (F.stock.length ? "Diamonds are stock networks measured on the same target; those whose accuracy on this data set is unknown stand on the axis." : "");
  put("front-intro", intro);
  put("footer", `Written ${F.written.replace("T", " ").slice(0, 16)} UTC by nas report. All figures are in report.json beside this page. The page needs no network.`);
}
function words2(value) {
  const scales = [[1e12, "trillion"], [1e9, "billion"], [1e6, "million"]], [scale, name] = scales.find(([s]) => value >= s) || [1, ""];
  if (value >= 1e15) return `10${String(Math.round(Math.log10(value))).split("").map((d) => SUP[d]).join("")}`;
  return name ? `${significant(value / scale, 2)} ${name}` : value.toLocaleString("en");
}
function splitUnit(text) {
  const at = text.search(/ ±|\u202f/);
  return at < 0 ? [text] : [text.slice(0, at), el("small", {}, text.slice(at))];
}

function controls() {
  const select = (label, columns, key) => el("label", {}, label, el("select", { "aria-label": label, onchange: (e) => { view[key] = e.target.value; draw(); } }, columns.map((c) => el("option", { value: c.name, selected: c.name === view[key] }, titled(c.name)))));
  const toggle = (label, options, key) => el("span", { class: "group", role: "group", "aria-label": label }, options.map(([value, text]) => el("button", { type: "button", "data-key": key, "data-value": String(value), class: view[key] === value ? "on" : "", onclick: (e) => {
    view[key] = value;
    for (const b of e.target.parentElement.children) b.className = b === e.target ? "on" : "";
    if (key === "mode") { chosen.forEach((c) => { c.bound = null; }); sliders(); update(); } else draw();
  } }, text)));
  put("controls", select("Across", XS, "x"), YS.length > 1 ? select("Up", YS, "y") : null, toggle("Scale", [[false, "Linear"], [true, "Logarithmic"]], "log"), toggle("Choose by", [["budget", `${labelOf(COST)} budget`], ["goal", "Accuracy goal"]], "mode"));
}

function bars(points, name, colour) {
  const up = [], down = [];
  for (const c of points) { const e = c.estimates[name]; up.push(e.high === null ? 0 : Math.max(0, e.high - e.value)); down.push(e.low === null ? 0 : Math.max(0, e.value - e.low)); }
  return { type: "data", symmetric: false, array: up, arrayminus: down, color: colour, thickness: 1.2, width: 2.5 };
}
function hover(c, head) {
  const rows = [view.x, view.y].map((n) => `${safe(labelOf(n))} ${safe(quantity(c.estimates[n]))}`);
  return `<b>${safe(head ? `${head}  ` : "")}${safe(c.id)}</b><br>${rows.join("<br>")}${c.trial === null ? "" : `<br>trial ${c.trial}`}`;
}
function safe(text) { return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;").replace(/'/g, "&#39;"); }

function currentPicks() {
  const groups = new Map();
  for (const one of chosen) if (one.id) groups.set(one.id, [...(groups.get(one.id) || []), one.name]);
  return [...groups].map(([id, names]) => ({ c: BY_ID[id], names: names.join(" ") })).filter((p) => p.c && p.c.estimates[view.x] && p.c.estimates[view.y]);
}
function stockPoint(s) {
  const values = { latency_ms: s.latency, params: plain(s.params), macs: plain(s.macs) };
  const x = values[view.x];
  return x ? { s, x, y: view.y === GAIN && s.accuracy ? s.accuracy : null } : null;
}
function plain(value) { return { value, low: null, high: null, unit: "" }; }

function traces() {
  const has = (c) => c.estimates[view.x] && c.estimates[view.y] && (!view.log || c.estimates[view.x].value > 0);
  const all = F.candidates.filter(has), front = all.filter((c) => c.on_front), rest = all.filter((c) => !c.on_front);
  const xy = (list) => ({ x: list.map((c) => c.estimates[view.x].value), y: list.map((c) => c.estimates[view.y].value), customdata: list.map((c) => c.id), hovertext: list.map((c) => hover(c)), hoverinfo: "text", type: "scatter" });
  const line = [...front].sort((a, b) => VALUE(a, view.x) - VALUE(b, view.x));
  const picks = currentPicks();
  const found = [
    { x: line.map((c) => VALUE(c, view.x)), y: line.map((c) => VALUE(c, view.y)), type: "scatter", mode: "lines", line: { color: css(BLUE), width: 1.6, shape: view.x === COST && view.y === GAIN ? "hv" : "linear" }, hoverinfo: "skip", showlegend: false },
    { ...xy(rest), mode: "markers", name: "Candidate", marker: { color: css("--grey"), size: 7, opacity: .55 } },
    { ...xy(front), mode: "markers", name: "Pareto front", marker: { color: css(BLUE), size: 9, line: { color: css("--paper"), width: 1 } }, error_x: bars(front, view.x, css("--blue-soft")), error_y: bars(front, view.y, css("--blue-soft")) },
  ];
  const stock = F.stock.map(stockPoint).filter(Boolean);
  if (stock.length) found.push({ x: stock.map((s) => s.x.value), y: stock.map((s) => (s.y ? s.y.value : floor())), type: "scatter", mode: "markers", name: "Stock network", cliponaxis: false, marker: { symbol: "diamond", size: 11, color: css("--paper"), line: { color: css(GREEN), width: 2 } }, hoverinfo: "text", hovertext: stock.map((s) => `<b>${safe(s.s.name)}</b> at ${s.s.image_size} px<br>${safe(labelOf(view.x))} ${safe(quantity(s.x))}<br>${s.y ? `${safe(labelOf(GAIN))} ${safe(quantity(s.y))}` : "accuracy on this data set not measured"}`) });
  found.push({ ...xy(picks.map((p) => p.c)), hovertext: picks.map((p) => hover(p.c, p.names)), mode: "markers", name: F.picks.map((p) => p.name).join(", "), marker: { color: css(PICK), size: 16, line: { color: css("--paper"), width: 2 } }, error_x: bars(picks.map((p) => p.c), view.x, css(PICK)), error_y: bars(picks.map((p) => p.c), view.y, css(PICK)) });
  const pinned = BY_ID[view.pinned];
  if (pinned && has(pinned)) found.push({ x: [VALUE(pinned, view.x)], y: [VALUE(pinned, view.y)], type: "scatter", mode: "markers", marker: { color: "rgba(0,0,0,0)", size: 25, line: { color: css("--ink"), width: 1.5 } }, hoverinfo: "skip", showlegend: false });
  return found;
}
function extent(values) { const lo = Math.min(...values), hi = Math.max(...values); return [lo, hi > lo ? hi : lo + Math.abs(lo || 1) * .1]; }
function yRange() {
  const values = F.candidates.flatMap((c) => { const e = c.estimates[view.y]; return e ? [e.value, e.low ?? e.value, e.high ?? e.value] : []; });
  for (const s of F.stock) if (s.accuracy && view.y === GAIN) values.push(s.accuracy.value);
  const [lo, hi] = extent(values);
  return [lo - .09 * (hi - lo), hi + .09 * (hi - lo)];
}
function floor() { return yRange()[0]; }
function xRange() {
  const values = F.candidates.flatMap((c) => { const e = c.estimates[view.x]; return e ? [e.value, e.low ?? e.value, e.high ?? e.value] : []; }).filter((v) => !view.log || v > 0);
  for (const s of F.stock) { const p = stockPoint(s); if (p) values.push(p.x.value); }
  const [lo, hi] = view.log ? extent(values.map(Math.log10)) : extent(values);
  const pad = .05 * (hi - lo);
  return [view.log ? lo - pad : Math.max(lo - pad, lo >= 0 ? Math.min(0, lo) : lo - pad), hi + pad];
}
function layout() {
  const narrow = $("plot").clientWidth < 560, ink = css("--ink"), soft = css("--soft"), line = css("--line");
  const axis = { gridcolor: line, linecolor: soft, zeroline: false, ticks: "outside", tickcolor: soft, ticklen: 4, tickfont: { size: 12, color: soft }, automargin: false };
  const lines = view.x === COST && view.y === GAIN ? chosen.filter((c) => c.bound !== null).map((c) => (view.mode === "budget" ? { type: "line", xref: "x", yref: "paper", x0: c.bound, x1: c.bound, y0: 0, y1: 1 } : { type: "line", yref: "y", xref: "paper", y0: c.bound, y1: c.bound, x0: 0, x1: 1 })).map((s) => ({ ...s, line: { color: css(PICK), width: 1, dash: "5px,4px" } })) : [];
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: css("--font"), size: 13, color: ink },
    margin: { l: narrow ? 48 : 60, r: 14, t: 36, b: 50 }, hovermode: "closest", dragmode: narrow ? false : "zoom", shapes: lines,
    hoverlabel: { bgcolor: css("--surface"), bordercolor: soft, font: { color: ink, size: 13 }, align: "left" },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12, color: soft }, itemsizing: "constant" },
    xaxis: { ...axis, title: { text: safe(titled(view.x)), standoff: 8, font: { size: 13, color: ink } }, type: view.log ? "log" : "linear", range: xRange(), ...(view.log ? { dtick: "D2", nticks: 8 } : {}) },
    yaxis: { ...axis, title: narrow ? undefined : { text: safe(titled(view.y)), standoff: 8, font: { size: 13, color: ink } }, range: yRange() },
    annotations: [], modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink },
  };
}
let drawn = false;
function draw() {
  const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"], displayModeBar: $("plot").clientWidth >= 560 ? "hover" : false, toImageButtonOptions: { filename: "front", scale: 2 } };
  Plotly.react("plot", traces(), layout(), config).then(() => {
    if (!drawn) { drawn = true; $("plot").on("plotly_click", (e) => { const id = e.points[0].customdata; if (id) pin(id); }); $("plot").on("plotly_relayout", (e) => { if (!("annotations" in e)) label(); }); }
    label();
    document.body.dataset.ready = "1";
  });
}
// Names of picks and stock networks: each at the first place where it touches no other name and no pick.
function label() {
  const plot = $("plot"), full = plot._fullLayout;
  if (!full || !full.xaxis) return;
  const X = (v) => full.xaxis.l2p(full.xaxis.type === "log" ? Math.log10(v) : v), Y = (v) => full.yaxis.l2p(v);
  const picks = currentPicks(), boxes = picks.map((p) => { const x = X(VALUE(p.c, view.x)), y = Y(VALUE(p.c, view.y)); return [x - 10, y - 10, x + 10, y + 10]; });
  const texts = picks.map((p) => ({ text: `<b>${safe(p.names)}</b>`, width: 11 * p.names.length + 6, height: 22, x: VALUE(p.c, view.x), y: VALUE(p.c, view.y), colour: css(PICK), size: 17, gap: 12 }));
  for (const s of F.stock.map(stockPoint).filter(Boolean)) texts.push({ text: safe(s.s.name), width: 7.2 * s.s.name.length + 6, height: 18, x: s.x.value, y: s.y ? s.y.value : full.yaxis.range[0], colour: css(GREEN), size: 12, gap: 9 });
  const notes = [], whiskers = picks.flatMap((p) => {
    const [ex, ey] = [p.c.estimates[view.x], p.c.estimates[view.y]], x = X(ex.value), y = Y(ey.value);
    return [[X(ex.low ?? ex.value) - 3, y - 3, X(ex.high ?? ex.value) + 3, y + 3], [x - 3, Y(ey.high ?? ey.value) - 3, x + 3, Y(ey.low ?? ey.value) + 3]];
  }).filter((b) => b.every(isFinite));
  for (const c of F.candidates) if (c.estimates[view.x] && c.estimates[view.y]) { const x = X(VALUE(c, view.x)), y = Y(VALUE(c, view.y)); boxes.push([x - 4, y - 4, x + 4, y + 4]); }
  for (const t of texts) {
    const x = X(t.x), y = Y(t.y);
    if (!isFinite(x) || x < -1 || x > full.xaxis._length + 1 || y < -1 || y > full.yaxis._length + 1) continue;
    let best = null;
    // Beside the intervals of the picks if there is room, else on them.
    for (const [lift, taken] of [[...boxes, ...whiskers], boxes].flatMap((b) => [0, 18, 36, 54].map((l) => [l, b]))) {
      for (const [dx, dy] of [[0, -1], [-1, -1], [1, -1], [1, 0], [-1, 0], [0, 1], [1, 1], [-1, 1]]) {
        const cx = x + dx * (t.width / 2 + t.gap - 2), cy = y + dy * (t.height / 2 + t.gap + lift) ;
        const box = [cx - t.width / 2, cy - t.height / 2, cx + t.width / 2, cy + t.height / 2];
        if (box[0] < 0 || box[2] > full.xaxis._length || box[1] < 0 || box[3] > full.yaxis._length) continue;
        if (taken.some((b) => box[0] < b[2] && b[0] < box[2] && box[1] < b[3] && b[1] < box[3])) continue;
        best = [cx, cy, box, lift]; break;
      }
      if (best) break;
    }
    if (!best) continue;
    boxes.push(best[2]);
    notes.push({ x: full.xaxis.type === "log" ? Math.log10(t.x) : t.x, y: t.y, xref: "x", yref: "y", text: t.text, ax: best[0] - x, ay: best[1] - y, showarrow: true, arrowhead: 0, arrowwidth: .1, arrowcolor: "rgba(0,0,0,0)", standoff: t.gap - 3, font: { size: t.size, color: t.colour }, borderpad: 1 });
  }
  Plotly.relayout(plot, { annotations: notes });
}

function pin(id) { view.pinned = id; panel(); draw(); }
function neighbours(c) {
  const faster = FRONT.filter((k) => k.id !== c.id && VALUE(k, COST) < VALUE(c, COST)).pop();
  const better = FRONT.find((k) => k.id !== c.id && VALUE(k, COST) > VALUE(c, COST));
  return [["faster", faster], ["slower", better]].filter(([, k]) => k);
}
function panel() {
  const c = BY_ID[view.pinned], near = neighbours(c);
  const names = chosen.filter((p) => p.id === c.id).map((p) => p.name);
  const figures = Object.entries(c.estimates).map(([name, e]) => el("tr", {}, el("td", {}, labelOf(name)), el("td", { class: "num" }, quantity(e)), el("td", { class: "soft" }, e.source)));
  const differs = RUN.choices.filter((k) => near.some(([, n]) => n.choices[k.name] !== c.choices[k.name]));
  const same = RUN.choices.filter((k) => !differs.includes(k) && c.choices[k.name] !== undefined);
  const row = (k, mark) => el("tr", { class: mark ? "" : "same" }, el("td", {}, choiceName(k.name)), el("td", {}, String(c.choices[k.name])), near.map(([, n]) => el("td", { class: n.choices[k.name] !== c.choices[k.name] ? "diff" : "" }, String(n.choices[k.name]))));
  put("panel",
    el("h3", {}, names.length ? `${names.join(", ")}: ` : "", names.length ? "chosen" : c.on_front ? "On the front" : "Candidate"),
    el("div", { class: "id" }, c.id, c.trial === null ? "" : ` · trial ${c.trial}`, c.precision ? ` · ${c.precision}` : ""),
    el("table", {}, el("tbody", {}, figures)),
    el("p", { class: "small", style: { "margin-top": "10px" } }, el("button", { type: "button", id: "download", onclick: () => save(...fileOf(c)) }, "Download its JSON"), " ", near.map(([how, n]) => el("button", { type: "button", onclick: () => pin(n.id) }, how === "faster" ? `‹ next ${IS_TIME ? "faster" : "cheaper"}` : "next more accurate ›"))),
    el("h3", { style: { "font-size": "14px", "margin-top": "12px" } }, near.length ? "How it differs from its neighbours on the front" : "Architecture"),
    el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, "Choice"), el("th", {}, "This"), near.map(([how, n]) => el("th", {}, how === "faster" ? `${number(VALUE(n, COST))} ${unitOf(COST)}` : `${number(VALUE(n, COST))} ${unitOf(COST)}`)))), el("tbody", {}, differs.map((k) => row(k, true))))),
    el("details", {}, el("summary", {}, `${same.length} choices are the same`), el("table", {}, el("tbody", {}, same.map((k) => row(k, false))))));
}

function sliders() {
  const goal = view.mode === "goal", name = goal ? GAIN : COST, unit = unitOf(name);
  const values = F.candidates.map((c) => VALUE(c, name)), [lo, hi] = extent(values);
  const at = (t) => (goal ? lo + t * (hi - lo) : lo * (hi / lo) ** t), back = (v) => (goal ? (v - lo) / (hi - lo) : Math.log(v / lo) / Math.log(hi / lo));
  const rows = chosen.map((one) => {
    const start = one.budget !== null && !goal ? one.budget : VALUE(BY_ID[one.id], name);
    const input = el("input", { type: "range", min: 0, max: 1000, step: 1, value: Math.round(1000 * Math.min(1, Math.max(0, back(start)))), "aria-label": `${one.name}: ${goal ? "accuracy goal" : `${lower(labelOf(COST))} budget`}` });
    const entry = el("input", { type: "number", step: "any", value: trimmed(start), "aria-label": `${one.name}: value` });
    const out = el("output", { "data-name": one.name });
    const move = (value) => { one.bound = value; one.id = (goal ? reaching(value) : withinBudget(value))?.id || null; update(); };
    input.addEventListener("input", () => { const value = Number(significant(at(input.value / 1000), 4)); entry.value = value; move(value); });
    entry.addEventListener("input", () => { const value = Number(entry.value); if (entry.value === "" || !isFinite(value)) return; input.value = Math.round(1000 * back(Math.min(hi, Math.max(lo, value)))); move(value); });
    one.out = out;
    return el("div", { class: "slider" }, el("span", { class: "badge" }, one.name), input, el("span", { class: "entry" }, goal ? "≥" : "≤", entry, unit), out);
  });
  put("sliders", el("h3", { style: { margin: "0 0 6px" } }, goal ? "Accuracy goals: the cheapest network that reaches each" : `${labelOf(COST)} budgets: the most accurate network within each`), rows, el("div", { class: "cmd" }, el("code", { id: "command" }), copyButton(() => $("command").textContent)), el("p", { class: "hint", id: "order", style: { margin: "8px 0 0" } }));
  chosen.forEach((one) => { one.id = F.picks.find((p) => p.name === one.name).id; });
}
function update() {
  const goal = view.mode === "goal";
  for (const one of chosen) {
    const c = one.id && BY_ID[one.id];
    const limit = goal ? `the best candidate has ${number(VALUE(BEST, GAIN))}` : `the ${IS_TIME ? "fastest" : "cheapest"} candidate takes ${number(VALUE(FASTEST, COST))} ${unitOf(COST)}`;
    one.out.replaceChildren(...(c ? [el("b", {}, number(VALUE(c, GAIN))), ` ${labelOf(GAIN)} at `, el("b", {}, `${number(VALUE(c, COST))} ${unitOf(COST)}`), ` · ${c.id}`] : [el("span", { class: "warn" }, `no candidate: ${limit}`)]));
  }
  const bounds = chosen.map((one) => one.bound ?? (goal ? VALUE(BY_ID[one.id], GAIN) : one.budget ?? VALUE(BY_ID[one.id], COST)));
  $("command").textContent = `nas select ${RUN.folder} ${goal ? "--at-least" : "--budgets"} ${chosen.map((one, i) => `${one.name}=${trimmed(bounds[i])}${goal ? "" : unitOf(COST)}`).join(",")}`;
  $("order").textContent = bounds.some((b, i) => i && b <= bounds[i - 1]) ? "nas select takes values that rise from the smallest name to the largest." : "";
  draw();
}

function stockTable() {
  if (!F.stock.length) return;
  const known = F.stock.some((s) => s.accuracy);
  const rows = F.stock.map((s) => el("tr", {}, el("td", {}, s.name), el("td", { class: "num" }, quantity(s.latency)), el("td", { class: "num wide" }, number(s.params)), el("td", { class: "num wide" }, number(s.macs)), F.picks.map((p) => el("td", { class: "num ratio" }, ratio(s, BY_ID[p.id]))), el("td", { class: `num ${known ? "" : "wide"}` }, s.accuracy ? number(s.accuracy.value) : "–"), el("td", { class: "num wide" }, s.published_map === null ? "–" : `${s.published_map}\u202f%`)));
  put("stock", el("h3", {}, "Stock networks on the same target"), el("p", { class: "small soft" }, `At ${F.stock[0].image_size} px with the ${RUN.classes.length === 1 ? "one class" : `${RUN.classes.length} classes`} of this data set. “S is” tells how many times faster (or slower) the chosen network is. Published COCO accuracy is at 640 px and on other images: it does not compare with this data set.`),
    el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, "Network"), el("th", { class: "num" }, "Latency"), el("th", { class: "num wide" }, "Parameters"), el("th", { class: "num wide" }, "MACs"), F.picks.map((p) => el("th", { class: "num" }, `${p.name} is`)), el("th", { class: `num ${known ? "" : "wide"}` }, labelOf(GAIN)), el("th", { class: "num wide" }, "COCO, published"))), el("tbody", {}, rows))));
}
function ratio(s, c) {
  const own = c.estimates.latency_ms;
  if (!own) return "–";
  const r = s.latency.value / own.value;
  return r >= 1 ? `${number(r, 2)}× faster` : `${number(1 / r, 2)}× slower`;
}
