// The page of policies side by side. It decides and computes no figure: all of them, and the front, come from the run.
const MOST_ROWS = 40, MOST_PRINTED = 400, MOST_WITH_DIFFERENCES = 12;

// What is shown: which policy is picked, and which ones are looked at.
class Comparison {
  constructor(document) {
    Object.assign(this, document, { picked: 0, order: "named", charts: {}, tables: [] });
    this.isOnFront = document.policies.map((_, place) => document.front.includes(place));
    this.isShown = document.policies.map(() => true);
    this.quality = this.place("quality_served_fraction");
    this.reversals = this.place("reversals");
    this.share = this.place("share_of_optimum");
  }

  place(key) {
    return this.columns.findIndex((column) => column.key === key);
  }

  hasMeans() {
    return this.mean_of !== null;
  }
}

// What a policy came to, in a line.
function said(all, place) {
  const { name, figures } = all.policies[place];
  const found = [all.quality, all.reversals, all.place("seconds_over_memory_avoidable"), all.share].filter((column) => column >= 0);
  const words = found.map((column) => `${all.columns[column].name} ${shown(all.columns[column], figures[column])}`);
  return `${name}: ${words.join(", ")}${all.isOnFront[place] ? "; on the front" : ""}`;
}

function showPolicy(all) {
  const policy = all.policies[all.picked];
  const rows = all.columns.map((column, i) => {
    const half = policy.plus_minus[i];
    return make("div", {}, make("dt", {}, column.name), make("dd", {}, shown(column, policy.figures[i]) + (half === null ? "" : ` ±${shown(column, half)}`)));
  });
  const lines = [...policy.said];
  if (policy.worst) lines.push(`lowest share of the optimum ${shown(all.columns[all.share], policy.worst.share)}, ${policy.worst.recording}`);
  const name = make("h3", all.isOnFront[all.picked] ? { class: "on-front" } : {}, policy.name);
  const isFirst = all.picked === 0 && all.policies.length > 1;
  const about = [all.isOnFront[all.picked] ? "on the front" : "not on the front", ...(isFirst ? ["the others are compared with it"] : [])];
  byId("policy").replaceChildren(name, make("p", { class: "when" }, about.join("; ")), make("dl", {}, ...rows), make("ul", {}, ...lines.map((line) => make("li", {}, line))));
}

function pick(all, place) {
  all.picked = place;
  byId("picked").value = String(place);
  showPolicy(all);
  for (const table of all.tables) table.mark((row) => row.place === place);
  for (const button of document.querySelectorAll("button[data-policy]")) button.setAttribute("aria-pressed", String(Number(button.dataset.policy) === place));
  for (const charts of Object.values(all.charts)) charts.redraw();
  drawKeys(all);
}

// The front, of the policies that are looked at.
function drawFront(all) {
  const every = all.policies.map((policy, place) => ({ place, name: policy.name, x: policy.figures[all.reversals], y: policy.figures[all.quality], isOnFront: all.isOnFront[place] }));
  const points = every.filter(({ place }) => all.isShown[place]), front = every.filter((point) => point.isOnFront);
  const host = byId("front");
  byId("front-spot").textContent = "";
  if (points.length === 0) {
    delete all.charts.front;
    host.replaceChildren(make("p", { class: "when" }, "No policy is shown."));
    return;
  }
  const names = points.filter((point) => point.isOnFront).map(({ name }) => name);
  host.setAttribute("aria-label", `${points.length} policies by quality and reversals; on the front: ${names.slice(0, 20).join(", ")}${names.length > 20 ? ` and ${names.length - 20} more` : ""}`);
  all.charts.front = frontChart(host, points, front, all.policies.length, () => all.picked, {
    onDot: (dot) => { byId("front-spot").textContent = dot ? said(all, dot.point.place) : ""; },
    onPick: (dot) => pick(all, dot.point.place),
  });
}

// What the marks mean.
function drawKeys(all) {
  const { policies } = all, count = policies.length, isFew = count <= MOST_SHAPES;
  const shapes = isFew ? policies.map((policy, place) => keyMark(markOf(place, count, all.picked), policy.name))
    : [keyMark(markOf(0, count, -1), `${policies[0].name}, the first`), keyMark(markOf(1, count, 1), "picked"), keyMark(markOf(1, count, -1), "another")];
  const filled = keyMark({ shape: "circle", colour: "soft", isFilled: true }, "on the front");
  const own = (marks) => marks.map(({ element }) => element);
  byId("front-key").replaceChildren(...own(shapes), filled.element, make("span", {}, make("i", { class: "line" }), "front of quality and reversals"));
  byId("shares-key").replaceChildren(...own(isFew ? policies.map((policy, place) => keyMark(markOf(place, count, all.picked), policy.name))
    : [keyMark(markOf(0, count, -1), `${policies[0].name}, the first`), keyMark(markOf(1, count, 1), policies[all.picked].name), keyMark(markOf(1, count, -1), "another")]));
}

