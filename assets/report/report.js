// The page of a run: its figures, its panels, what was decided at the moment that is read, and the lists that lead there.
const MOST_SHOWN = 200, DAY = 86400;

function showFigures(runs) {
  const [run] = runs;
  byId("about").textContent = runs.length === 1 ? "" : `${run.name} (filled), and ${runs[1].name} (dashed) over it`;
  const names = [...new Set(runs.flatMap((run) => run.figures.map(([name]) => name)))];
  const figure = (run, name) => run.figures.find(([other]) => other === name)?.[1] ?? "–";
  if (runs.length === 1) {
    byId("figures").append(make("dl", {}, ...names.map((name) => make("div", {}, make("dt", {}, name), make("dd", {}, figure(run, name))))));
  } else {
    const head = make("tr", {}, make("td"), ...runs.map((run) => make("th", { scope: "col" }, run.name)));
    const rows = names.map((name) => make("tr", {}, make("th", { scope: "row" }, name), ...runs.map((run) => make("td", {}, figure(run, name)))));
    byId("figures").append(make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
  }
  byId("warnings").append(...runs.flatMap((run) => run.warnings.map((warning) => make("li", {}, warning))));
}

// What is read at a moment: when it is, what was decided, and how things stood.
class Reader {
  constructor(run, other) {
    Object.assign(this, { run, other });
  }

  show(at) {
    const { run } = this, place = Math.max(0, lastUpTo(run.at, at + 1e-6));
    const since = run.time.isKnown ? ` · ${run.time.since(at)} since the beginning` : " since the beginning";
    const tier = run.tiers[rungAt(run.steps, at)];
    const said = run.said.lastUpTo(place);
    byId("moment-time").replaceChildren(make("b", {}, run.time.text(at)), `${since} · `, make("b", {}, tier), " serves");
    const words = said < 0 ? "no decision yet" : run.said.at(said);
    byId("moment-said").textContent = said >= 0 && said < place ? `${words} (since ${run.time.text(run.at[said])})` : words;
    byId("moment-other").hidden = !this.other;
    if (this.other) byId("moment-other").textContent = this.#ofOther(at);
    byId("moment-figures").textContent = [...this.#figures(place), ...this.#closed(place)].join(" · ");
    const slider = byId("moment");
    slider.setAttribute("aria-valuemax", String(run.at.length - 1));
    slider.setAttribute("aria-valuenow", String(place));
    slider.setAttribute("aria-valuetext", `${run.time.text(at)}, ${tier}: ${words}`);
    this.place = place;
  }

  #ofOther(at) {
    const { other } = this, said = other.said.lastUpTo(Math.max(0, lastUpTo(other.at, at + 1e-6)));
    return `${other.name}: ${other.tiers[rungAt(other.steps, at)]} serves; ${said < 0 ? "no decision yet" : other.said.at(said)}`;
  }

  #figures(place) {
    const { run } = this, found = [];
    for (const space of run.spaces) {
      const used = space.used[place];
      if (used !== null) found.push(`${space.name} ${unit(used.toFixed(1), "GiB")}, others ${unit(space.others[place].toFixed(1), "GiB")}`);
    }
    for (const rate of run.rates) {
      if (rate.used[place] !== null) found.push(`${rate.name} ${unit(rate.used[place].toFixed(0), "%")}`);
    }
    if (run.requests) {
      const { running, waiting, refused, failed } = run.requests;
      found.push(`${running[place]} running, ${waiting[place]} waiting`);
      if (refused[place]) found.push(`${refused[place]} refused`);
      if (failed[place]) found.push(`${failed[place]} failed`);
    }
    return found;
  }

  #closed(place) {
    const closed = this.run.gates.flatMap(({ name, states }) => {
      const [state] = states[this.#stateOf(name, states, place)] ?? [null];
      if (state === null || state[1] === 0) return [];
      const tiers = bits(state[1]).filter((bit) => bit > 0).map((bit) => this.run.tiers[bit]);
      return [tiers.length ? `${name} (${tiers.join(", ")})` : name];
    });
    return closed.length ? [`closed gates: ${closed.join(", ")}`] : [];
  }

  #stateOf(name, states, place) {
    this.starts ??= new Map();
    if (!this.starts.has(name)) {
      let start = 0;
      this.starts.set(name, states.map(([, count]) => (start += count) - count));
    }
    return lastUpTo(this.starts.get(name), place);
  }
}

