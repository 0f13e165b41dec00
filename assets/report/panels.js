// The panels of a run: spaces, rates, tiers, gates, requests and latency, over the same moments; and of another run, drawn over
// it.

// How the other run is drawn.
const OTHER = { dash: [6, 3], isStepped: true };

// Puts a panel below the others: its title, what its inks mean, and the place of its chart.
function panel(title, said, keys) {
  const swatch = ([mark, name]) => make("span", {}, make("i", { class: `swatch ${mark}` }), ` ${name}`);
  const plot = make("div", { class: "plot", role: "img", "aria-label": `${title}: ${said}` });
  const head = make("div", { class: "head" }, make("h3", {}, title), make("p", { class: "key" }, ...keys.map(swatch)));
  byId("panels").append(make("div", { class: "panel" }, head, plot));
  return plot;
}

// Times without readings.
function drawGaps({ ctx, x, box, dot, min, max }, gaps) {
  for (const [from, until] of gaps) {
    if (until < min || from > max || x(until) - x(from) < 2) continue;
    ctx.fillStyle = hatch(ctx, ink("edge"), true, dot);
    ctx.fillRect(x(from), box.top, x(until) - x(from), box.height);
  }
}

const most = (...lists) => lists.flat().reduce((most, value) => (value > most ? value : most), 0);
const extent = (list, words) => {
  const values = list.filter((value) => value !== null);
  return values.length ? `${words(values.reduce((a, b) => Math.min(a, b)))} to ${words(values.reduce((a, b) => Math.max(a, b)))}` : "not read";
};

function spacePanel(charts, run, space, other) {
  const gib = (value) => unit(value.toFixed(value < 10 ? 2 : 1), "GiB");
  const overlaid = other?.spaces.find(({ name }) => name === space.name);
  const top = most(space.total.at.map(([value]) => value), space.used, overlaid?.used ?? []) * 1.06;
  const keys = [["others-area", "others"], ["own-area", "models"], ["use", "all use"]];
  if (space.projected) keys.push(["projected", "after the next upgrade, as projected"]);
  if (overlaid) keys.push(["second", `all use under ${other.name}`]);
  const host = panel(`${space.name} (GiB)`, `all use ${extent(space.used, gib)}, others ${extent(space.others, gib)}`, keys);
  const series = [
    { stroke: () => ink("own"), width: 1.25, fill: () => ink("own-area"), points: { show: false } },
    { stroke: () => ink("others"), width: 1, fill: () => ink("others-area"), points: { show: false } },
  ];
  const data = [run.at, space.used, space.others];
  if (space.projected) {
    series.push({ stroke: () => ink("preventive"), width: 1.5, points: { show: true, size: 2 } });
    data.push(space.projected);
  }
  if (space.least) {
    series.push({ stroke: () => ink("ink"), width: 0.75, points: { show: false } });
    data.push(space.least);
  }
  charts.add(host, {
    height: 190, data, series, y: { range: [0, top] },
    under: (pen) => drawGaps(pen, run.gaps),
    over: (pen) => {
      if (overlaid) drawColumns(pen, byColumn(pen, other.at, overlaid.used), (column) => column[2], { ...OTHER, stroke: ink("second") });
      drawLines(pen, [space.total, ...space.lines], run.at);
    },
  });
}

function ratePanel(charts, run, rate) {
  const words = (value) => unit(value.toFixed(0), "%");
  const top = Math.max(105, most(rate.used, rate.most ?? []) * 1.05);
  const keys = [["use", "mean of all use"], ["peak", "the most"]];
  if (rate.others) keys.unshift(["others-area", "others"], ["own-area", "models"]);
  const host = panel(`${rate.name} (%)`, `all use ${extent(rate.used, words)}`, keys);
  charts.add(host, {
    height: 110, data: [run.at, run.at.map(() => null)], series: [{ points: { show: false } }],
    y: { range: [0, top], splits: () => [0, 50, 100] },
    under: (pen) => {
      drawGaps(pen, run.gaps);
      const used = byColumn(pen, run.at, rate.used), mean = (column) => column[1], peak = (column) => column[2];
      drawColumns(pen, rate.most ? byColumn(pen, run.at, rate.most) : used, peak, { fill: ink("band") });
      if (rate.others) {
        drawColumns(pen, used, mean, { fill: ink("own-area") });
        drawColumns(pen, byColumn(pen, run.at, rate.others), mean, { fill: ink("others-area") });
      }
      drawColumns(pen, used, mean, { stroke: ink("own") });
    },
    over: (pen) => drawLines(pen, rate.lines, run.at),
  });
}

