// Latency per stage and operation, the roofline, and the diagrams of the networks.
const BOUNDS = [["compute", "bound by compute"], ["memory", "bound by memory"], ["neither", "neither: launching, small loops, layout"]];
function profileOf(pick) { return pick ? F.operations.profiles[pick.id] : null; }
function stagesOf(profile) {
  const found = new Map();
  for (const o of profile.operations) {
    const s = found.get(o.stage) || { name: o.stage, ms: 0, macs: 0, bytes: 0, compute: 0, memory: 0, neither: 0 };
    s.ms += o.ms; s.macs += o.macs; s.bytes += o.bytes; s[o.bound || "neither"] += o.ms;
    found.set(o.stage, s);
  }
  const order = (F.networks[0]?.parts || []).map((q) => q.name), at = (s) => (order.includes(s.name) ? order.indexOf(s.name) : s.name === "layout" ? 1e3 : 999);
  return [...found.values()].sort((a, b) => at(a) - at(b));
}
function time(i) {
  const pick = F.picks[i], p = profileOf(pick);
  if (!p) { put("time-body", el("p", { class: "soft" }, `No profile: ${F.operations.missing || "it was left out"}.`)); return; }
  const stages = stagesOf(p), total = p.operations_ms, macs = stages.reduce((t, s) => t + s.macs, 0), most = Math.max(...stages.map((s) => s.ms));
  const share = Object.fromEntries(BOUNDS.map(([k]) => [k, stages.reduce((t, s) => t + s[k], 0) / total]));
  const top = [...stages].sort((a, b) => b.ms - a.ms)[0], reported = BY_ID[pick.id].estimates.latency_ms;
  const known = F.operations.roofline !== null;
  const text = `${p.operations.length} operations. The part ${top.name} takes the most: ${percent(top.ms / total)} of the time for ${percent(top.macs / (macs || 1))} of the multiply-accumulates.` + (known ? ` ${percent(share.compute)} of the time is bound by compute, ${percent(share.memory)} by memory, ${percent(share.neither)} by neither.` : "");
  const check = `The operations sum to ${number(total)} ms; a run without the profile takes ${number(p.run_ms)} ms in the same process (ratio ${number(total / p.run_ms, 3)})` + (reported ? `, and the reported latency is ${quantity(reported)}, scaled to the machine’s nominal speed.` : ".") + (p.overhead_ms ? ` Per operation ${number(1000 * p.overhead_ms, 2)} µs of profiling are subtracted.` : "");
  const rows = stages.flatMap((s) => [el("span", {}, s.name), el("div", { class: "track" }, BOUNDS.map(([k]) => el("i", { style: { width: `${(100 * s[k]) / most}%`, background: `var(--${k})` } }))), el("span", { class: "num" }, `${number(s.ms)} ms`), el("span", { class: "num" }, percent(s.ms / total)), el("span", { class: "num wide" }, s.macs ? number(s.macs, 2) : "–"), el("span", { class: "num wide" }, s.bytes ? `${number(s.bytes / 1e6, 2)} MB` : "–")]);
  const heads = [["Stage"], [""], ["Time", "num"], ["Share", "num"], ["MACs", "num wide"], ["Traffic", "num wide"]].map(([t, c]) => el("span", { class: `head ${c || ""}` }, t));
  const slow = [...p.operations].sort((a, b) => b.ms - a.ms).slice(0, 10);
  const table = el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, "Operation"), el("th", { class: "wide" }, "Kind"), el("th", { class: "num" }, "Time"), el("th", { class: "num" }, "GMAC/s"), el("th", { class: "num wide" }, "MACs"), el("th", {}, "Bound by"))), el("tbody", {}, slow.map((o) => el("tr", {}, el("td", { class: "wraps" }, o.name), el("td", { class: "wide" }, o.kind), el("td", { class: "num" }, `${number(o.ms)} ms`), el("td", { class: "num" }, o.macs ? number(o.macs / o.ms / 1e6, 2) : "–"), el("td", { class: "num wide" }, o.macs ? number(o.macs) : "–"), el("td", {}, o.bound || "–"))))));
  put("time-body", el("p", { class: "intro" }, text), el("p", { class: "small soft" }, check), el("p", { class: "key" }, BOUNDS.map(([k, t]) => el("span", {}, el("i", { style: { background: `var(--${k})` } }), t))),
    el("div", { class: "cols" }, el("div", {}, el("h3", { style: { "margin-top": 0 } }, "By stage"), el("div", { class: "hbars stages" }, heads, rows)), el("div", {}, el("h3", { style: { "margin-top": 0 } }, "Roofline of one core, measured"), roofline(p))),
    el("h3", {}, "The slowest operations"), table);
}
function power(k) { return k >= -2 && k <= 3 ? String(10 ** k) : `10${String(k).split("").map((d) => SUP[d]).join("")}`; }
function roofline(p) {
  const r = F.operations.roofline;
  if (!r) return el("p", { class: "soft" }, "Not measured.");
  const W = NARROW ? 358 : 560, H = NARROW ? 280 : 330, L = 52, B = 46, T = 12, R = 14;
  const ops = p.operations.filter((o) => o.macs && o.bytes && o.ms);
  if (!ops.length) return el("p", { class: "soft" }, "The runtime’s operations have no known cost.");
  const xs = ops.map((o) => o.macs / o.bytes), ys = ops.map((o) => o.macs / o.ms / 1e6), peak = r.macs_per_s / 1e9;
  const x0 = Math.floor(Math.log10(Math.min(...xs, .1))), x1 = Math.ceil(Math.log10(Math.max(...xs, 10))), y0 = Math.floor(Math.log10(Math.min(...ys))), y1 = Math.ceil(Math.log10(Math.max(...ys, peak)));
  const X = (v) => L + ((Math.log10(v) - x0) / (x1 - x0)) * (W - L - R), Y = (v) => H - B - ((Math.log10(v) - y0) / (y1 - y0)) * (H - B - T);
  const nodes = [];
  for (let k = x0; k <= x1; k++) nodes.push(svg("line", { x1: X(10 ** k), x2: X(10 ** k), y1: T, y2: H - B, stroke: "var(--line)" }), svg("text", { x: X(10 ** k), y: H - B + 17, "text-anchor": "middle", "font-size": 12, class: "soft" }, power(k)));
  for (let k = y0; k <= y1; k++) nodes.push(svg("line", { x1: L, x2: W - R, y1: Y(10 ** k), y2: Y(10 ** k), stroke: "var(--line)" }), svg("text", { x: L - 8, y: Y(10 ** k) + 4, "text-anchor": "end", "font-size": 12, class: "soft" }, power(k)));
  for (const [bandwidth, dash] of [[r.cache_bytes_per_s, ""], [r.memory_bytes_per_s, "5 4"]]) {
    const ridge = r.macs_per_s / bandwidth, low = Math.max(10 ** x0, 10 ** y0 / (bandwidth / 1e9));
    nodes.push(svg("polyline", { points: [[low, (low * bandwidth) / 1e9], [ridge, peak], [10 ** x1, peak]].map(([a, b]) => `${X(a)},${Y(b)}`).join(" "), fill: "none", stroke: "var(--ink)", "stroke-width": 1.4, "stroke-dasharray": dash }));
  }
  ops.forEach((o, i) => nodes.push(svg("circle", { cx: X(xs[i]), cy: Y(ys[i]), r: 3 + 9 * Math.sqrt(o.ms / p.operations_ms), fill: `var(--${o.bound || "neither"})`, "fill-opacity": .55, stroke: `var(--${o.bound || "neither"})` }, svg("title", {}, `${o.name}: ${number(o.ms)} ms, ${number(ys[i], 2)} GMAC/s`))));
  nodes.push(svg("text", { x: (L + W - R) / 2, y: H - 8, "text-anchor": "middle", "font-size": 12 }, "multiply-accumulates per byte"), svg("text", { x: 14, y: (T + H - B) / 2, "text-anchor": "middle", "font-size": 12, transform: `rotate(-90 14 ${(T + H - B) / 2})` }, "GMAC/s"));
  return el("div", {}, svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Roofline" }, nodes), el("p", { class: "small soft" }, `Peak ${number(peak)} GMAC/s; ${number(r.cache_bytes_per_s / 1e9)} GB/s in the caches (solid), ${number(r.memory_bytes_per_s / 1e9)} GB/s from memory (dashed). The area of a circle is the operation’s share of the time.`));
}

function networks() {
  const seen = new Map();
  for (const n of F.networks) seen.set(n.id, { ...n, names: [...(seen.get(n.id)?.names || []), n.name] });
  const list = [...seen.values()], times = list.some((n) => F.operations.profiles[n.id]);
  put("network-intro", `From the image (top left) to the detections (right); from fine resolution (top) to coarse (bottom). The darker a block, the larger its share of the ${times ? "time" : "multiply-accumulates"}. ` + (list.length > 1 ? "What differs between the networks is bold and outlined." : ""));
  put("networks", list.map((n) => {
    const c = BY_ID[n.id];
    return el("figure", {}, el("figcaption", {}, el("span", { class: "badge" }, n.names.join(" ")), `${number(VALUE(c, COST))} ${unitOf(COST)} · ${number(VALUE(c, GAIN))} ${labelOf(GAIN)}`), diagram(n));
  }));
}
function diagram(network) {
  const profile = F.operations.profiles[network.id], times = {};
  if (profile) for (const s of stagesOf(profile)) times[s.name] = s.ms;
  const parts = network.parts, weight = (p) => (profile ? times[p.name] || 0 : p.macs), most = Math.max(...parts.map(weight)) || 1, sum = parts.reduce((t, p) => t + weight(p), 0) || 1;
  const W = 106, H = 60, GX = 18, GY = 12, place = {}, head = parts[parts.length - 1];
  // columns: the backbone, then a new one whenever the neck turns from finer to coarser; rows: strides
  let column = 0, last = null, rising = null, neck = false;
  const rows = new Map();
  for (const p of parts) {
    if (p === head) continue;
    if (!neck && last && p.stride < last.stride) { neck = true; column = 1; rising = true; }
    else if (!neck && /^neck|^up|^down/.test(p.name)) { neck = true; column = 1; rising = null; }
    else if (neck && rising && p.stride > last.stride) { column += 1; rising = false; }
    else if (neck && rising === false && p.stride < last.stride) { column += 1; rising = true; }
    if (neck && rising === null && last) rising = p.stride <= last.stride;
    place[p.name] = { column, stride: p.stride };
    const row = rows.get(p.stride) || []; row.push([column, p.name]); rows.set(p.stride, row);
    last = p;
  }
  let y = 4;
  const strides = [...rows.keys()].sort((a, b) => a - b), bottom = {};
  for (const s of strides) {
    const counts = {}; let used = 1;
    for (const [k, name] of rows.get(s)) { counts[k] = (counts[k] || 0) + 1; place[name].slot = counts[k] - 1; used = Math.max(used, counts[k]); }
    for (const [k, name] of rows.get(s)) place[name].y = y + (counts[k] === 1 ? (used - 1) : place[name].slot) * (H + GY);
    y += used * (H + GY); bottom[s] = y;
  }
  const columns = Math.max(...Object.values(place).map((p) => p.column)) + 1, height = y - GY + 4;
  const sources = head.inputs.map((n) => place[n]).filter(Boolean), top = Math.min(...sources.map((s) => s.y)), low = Math.max(...sources.map((s) => s.y)) + H;
  place[head.name] = { column: columns, y: top, height: Math.max(H, low - top) };
  for (const p of Object.values(place)) p.x = 4 + p.column * (W + GX);
  const nodes = [];
  for (const p of parts) for (const name of p.inputs) {
    const a = place[name], b = place[p.name];
    if (!a) continue;
    const same = a.column === b.column, ha = a.height || H, hb = b.height || H;
    const d = same ? (b.y > a.y ? `M${a.x + W / 2},${a.y + ha} V${b.y}` : `M${a.x + W / 2},${a.y} V${b.y + hb}`) : (() => { const ax = a.x + W, ay = a.y + ha / 2, by = b.height ? Math.min(b.y + b.height - H / 2, Math.max(b.y + H / 2, ay)) : b.y + hb / 2, mx = b.x - GX / 2; return `M${ax},${ay} H${mx} V${by} H${b.x}`; })();
    nodes.push(svg("path", { d, fill: "none", stroke: "var(--grey)", "stroke-width": 1.2, "stroke-linejoin": "round" }));
  }
  for (const p of parts) {
    const at = place[p.name], h = at.height || H, changed = p.differs.length > 0, share = weight(p) / sum;
    const bold = (field) => (p.differs.includes(field) ? 700 : 400), mid = at.y + h / 2;
    const first = [svg("tspan", { "font-weight": bold("kind") }, p.kind), p.depth ? svg("tspan", { "font-weight": bold("depth") }, ` ×${p.depth}`) : null, p.hidden ? svg("tspan", { "font-weight": bold("hidden") }, ` (${p.hidden})`) : null];
    const second = p === head ? [`${number(p.params, 2)} params`] : [svg("tspan", { "font-weight": bold("channels") }, `${p.channels} ch`), ` · ${p.size[0]}×${p.size[1]}`];
    nodes.push(svg("g", {}, svg("title", {}, `${p.name}: ${percent(share, 1)} of the ${profile ? "time" : "multiply-accumulates"}, ${number(p.macs)} MACs, ${number(p.params)} parameters`),
      svg("rect", { x: at.x, y: at.y, width: W, height: h, rx: 6, fill: "var(--paper)", stroke: changed ? "var(--pick)" : "var(--grey)", "stroke-width": changed ? 1.8 : 1 }),
      svg("rect", { x: at.x, y: at.y, width: W, height: h, rx: 6, fill: "var(--blue)", "fill-opacity": (.5 * weight(p)) / most }),
      svg("text", { x: at.x + 8, y: mid - 12, "font-size": 13, "font-weight": 600 }, p.name), svg("text", { x: at.x + W - 8, y: mid - 12, "font-size": 12, "text-anchor": "end" }, percent(share)),
      svg("text", { x: at.x + 8, y: mid + 5, "font-size": 12.5 }, first), svg("text", { x: at.x + 8, y: mid + 20, "font-size": 12.5, class: "soft" }, second)));
  }
  return svg("svg", { viewBox: `0 0 ${(columns + 1) * (W + GX) - GX + 8} ${height}`, role: "img", "aria-label": `Diagram of ${network.names.join(", ")}` }, nodes);
}