// A name that picks its policy.
function policyButton(all, place) {
  const button = make("button", { type: "button", "data-policy": String(place), "aria-pressed": String(place === all.picked) }, all.policies[place].name);
  button.addEventListener("click", () => pick(all, place));
  return make("span", all.isOnFront[place] ? { class: "on-front" } : {}, button, ...(all.isOnFront[place] ? [make("span", { class: "hidden" }, " on the front")] : []));
}

const policyColumn = (all) => ({ head: "policy", isText: true, cell: ({ place }) => [policyButton(all, place)], value: ({ place }) => all.policies[place].name });

const WORDS = { better: "better ", worse: "worse " };

function showOverall(all) {
  const { policies, columns } = all, rows = policies.map((policy, place) => ({ place, policy }));
  const ofFigure = (column, i) => {
    const best = bestOf(column, policies.map((policy) => policy.figures[i]));
    const cell = ({ policy }) => {
      const parts = [figure(column, policy.figures[i], best)], half = policy.plus_minus[i], difference = policy.differences[i];
      if (half !== null) parts.push(make("span", { class: "pm" }, `±${shown(column, half)}`));
      if (difference) {
        const [outcome, words] = difference;
        parts.push(make("span", { class: `apart ${outcome}` }, ...(WORDS[outcome] ? [WORDS[outcome], make("span", {}, words)] : ["no difference"])));
      }
      return parts;
    };
    return { head: column.head, name: column.name, isHighFirst: column.is_better_higher, cell, value: ({ policy }) => policy.figures[i] };
  };
  const worst = {
    head: "lowest share, on", isText: true, value: ({ policy }) => policy.worst?.share ?? null, isHighFirst: false,
    cell: ({ policy }) => (policy.worst ? [shown(columns[all.share], policy.worst.share), make("span", { class: "pm" }, policy.worst.recording)] : ["–"]),
  };
  const shownColumns = [policyColumn(all), ...columns.map(ofFigure), ...(policies.some((policy) => policy.worst) ? [worst] : [])];
  all.tables.push(sortable(byId("overall"), shownColumns, rows));
  byId("mean-of").textContent = `Mean of ${all.mean_of}.`;
  byId("luck").textContent = all.luck;
  byId("differences-choice").hidden = policies.length < 2;
  byId("differences-to").textContent = `differences to ${policies[0].name}`;
  const box = byId("differences"), toggle = () => byId("overall").classList.toggle("without-differences", !box.checked);
  box.checked = policies.length <= MOST_WITH_DIFFERENCES;
  box.addEventListener("change", toggle);
  toggle();
}

function choose(all) {
  byId("picked").append(...all.policies.map((policy, place) => make("option", { value: String(place) }, policy.name)));
  byId("picked").addEventListener("change", () => pick(all, Number(byId("picked").value)));
  const look = () => {
    const part = byId("filter").value.trim().toLowerCase(), isFrontOnly = byId("front-only").checked;
    all.isShown = all.policies.map((policy, place) => policy.name.toLowerCase().includes(part) && (!isFrontOnly || all.isOnFront[place]));
    for (const table of all.tables) table.show(({ place }) => all.isShown[place]);
    all.charts.shares?.redraw();
    byId("shown").textContent = `${all.isShown.filter(Boolean).length} of ${all.policies.length} shown`;
    drawFront(all);
  };
  byId("filter").addEventListener("input", look);
  byId("front-only").addEventListener("change", look);
  look();
}