const PHASES = { loading: ["own", true], draining: ["upgrade", false], unloading: ["degrade", true] };

// Rungs as steps, with what models were doing, and every change above them.
function tierPanel(charts, run, other) {
  const keys = [["tier", "serves"]];
  if (run.optimum.length) keys.push(["optimum", "optimum"]);
  for (const name of Object.keys(PHASES)) if (run.phases.some((phase) => phase.name === name)) keys.push([name, name]);
  if (other) keys.push(["second", `serves under ${other.name}`], ["apart", "not the same"]);
  keys.push(["change", "change"]);
  if (run.changes.some((change) => change.isReversal)) keys.push(["reversal", "reversal"]);
  const rungs = run.tiers.length, last = run.tiers[run.steps.at(-1)[1]];
  const host = panel("tier", `${run.changes.length} changes; ${last} at the end`, keys);
  charts.add(host, {
    height: 44 + AXIS + 24 * rungs, data: [[run.at[0] ?? 0, run.end], [null, null]], series: [{ points: { show: false } }],
    y: { range: [-0.6, rungs + 0.2], splits: () => run.tiers.map((_, rung) => rung), values: () => run.tiers.map(short) },
    under: (pen) => {
      drawGaps(pen, run.gaps);
      if (other) drawApart(pen, run, other);
      for (const phase of run.phases) {
        if (phase.until < pen.min || phase.from > pen.max) continue;
        const [colour, isRising] = PHASES[phase.name], { ctx, x, y, dot } = pen;
        ctx.fillStyle = hatch(ctx, ink(colour), isRising, dot);
        const left = x(phase.from);
        ctx.fillRect(left, y(phase.rung + 0.36), Math.max(2 * dot, x(phase.until) - left), y(phase.rung - 0.36) - y(phase.rung + 0.36));
      }
    },
    over: (pen) => {
      if (run.optimum.length) drawSteps(pen, run.optimum, run.end, { colour: ink("preventive"), width: 4, shift: 4 });
      drawSteps(pen, run.steps, run.end, { colour: ink("ink"), width: 2 });
      if (other) drawSteps(pen, other.steps, other.end, { colour: ink("second"), width: 2, dash: OTHER.dash, shift: -3 });
      drawChanges(pen, run.changes, rungs - 0.2);
    },
  });
}

// The times in which two runs were not on the same tier.
function drawApart({ ctx, x, box, min, max }, run, other) {
  const moments = [...new Set([...run.steps, ...other.steps].map(([at]) => at))].sort((a, b) => a - b);
  ctx.fillStyle = ink("band");
  moments.forEach((from, place) => {
    const until = moments[place + 1] ?? Math.min(run.end, other.end);
    if (until < min || from > max || rungAt(run.steps, from) === rungAt(other.steps, from)) return;
    ctx.fillRect(x(from), box.top, x(until) - x(from), box.height);
  });
}

// A mark a change: up or down, and in a ring where it undid the one before. Marks of one place are one mark.
function drawChanges({ ctx, x, y, dot, min, max }, changes, height) {
  const drawn = new Set();
  for (const change of changes) {
    if (change.at < min || change.at > max) continue;
    const place = Math.round(x(change.at)), isUp = change.to > change.from, kind = `${Math.round(place / dot)} ${isUp} ${change.isReversal}`;
    if (drawn.has(kind)) continue;
    drawn.add(kind);
    const middle = y(height), half = 4 * dot, tip = isUp ? -half : half;
    ctx.beginPath();
    ctx.moveTo(place, middle + tip);
    ctx.lineTo(place - half, middle - tip);
    ctx.lineTo(place + half, middle - tip);
    ctx.closePath();
    ctx.fillStyle = ctx.strokeStyle = ink(isUp ? "own" : "degrade");
    ctx.fill();
    if (!change.isReversal) continue;
    ctx.beginPath();
    ctx.arc(place, middle, 7 * dot, 0, 7);
    ctx.lineWidth = 1.5 * dot;
    ctx.stroke();
  }
}