// Shows a moment, from close enough.
function jump(charts, at) {
  const length = Math.min(charts.max - charts.min, Math.max(SHORTEST, (charts.last - charts.first) / 24, 600));
  charts.zoom(at - length / 2, at + length / 2);
  charts.point(at);
}

function decisionItem(charts, run, place, isNamed = false) {
  const change = run.changes[place], isUp = change.to > change.from;
  const words = run.changesSaid.at(place) ?? `${run.tiers[change.from]} → ${run.tiers[change.to]}`;
  const text = isNamed ? `${run.name}: ${words}` : words;
  const kind = change.isReversal ? `${isUp ? "up" : "down"} reversal` : isUp ? "up" : "down";
  const button = make("button", { type: "button" }, make("span", { class: "when" }, run.time.text(change.at)), make("span", {}, text));
  button.addEventListener("click", () => {
    jump(charts, change.at);
    byId("reader").scrollIntoView({ block: "start" });
  });
  return make("li", { class: kind }, button);
}

function showDecisions(charts, runs) {
  const all = runs.flatMap((run) => run.changes.map((change, place) => ({ run, place, at: change.at }))).sort((a, b) => a.at - b.at);
  const reversals = all.filter(({ run, place }) => run.changes[place].isReversal).length;
  byId("decisions-about").textContent = all.length === 0 ? "No change was decided."
    : `${all.length} changes, ${reversals} of them reversals (marked ↺). Each leads to its moment.`;
  let shown = 0;
  const more = () => {
    const next = all.slice(shown, shown + MOST_SHOWN).map(({ run, place }) => decisionItem(charts, run, place, runs.length > 1));
    byId("decisions").append(...next);
    shown += next.length;
    byId("more").hidden = shown >= all.length;
    byId("more").textContent = `Show more (${all.length - shown} are left)`;
  };
  byId("more").addEventListener("click", more);
  more();
  const worst = runs.flatMap((run) => (run.changes.length > 10 ? run.worst.map((place) => decisionItem(charts, run, place, runs.length > 1)) : []));
  byId("worst-section").hidden = worst.length === 0;
  byId("worst").append(...worst);
  return all.map(({ at }) => at);
}

