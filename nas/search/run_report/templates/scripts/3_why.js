// Three questions, counterfactuals, waterfall.
function questions() {
  const unit = unitOf(COST), typical = F.picks.length ? VALUE(BY_ID[F.picks[Math.floor(F.picks.length / 2)].id], COST) : VALUE(FRONT[0], COST);
  const step = typical > 2 && IS_TIME ? 1 : Number((typical / 4).toPrecision(1));
  const why = el("div", { class: "question" }, el("h3", {}, F.picks.length ? `Why is ${F.picks[0].name} not ${IS_TIME ? "faster" : "cheaper"}?` : "Why not faster?"), whyNotFaster());
  const amount = el("input", { type: "number", min: 0, step: "any", value: step, id: "less" });
  const lost = el("ul", { id: "less-answer" });
  amount.addEventListener("input", () => lessAnswer(lost, Number(amount.value)));
  const less = el("div", { class: "question" }, el("h3", {}, "What would I lose with less time?"), el("div", { class: "ask" }, amount, `${unit} less than each chosen network takes`), lost);
  lessAnswer(lost, step);
  const cards = [why, less];
  if (IS_TIME) {
    const rate = el("input", { type: "number", min: 1, step: "any", value: 30, id: "fps" }), rest = el("input", { type: "number", min: 0, step: "any", value: 0, id: "rest" });
    const answer = el("ul", { id: "fps-answer" });
    const show = () => fpsAnswer(answer, Number(rate.value), Number(rest.value));
    rate.addEventListener("input", show); rest.addEventListener("input", show);
    cards.push(el("div", { class: "question" }, el("h3", {}, "Which network for my camera?"), el("div", { class: "ask" }, rate, "images/s, of each image", rest, "ms for everything else"), answer));
    show();
  }
  put("question-cards", cards);
}
function line(letter, ...text) { return el("li", {}, el("span", { class: "letter" }, letter), el("span", {}, ...text)); }
function whyNotFaster() {
  if (!F.picks.length) return el("p", {}, "Nothing is chosen yet.");
  const pick = F.picks[0], c = BY_ID[pick.id], found = F.explanations.find((e) => e.name === pick.name);
  const cost = VALUE(c, COST), rows = [];
  const within = pick.budget !== null;
  const rule = within ? `Its budget is ${number(pick.budget)} ${unitOf(COST)}, and it is the most accurate network within it (${number(cost)} ${unitOf(COST)}): being faster was not asked for.`
    : RUN.at_least ? "It is the cheapest network that reaches its goal." : "Without budgets, the smallest pick is the fastest useful network: at least a third of the way from the lowest to the highest accuracy of the front.";
  rows.push(line(pick.name, rule));
  const next = FRONT.filter((k) => VALUE(k, COST) < cost).pop();
  if (!c.on_front) rows.push(line("!", "By the newest measurements it is behind the front: another candidate is at least as fast and as accurate."));
  rows.push(next ? line("→", `The next faster network of the front takes ${number(VALUE(next, COST))} ${unitOf(COST)}, with ${signed(VALUE(next, GAIN) - VALUE(c, GAIN), 2)} ${labelOf(GAIN)}.`) : line("→", "No evaluated network is faster without being dominated: it is the fast end of the front."));
  const down = found ? found.counterfactuals.filter((k) => k.effect === "saves") : [];
  for (const k of down.slice(0, 2)) rows.push(line("–", `${choiceName(k.choice)} ${k.before} → ${k.after} would save ${number(-best(k, COST).value, 2)} ${unitOf(COST)} (${range(best(k, COST))}) for ${change(best(k, GAIN), "")} ${labelOf(GAIN)} (${range(best(k, GAIN))}; ${best(k, GAIN).source}).`));
  if (found && !down.length) rows.push(line("–", "No single step of one choice would be faster for certain: every interval contains no change."));
  return el("ul", {}, rows);
}
function lessAnswer(list, amount) {
  list.replaceChildren(...F.picks.map((pick) => {
    const c = BY_ID[pick.id], bound = VALUE(c, COST) - amount, other = isFinite(bound) ? withinBudget(bound) : null;
    if (!other) return line(pick.name, `${number(bound, 3)} ${unitOf(COST)}: no evaluated network; the ${IS_TIME ? "fastest" : "cheapest"} takes ${number(VALUE(FASTEST, COST))} ${unitOf(COST)}.`);
    return line(pick.name, el("b", {}, `${signed(VALUE(other, GAIN) - VALUE(c, GAIN), 2)} ${labelOf(GAIN)}`), ` (${number(VALUE(c, GAIN))} to ${number(VALUE(other, GAIN))}) at ${number(VALUE(other, COST))} instead of ${number(VALUE(c, COST))} ${unitOf(COST)}, network ${other.id}.`);
  }));
}
function fpsAnswer(list, rate, rest) {
  const bound = 1000 / rate - rest, c = bound > 0 ? withinBudget(bound) : null, rows = [];
  if (!(rate > 0)) { list.replaceChildren(); return; }
  rows.push(line("=", `${number(rate)} images/s leave ${number(Math.max(0, bound))} ms for the network.`));
  if (!c) rows.push(line("–", `No evaluated network is that fast: the fastest takes ${number(VALUE(FASTEST, COST))} ms.`));
  else {
    const names = F.picks.filter((p) => p.id === c.id).map((p) => p.name), fit = F.picks.filter((p) => VALUE(BY_ID[p.id], COST) <= bound).map((p) => p.name);
    rows.push(line("→", el("b", {}, names.length ? `Take ${names[0]}` : `Take ${c.id}`), `: ${number(VALUE(c, GAIN))} ${labelOf(GAIN)} at ${number(VALUE(c, COST))} ms, ${percent(VALUE(c, COST) / (1000 / rate))} of the time of an image.`));
    const of = F.picks.filter((p) => fit.includes(p.name)).sort((a, b) => VALUE(BY_ID[b.id], GAIN) - VALUE(BY_ID[a.id], GAIN))[0];
    if (!names.length && of) rows.push(line(of.name, `Of the chosen networks, ${of.name}: ${number(VALUE(BY_ID[of.id], GAIN))} ${labelOf(GAIN)} at ${number(VALUE(BY_ID[of.id], COST))} ms.`));
    rows.push(line("✓", fit.length ? `${fit.join(", ")} ${fit.length > 1 ? "are" : "is"} fast enough.` : "S, M and L are all slower; move a slider to this budget and run its command."));
    const tail = c.estimates.latency_p99_ms;
    if (tail) rows.push(line("!", `One run in a hundred takes ${number(tail.value)} ms or more${tail.value > bound ? ", which is over" : ""}.`));
  }
  list.replaceChildren(...rows);
}