// Strips below one another, each with its name above it: `cells` are `[height, count]`, and a height of null is not drawn.
function stripPanel(charts, run, title, strips, keys, said) {
  const host = panel(title, said, keys);
  const ROW = 28;
  charts.add(host, {
    height: 8 + AXIS + ROW * strips.length, data: [[run.at[0] ?? 0, run.end], [null, null]], series: [{ points: { show: false } }],
    y: { range: [0, strips.length], splits: () => [], values: () => [], plain: true },
    under: (pen) => drawGaps(pen, run.gaps),
    over: ({ ctx, x, box, dot, min, max }) => {
      strips.forEach((strip, row) => {
        const bottom = box.top + (row + 1) * (box.height / strips.length) - 2 * dot, full = 10 * dot;
        let place = 0;
        ctx.fillStyle = ink("edge");
        ctx.fillRect(box.left, bottom - dot, box.width, dot);
        ctx.fillStyle = ink("degrade");
        for (const [height, count] of strip.cells) {
          const from = run.at[place], until = run.at[place + count] ?? run.end;
          place += count;
          if (height === null || height === 0 || until < min || from > max) continue;
          const left = x(Math.max(from, min));
          ctx.fillRect(left, bottom - full * height, Math.max(dot, x(Math.min(until, max)) - left), full * height);
        }
        ctx.fillStyle = ink("soft");
        ctx.textAlign = "left";
        ctx.fillText(strip.name, box.left + 4 * dot, bottom - full - 4 * dot);
      });
    },
  });
}

const bits = (mask) => [...Array(34).keys()].filter((bit) => Math.floor(mask / 2 ** bit) % 2 === 1);

// A strip a gate: whole where it kept every higher tier away, half where only some.
function gatesPanel(charts, run) {
  const closed = (state) => {
    if (state === null) return null;
    return state[1] === 0 ? 0 : state[1] === state[0] ? 1 : 0.5;
  };
  const strips = run.gates.map(({ name, states }) => ({ name, cells: states.map(([state, count]) => [closed(state), count]) }));
  const once = strips.filter((strip) => strip.cells.some(([height]) => height > 0));
  const never = strips.filter((strip) => !once.includes(strip)).map((strip) => strip.name);
  if (strips.length === 0) return reasonsPanel(charts, run);
  const said = `closed at some time: ${once.map((strip) => strip.name).join(", ") || "none"}; never closed: ${never.join(", ") || "none"}`;
  const keys = [["closed", "closed for every higher tier"], ["half-closed", "for some"]];
  stripPanel(charts, run, "gates: what kept a higher tier away", once, keys, said);
  if (never.length) byId("panels").lastElementChild.append(make("p", { class: "when" }, `never closed: ${never.join(", ")}`));
}

// A policy that spells out no gates gives its reasons.
function reasonsPanel(charts, run) {
  const names = run.reasons.map(([name]) => name);
  const cells = (kind) => run.kinds.map((at) => [at === kind ? 1 : 0, 1]);
  const strips = names.map((name, kind) => ({ name, cells: joined(cells(kind)) })).filter((strip) => strip.cells.some(([height]) => height));
  if (strips.length) stripPanel(charts, run, "reasons: what was decided on", strips, [["closed", "given"]], names.join(", "));
}

function joined(cells) {
  const runs = [];
  for (const [value, count] of cells) {
    if (runs.length && runs.at(-1)[0] === value) runs.at(-1)[1] += count;
    else runs.push([value, count]);
  }
  return runs;
}