// The shares on each recording, in the order that is asked for.
function drawShares(all, most) {
  const rows = all.recordings.map((recording) => {
    const shares = recording.figures.map((figures) => figures[all.share]), known = shares.filter((share) => share !== null);
    const least = known.reduce((a, b) => Math.min(a, b), 2), highest = known.reduce((a, b) => Math.max(a, b), 0);
    const name = recording.name + (recording.counts ? "" : " *") + (known.length ? "" : ": no share of the optimum");
    return { name, shares, least, apart: known.length ? highest - least : -1 };
  });
  if (all.order === "lowest") rows.sort((a, b) => a.least - b.least);
  if (all.order === "apart") rows.sort((a, b) => b.apart - a.apart);
  const some = rows.slice(0, most), column = all.columns[all.share];
  byId("shares-spot").textContent = "";
  byId("shares").setAttribute("aria-label", `share of the optimum of ${all.policies.length} policies on ${some.length} of ${rows.length} recordings; the tables below have the same`);
  byId("more").hidden = some.length === rows.length;
  byId("more").textContent = `Show all ${rows.length}`;
  all.charts.shares = sharesChart(byId("shares"), some, all.policies.length, () => all.picked, (place) => all.isOnFront[place], (place) => all.isShown[place], {
    onDot: (dot) => { byId("shares-spot").textContent = dot ? `${dot.row.name}: ${all.policies[dot.policy].name} ${shown(column, dot.share)}` : ""; },
    onPick: (dot) => pick(all, dot.policy),
  });
}

// A recording, whose table is made when it is opened.
function recordingItem(all, recording) {
  const { columns } = all;
  const count = recording.warnings.length, warned = count === 0 ? "" : count === 1 ? "; 1 warning" : `; ${count} warnings`;
  const name = make("b", {}, recording.name + (recording.counts ? "" : " *"));
  const item = make("details", {}, make("summary", {}, name, make("span", { class: "when" }, ` ${recording.about}${warned}`)));
  const fill = () => {
    if (item.children.length > 1) return;
    const host = make("div", { class: "table", tabindex: "0", role: "region", "aria-label": `Figures on ${recording.name}` });
    const ofFigure = (column, i) => {
      const best = bestOf(column, recording.figures.map((figures) => figures[i]));
      return { head: column.head, name: column.name, isHighFirst: column.is_better_higher, cell: ({ figures }) => [figure(column, figures[i], best)], value: ({ figures }) => figures[i] };
    };
    const rows = recording.figures.map((figures, place) => ({ place, figures }));
    all.tables.push(sortable(host, [policyColumn(all), ...columns.map(ofFigure)], rows));
    all.tables.at(-1).mark((row) => row.place === all.picked);
    all.tables.at(-1).show((row) => all.isShown[row.place]);
    item.append(host, make("ul", {}, ...recording.warnings.map((warning) => make("li", { class: "when" }, warning))));
  };
  item.addEventListener("toggle", fill);
  return { item, fill };
}

function showRecordings(all) {
  const { recordings } = all;
  byId("recordings-section").hidden = recordings.length === 0;
  if (recordings.length === 0) return;
  const hasShares = all.share >= 0;
  byId("shares-panel").hidden = !hasShares;
  if (hasShares) {
    all.order = byId("order").value = recordings.length > MOST_ROWS ? "lowest" : "named";
    drawShares(all, MOST_ROWS);
    byId("order").addEventListener("change", () => {
      all.order = byId("order").value;
      drawShares(all, byId("more").hidden ? recordings.length : MOST_ROWS);
    });
    byId("more").addEventListener("click", () => drawShares(all, recordings.length));
  }
  const items = recordings.map((recording) => recordingItem(all, recording));
  byId("recordings").append(...items.map(({ item }) => item));
  byId("not-counted").textContent = all.not_counted ?? "";
  if (recordings.length * all.policies.length > MOST_PRINTED) return;
  // On paper nothing can be opened.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = items.filter(({ item }) => !item.open);
    for (const { item, fill } of opened) {
      fill();
      item.open = true;
    }
  });
  window.addEventListener("afterprint", () => { for (const { item } of opened) item.open = false; });
}

show((document) => {
  const all = new Comparison(document);
  byId("about").textContent = all.about;
  byId("made").textContent = `tiershift ${all.version}`;
  byId("violations-section").hidden = all.violations.length === 0;
  byId("warnings").append(...all.violations.map((violation) => make("li", {}, violation)));
  byId("skipped-section").hidden = all.skipped.length === 0;
  byId("skipped").append(...all.skipped.map(([name, reason]) => make("div", {}, make("dt", {}, name), make("dd", {}, reason))));
  byId("front-section").hidden = byId("overall-section").hidden = !all.hasMeans();
  showRecordings(all);
  if (all.hasMeans()) {
    showOverall(all);
    choose(all);
    pick(all, 0);
  } else {
    byId("alarm").hidden = false;
    byId("alarm").textContent = all.recordings.length ? "No recording counts, so there are no means." : "No recording could be replayed.";
    drawKeys(all);
  }
  keepDrawn(() => {
    for (const charts of Object.values(all.charts)) charts.redraw();
    drawKeys(all);
  });
});