function best(k, name) { return k.measured[name] || k.predicted[name]; }
function axisBar(d, scale, good) {
  const at = (v) => 50 + 50 * Math.max(-1, Math.min(1, v / scale)), a = at(0), b = at(d.value);
  const worse = good === "less" ? d.value > 0 : d.value < 0;
  return el("div", { class: "axis" }, el("i", { class: `fill${worse ? " worse" : ""}`, style: { left: `${Math.min(a, b)}%`, width: `${Math.abs(b - a)}%` } }), el("i", { class: "zero" }), d.low === null ? null : el("i", { class: "whisk", style: { left: `${at(d.low)}%`, width: `${Math.max(.5, at(d.high) - at(d.low))}%` } }));
}
function scaleOf(rows, name) {
  const ends = rows.flatMap((k) => { const d = best(k, name); return [Math.abs(d.value), Math.abs(d.low ?? 0), Math.abs(d.high ?? 0)]; }).sort((a, b) => a - b);
  return 1.04 * (ends[ends.length - 1] || 1);
}
function why(i) {
  const e = F.explanations[i];
  if (!e) { put("why-body", el("p", { class: "soft" }, `No explanation: ${F.explain_note || "it was left out"}.`)); return; }
  const rows = e.counterfactuals, sx = scaleOf(rows, COST), sy = scaleOf(rows, GAIN), measured = rows.filter((k) => Object.keys(k.measured).length).length;
  const head = el("tr", {}, ["One step", `${labelOf(COST)} (${unitOf(COST)})`, labelOf(GAIN)].map((t) => el("th", {}, t)), el("th", { class: "num wide" }, `${labelOf(GAIN)} per ${unitOf(COST) || "unit"}`), el("th", { class: "num wide" }, "Parameters"), el("th", { class: "num wide" }, "MACs"), el("th", {}, ""));
  const row = (k) => {
    const x = best(k, COST), y = best(k, GAIN), tag = k.verified ? "verified" : Object.keys(k.measured).length ? "measured" : "predicted";
    return el("tr", {}, el("td", { class: "step" }, el("b", {}, choiceName(k.choice)), " ", el("span", {}, `${k.before} → ${k.after}`)), el("td", { class: "bars", "data-label": labelOf(COST) }, delta(x, sx, "less")), el("td", { class: "bars", "data-label": labelOf(GAIN) }, delta(y, sy, "more")), el("td", { class: "num wide" }, k.efficiency === null ? "–" : number(k.efficiency, 2)), el("td", { class: "num wide" }, k.computed.params ? count(k.computed.params.value) : "–"), el("td", { class: "num wide" }, k.computed.macs ? count(k.computed.macs.value) : "–"), el("td", {}, el("span", { class: `tag ${tag === "predicted" ? "" : "measured"}` }, tag)));
  };
  const of = (effect) => rows.filter((k) => k.effect === effect), open = of("open");
  const title = (text) => el("tr", { class: "title" }, el("td", { colspan: 7 }, text));
  const group = (text, list) => (list.length ? [title(text), list.map(row)] : []);
  const word = IS_TIME ? "time" : lower(labelOf(COST));
  const body = [group(`Saves ${word}: the least accuracy lost for it first`, of("saves")), group(`Costs ${word}: the most accuracy gained for it first`, of("costs"))];
  const later = open.length ? el("details", { open: body.flat(2).length === 0 }, el("summary", {}, `${open.length} steps whose change of ${lower(labelOf(COST))} is open: its interval contains 0`), el("table", { class: "steps" }, el("thead", {}, head.cloneNode(true)), el("tbody", {}, open.map(row)))) : null;
  const cheaper = of("saves").filter((k) => best(k, GAIN).value >= 0).length;
  const certain = of("saves").filter((k) => best(k, GAIN).low !== null && best(k, GAIN).low > 0).length;
  put("why-body",
    el("p", { class: "intro" }, `What one step of each choice of ${e.name} would change. Bars are changes, whiskers their 95 % intervals: predicted by the surrogate models of the search${measured ? `, measured for ${measured} of ${rows.length}` : ""}. ` + (certain ? `${certain} would be faster and more accurate with 95 % confidence: a longer search, or nas report --verify, would tell.` : cheaper ? `${cheaper} may be faster without losing accuracy, within the uncertainty of the prediction: nas report --verify measures them.` : "No single step is predicted to be faster and as accurate.")),
    el("p", { class: "key" }, el("span", {}, el("i", { style: { background: "var(--blue)" } }), "better"), el("span", {}, el("i", { style: { background: "var(--pick)" } }), "worse"), el("span", {}, "whisker: 95 % interval")),
    body.flat(2).length ? el("table", { class: "steps" }, el("thead", {}, head), el("tbody", {}, body)) : null, later,
    fall(e));
}
function delta(d, scale, good) { return el("div", { class: "delta" }, axisBar(d, scale, good), el("div", { class: "num" }, change(d), el("small", {}, range(d)))); }