function requestPanels(charts, run, other) {
  const { requests } = run;
  if (!requests) return;
  const top = Math.max(1, most(requests.running, requests.waiting)), refused = requests.refused.reduce((a, b) => a + b, 0);
  const failed = requests.failed.reduce((a, b) => a + b, 0);
  const keys = [["use", "running, mean"], ["own-area", "running, most"], ["waiting", "waiting, most"], ["refused", "refused or failed"]];
  if (other?.requests) keys.push(["second", `running or waiting under ${other.name}, most`]);
  const host = panel("requests", `at most ${top} at once; ${refused} refused, ${failed} failed`, keys);
  charts.add(host, {
    height: 120, data: [run.at, run.at.map(() => null)], series: [{ points: { show: false } }],
    y: { range: [0, top * 1.35], splits: () => counts(top) },
    under: (pen) => {
      const running = byColumn(pen, run.at, requests.running), waiting = byColumn(pen, run.at, requests.waiting);
      drawColumns(pen, running, (column) => column[2], { fill: ink("own-area"), isStepped: true });
      drawColumns(pen, waiting, (column) => column[2], { fill: ink("upgrade"), isStepped: true });
      drawColumns(pen, running, (column) => column[1], { stroke: ink("own"), isStepped: true });
      if (!other?.requests) return;
      const all = other.requests.running.map((count, place) => count + other.requests.waiting[place]);
      drawColumns(pen, byColumn(pen, other.at, all), (column) => column[2], { ...OTHER, stroke: ink("second") });
    },
    over: ({ ctx, x, box, dot, min, max }) => {
      ctx.strokeStyle = ink("degrade");
      ctx.lineWidth = 1.5 * dot;
      ctx.beginPath();
      run.at.forEach((at, place) => {
        if (at < min || at > max || requests.refused[place] + requests.failed[place] === 0) return;
        const left = x(at), middle = box.top + 7 * dot, arm = 3.5 * dot;
        ctx.moveTo(left - arm, middle - arm);
        ctx.lineTo(left + arm, middle + arm);
        ctx.moveTo(left + arm, middle - arm);
        ctx.lineTo(left - arm, middle + arm);
      });
      ctx.stroke();
    },
  });
  if (requests.slowest.some((value) => value !== null)) latencyPanel(charts, run, other);
}

const counts = (top) => [...new Set([0, Math.ceil(top / 2), top])];

// Latency on a logarithmic axis: from the quickest to the slowest reply that ended at a moment.
function latencyPanel(charts, run, other) {
  const { slowest, limit } = run.requests, log = (seconds) => Math.log10(Math.max(seconds, 0.001));
  const shown = other?.requests ? [run, other] : [run], all = (name) => shown.flatMap(({ requests }) => requests[name]).filter((value) => value !== null);
  const low = Math.floor(log(all("quickest").reduce((a, b) => Math.min(a, b)))), high = Math.max(low + 1, Math.ceil(log(most(all("slowest")))));
  const keys = [["use", "quickest to slowest"]];
  if (shown.length > 1) keys.push(["second", `under ${other.name}`]);
  const host = panel("latency of replies by the moment they were done", extent(slowest, span), keys);
  const lines = limit === null ? [] : [{ name: "limit", at: [[log(limit), run.at.length]] }];
  charts.add(host, {
    height: 130, data: [run.at, run.at.map(() => null)], series: [{ points: { show: false } }],
    y: { range: [low, high + 0.05], splits: () => [...Array(high - low + 1).keys()].map((i) => low + i), values: (_, splits) => splits.map((power) => span(10 ** power)) },
    over: (pen) => {
      const { ctx, x, y, dot, min, max } = pen;
      shown.forEach(({ at, requests }, place) => {
        ctx.fillStyle = ink(["own", "second"][place]);
        at.forEach((at, i) => {
          if (requests.slowest[i] === null || at < min || at > max) return;
          const top = y(log(requests.slowest[i])) - dot, bottom = y(log(requests.quickest[i])) + dot;
          ctx.fillRect(x(at) - dot, top, 2 * dot, bottom - top);
        });
      });
      drawLines(pen, lines, run.at);
    },
  });
}

function companionsPanel(charts, run) {
  if (run.companions.length === 0) return;
  const strips = run.companions.map(({ name, serves }) => {
    const cells = run.at.map((at) => [serves.some(([from, until]) => from <= at && at < until) ? 1 : 0, 1]);
    return { name, cells: joined(cells) };
  });
  stripPanel(charts, run, "companions", strips, [["closed", "serves"]], strips.map((strip) => strip.name).join(", "));
}