function showReasons(run, isNamed) {
  const rows = run.reasons.toSorted((a, b) => b[2] - a[2] || b[1] - a[1]), cell = (count) => make("td", {}, count.toLocaleString("en"));
  const head = make("tr", {}, ...["reason", "holds", "changes"].map((name) => make("th", { scope: "col" }, name)));
  const body = rows.map(([name, holds, changes]) => make("tr", {}, make("th", { scope: "row" }, name), cell(holds), cell(changes)));
  if (isNamed) byId("reasons").append(make("h3", {}, run.name));
  byId("reasons").append(make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
}

// Days, or weeks where there are many: how long each tier served, and how often it changed.
function showDays(charts, run) {
  if (run.end - run.begin < 2 * DAY) return;
  const length = run.end - run.begin > 120 * DAY ? 7 * DAY : DAY, starts = [run.begin, ...run.time.ticks(run.begin + 1, run.end, length).filter((at) => at < run.end)];
  byId("days-section").hidden = false;
  byId("days-title").textContent = length === DAY ? "Tiers by day" : "Tiers by week";
  const shade = (rung) => (rung === 0 ? "var(--band)" : `color-mix(in srgb, var(--own) ${Math.round((100 * rung) / (run.tiers.length - 1))}%, var(--panel))`);
  byId("days").append(...starts.map((from, i) => {
    const until = starts[i + 1] ?? run.end, shares = shareOfRungs(run, from, until);
    const count = run.changes.filter((change) => change.at >= from && change.at < until).length;
    const name = run.time.isKnown ? run.time.date(from) : `day ${Math.floor(from / DAY) + 1}`;
    const said = shares.flatMap((share, rung) => (share > 0.0005 ? [`${run.tiers[rung]} ${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`] : []));
    const text = `${name}: ${said.join(", ")}; ${count === 1 ? "1 change" : `${count} changes`}`;
    const bars = shares.map((share, rung) => {
      const bar = make("i");
      bar.style.height = `${share * 100}%`;
      bar.style.background = shade(rung);
      return bar;
    });
    const day = make("button", { type: "button", title: text, "aria-label": text }, make("span", { class: "bar" }, ...bars.reverse()), make("span", { class: "count" }, String(count)));
    day.addEventListener("click", () => {
      charts.zoom(from, until);
      charts.point(from);
      byId("reader").scrollIntoView({ block: "start" });
    });
    return day;
  }));
  byId("days-key").append(...run.tiers.map((name, rung) => {
    const swatch = make("i", { class: "swatch" });
    swatch.style.background = shade(rung);
    return make("span", {}, swatch, ` ${name}`);
  }), make("span", {}, "below: changes"));
}

function shareOfRungs(run, from, until) {
  const shares = run.tiers.map(() => 0);
  run.steps.forEach(([at, rung], place) => {
    const end = run.steps[place + 1]?.[0] ?? run.end;
    shares[rung] += Math.max(0, Math.min(end, until) - Math.max(at, from)) / (until - from);
  });
  return shares;
}

function listen(charts, run, reader, times) {
  const toChange = (step) => {
    const place = step > 0 ? lastUpTo(times, charts.at + 1e-3) + 1 : lastUpTo(times, charts.at - 1e-3);
    if (place < 0 || place >= times.length) return;
    const at = times[place];
    if (at < charts.min || at > charts.max) charts.zoom(at - (charts.max - charts.min) / 2, at + (charts.max - charts.min) / 2);
    charts.point(at);
  };
  const scale = (factor) => {
    const half = ((charts.max - charts.min) * factor) / 2, isSeen = charts.at >= charts.min && charts.at <= charts.max;
    const middle = isSeen ? charts.at : (charts.min + charts.max) / 2;
    charts.zoom(middle - half, middle + half);
  };
  const moveTo = (place) => {
    const at = run.at[Math.max(0, Math.min(run.at.length - 1, place))], length = charts.max - charts.min;
    if (at < charts.min || at > charts.max) charts.zoom(at - length / 2, at + length / 2);
    charts.point(at);
  };
  const page = () => Math.max(1, Math.round((lastUpTo(run.at, charts.max) - lastUpTo(run.at, charts.min)) / 20));
  const doing = {
    before: () => toChange(-1), after: () => toChange(1), in: () => scale(0.5), out: () => scale(2), all: () => charts.zoom(charts.first, charts.last),
  };
  for (const [id, action] of Object.entries(doing)) byId(id).addEventListener("click", action);
  byId("moment").addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = {
      ArrowLeft: () => moveTo(reader.place - 1), ArrowDown: () => moveTo(reader.place - 1), ArrowRight: () => moveTo(reader.place + 1),
      ArrowUp: () => moveTo(reader.place + 1), PageDown: () => moveTo(reader.place - page()), PageUp: () => moveTo(reader.place + page()),
      Home: () => moveTo(0), End: () => moveTo(run.at.length - 1),
      p: doing.before, n: doing.after, "+": doing.in, "-": doing.out, 0: doing.all,
    };
    const action = moves[event.key];
    if (action === undefined) return;
    action();
    event.preventDefault();
  });
}

show((document) => {
  const { version } = document, runs = runsOf(document), [run, other] = runs, reader = new Reader(run, other);
  showFigures(runs);
  byId("made").textContent = `tiershift ${version}${run.offset ? `; times are the recording's (${run.offset})` : ""}`
    + (run.readings_each > 1 ? `; ${run.readings_each} readings are one moment` : "");
  const charts = new Charts(run.time, [run.begin, Math.max(run.end, run.begin + 1)], { onPoint: (at) => reader.show(at) });
  for (const space of run.spaces) spacePanel(charts, run, space, other);
  tierPanel(charts, run, other);
  gatesPanel(charts, run);
  companionsPanel(charts, run);
  for (const rate of run.rates) ratePanel(charts, run, rate);
  requestPanels(charts, run, other);
  showDays(charts, run);
  const times = showDecisions(charts, runs);
  for (const run of runs) showReasons(run, runs.length > 1);
  listen(charts, run, reader, times);
  keepDrawn(() => charts.redraw());
  charts.point(run.changes[0]?.at ?? run.begin);
});