function fall(e) {
  const w = e.waterfall;
  if (!w) return el("p", { class: "soft" }, "No other network to compare with.");
  const intro = w.kind === "stock" ? `From the nearest stock network of the space, ${w.start}, to ${e.name}: what each difference brings.` : `No stock network is a point of this space: from ${w.kind === "pick" ? w.start : `its neighbour ${w.start}`} to ${e.name}, what each difference brings.`;
  const shown = w.steps.slice(0, 9), rest = w.steps.slice(9);
  const column = (name, good) => {
    const parts = shown.map((s) => [`${choiceName(s.choice)} ${s.before} → ${s.after}`, s.changes[name].value, s.changes[name]]);
    if (rest.length) parts.push([`${rest.length} other differences`, rest.reduce((t, s) => t + s.changes[name].value, 0), null]);
    if (Math.abs(w.unexplained[name]) > 0) parts.push(["Not explained by the model", w.unexplained[name], null]);
    let at = w.values[name].value;
    const ends = [at]; for (const [, v] of parts) ends.push(ends[ends.length - 1] + v);
    // bars from zero where the differences are large beside the totals; else an axis around them, and totals as marks
    const least = Math.min(...ends), most = Math.max(...ends), cut = least > .6 * most, pad = .06 * (most - least || 1);
    const lo = cut ? least - pad : Math.min(0, least), hi = cut ? most + pad : Math.max(0, most), X = (v) => (100 * (v - lo)) / (hi - lo || 1);
    const total = (text, v) => [el("span", { class: "total" }, text), el("div", { class: "axis" }, el("i", { class: "fill sum", style: cut ? { left: `calc(${X(v)}% - 2px)`, width: "4px" } : { left: `${Math.min(X(0), X(v))}%`, width: `${Math.abs(X(v) - X(0))}%` } })), el("span", { class: "num total" }, `${number(v)} ${unitOf(name)}`)];
    const rows = [...total(w.start, at)];
    for (const [text, v, d] of parts) {
      const a = X(at), b = X(at + v), worse = good === "less" ? v > 0 : v < 0;
      rows.push(el("span", {}, text), el("div", { class: "axis", title: d ? `95 % interval ${range(d)}` : "" }, el("i", { class: `fill${worse ? " worse" : ""}`, style: { left: `${Math.min(a, b)}%`, width: `${Math.max(.4, Math.abs(b - a))}%` } })), el("span", { class: "num" }, d ? change(d) : signed(v, 2)));
      at += v;
    }
    rows.push(...total(e.name, at));
    return el("div", {}, el("h3", {}, titled(name)), el("div", { class: "fall" }, rows), cut ? el("p", { class: "small soft", style: { "margin-top": "6px" } }, `The axis does not begin at zero: it spans ${number(lo)} to ${number(hi)}.`) : null);
  };
  return el("div", {}, el("h3", { style: { "font-size": "17px", "margin-top": "32px" } }, `What makes ${e.name}`), el("p", { class: "small soft" }, `${intro} The parts are Shapley values of the surrogate; ${w.values[COST].source === "predicted" ? `the start is predicted` : "the start was evaluated"}.`), el("div", { class: "cols" }, column(COST, "less"), column(GAIN, "more")));
}
