// Shows what /events tells. It decides and computes nothing about the machine: words and lines come from the daemon.
// Where the plot begins and ends, in pixels from its sides.
const LEFT = 64, RIGHT = 8;
const MOST_POINTS = 1800, MOST_ENTRIES = 200, MOST_REPLIES = 200, POINT_DISTANCE_NS = 1.9e9, RETRY_MS = 5000;
const byId = (id) => document.getElementById(id);
let status = null, points = [], entries = [], replies = [], cursor = null;

// Elements with text in them; nothing that comes from outside is ever read as markup.
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function draw(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// A number and its unit stay on one line.
const unit = (number, name) => `${number}\u00a0${name}`;

function span(seconds) {
  if (seconds < 0.0995) return unit(Math.round(seconds * 1000), "ms");
  if (seconds < 9.95) return unit(seconds.toFixed(1), "s");
  if (seconds < 59.5) return unit(Math.round(seconds), "s");
  if (seconds < 3570) return unit(Math.round(seconds / 60), "min");
  return unit((seconds / 3600).toFixed(1).replace(".0", ""), "h");
}

const seconds = (nanos) => nanos / 1e9;
const percent = (milli) => unit((milli / 1000).toFixed(milli < 9950 ? 1 : 0), "%");
const ago = (nanos) => `${span(Math.max(0, seconds(status.uptime_ns - nanos)))} ago`;
const tierName = (rung) => status.tiers[rung] ?? String(rung);

function size(bytes) {
  const gib = bytes / 2 ** 30;
  return gib >= 1 || bytes === 0 ? unit(gib.toFixed(1), "GiB") : unit(Math.round(gib * 1024), "MiB");
}

function showNow() {
  byId("tier").textContent = status.tier;
  byId("model").textContent = status.model ?? "nothing is loaded";
  byId("decision").textContent = status.words.decision ?? "no decision yet";
  byId("why").replaceChildren(...status.words.why_not_higher.map((text) => make("li", {}, text)));
  if (status.words.why_not_higher.length === 0) {
    byId("why").append(make("li", {}, status.rung === status.top_rung ? "the highest tier serves" : "nothing stands in the way"));
  }
  byId("notice").hidden = status.words.notice === null;
  byId("notice").textContent = status.words.notice ?? "";
  document.title = `${status.tier} – tiershift`;
}

function showResources() {
  byId("resources").replaceChildren(...status.lines.map((line) => {
    const amount = line.total_bytes === null ? percent(line.used_milli_percent)
      : `${size(line.used_bytes)} of ${size(line.total_bytes)} (${percent(line.used_milli_percent)})`;
    // Whose the pressure is, nobody knows.
    const ours = line.resource === "pressure" ? "" : `ours ${percent(line.own_milli_percent)}; `;
    const limits = ours + (line.constrains
      ? `lines at ${percent(line.upgrade_line_milli_percent)} and ${percent(line.degrade_line_milli_percent)}` : "not used by the policy");
    const bar = make("div", { class: "bar", role: "img", "aria-label": `${line.name}: ${amount}, ${limits}` });
    const mark = (name, left) => {
      const piece = make("i", { class: name });
      piece.style.left = `${Math.min(100, left / 1000)}%`;
      bar.append(piece);
      return piece;
    };
    const part = (name, left, width) => { mark(name, left).style.width = `${Math.min(100, width / 1000)}%`; };
    part("own", 0, line.own_milli_percent);
    part("others", line.own_milli_percent, line.used_milli_percent - line.own_milli_percent);
    if (line.constrains) {
      mark("upgrade-line", line.upgrade_line_milli_percent);
      mark("degrade-line", line.degrade_line_milli_percent);
    }
    const name = make("div", { class: "name" }, make("b", {}, line.name), make("span", {}, amount));
    return make("li", {}, name, bar, make("div", { class: "when" }, limits));
  }));
}

function showDecisions() {
  const list = byId("decisions");
  list.replaceChildren(...entries.toReversed().map((entry) =>
    make("li", { class: entry.kind },
      make("span", { class: "kind" }, entry.kind),
      make("span", {}, entry.text, " ", make("span", { class: "when" }, ago(entry.at_ns))))));
}

function showPairs(id, pairs) {
  byId(id).replaceChildren(...pairs.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

function showRequests() {
  const { waiting, running, done, failed, cancelled, rejected } = status.requests;
  showPairs("requests", Object.entries({ waiting, running, done, failed, cancelled, rejected }).map(([k, v]) => [k, String(v)]));
  const l = status.latencies;
  const time = (nanos) => (l.replies === 0 ? "–" : span(seconds(nanos)));
  showPairs("latency", [
    ["first token, median", time(l.first_token_p50_ns)], ["first token, 95\u00a0%", time(l.first_token_p95_ns)],
    ["whole reply, median", time(l.latency_p50_ns)], ["whole reply, 95\u00a0%", time(l.latency_p95_ns)],
  ]);
  const width = Math.max(240, byId("replies").clientWidth), height = 90, top = 8, bottom = 72;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${replies.length} last replies; filled: whole reply, hollow: first token` });
  const most = Math.max(0.1, ...replies.map((reply) => seconds(reply.latency_ns)));
  const y = (s) => bottom - (bottom - top) * Math.sqrt(s / most);
  for (const part of [1, 0.25]) {
    svg.append(draw("line", { class: "grid", x1: 0, x2: width, y1: y(most * part), y2: y(most * part) }));
    svg.append(draw("text", { x: width - 2, y: y(most * part) + 12, "text-anchor": "end" }, span(most * part)));
  }
  replies.forEach((reply, i) => {
    const x = 6 + (width - 70) * (i / Math.max(1, replies.length - 1));
    svg.append(draw("circle", { class: "dot first", cx: x, cy: y(seconds(reply.first_token_ns)), r: 2.5 }));
    svg.append(draw("circle", { class: "dot", cx: x, cy: y(seconds(reply.latency_ns)), r: 2.5 }));
  });
  svg.append(draw("text", { x: 0, y: height - 3 }, "filled: whole reply, hollow: first token"));
  byId("replies").replaceChildren(svg);
}

function range() {
  return Number(document.querySelector("input[name=range]:checked").value);
}

function shown() {
  const from = status.uptime_ns - range() * 1e9;
  const first = points.findIndex((point) => point.at_ns >= from);
  // One more than is seen, so that lines begin at the edge.
  return first < 0 ? points.slice(-1) : points.slice(Math.max(0, first - 1));
}

function showPlot() {
  const width = Math.max(280, byId("plot").clientWidth);
  const left = LEFT, right = width - RIGHT, top = 10, middle = 90, low = 116, bottom = 204, height = 226;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const now = status.uptime_ns, length = range() * 1e9;
  const x = (at) => Math.max(left, right - (right - left) * ((now - at) / length));
  const rungs = status.tiers.length - 1;
  const tierY = (rung) => middle - (middle - top) * (rung / Math.max(1, rungs));
  status.tiers.forEach((name, rung) => {
    svg.append(draw("line", { class: "grid", x1: left, x2: right, y1: tierY(rung), y2: tierY(rung) }));
    svg.append(draw("text", { x: left - 6, y: tierY(rung) + 4, "text-anchor": "end" }, name.length > 8 ? `${name.slice(0, 7)}…` : name));
  });
  const useY = (milli) => bottom - (bottom - low) * Math.min(1, milli / 100000);
  for (const share of [0, 50000, 100000]) {
    svg.append(draw("line", { class: "grid", x1: left, x2: right, y1: useY(share), y2: useY(share) }));
    svg.append(draw("text", { x: left - 6, y: useY(share) + 4, "text-anchor": "end" }, percent(share).replace(".0", "")));
  }
  const memory = status.lines.find((line) => line.resource === "memory");
  if (memory) {
    for (const [name, at] of [["upgrade", memory.upgrade_line_milli_percent], ["degrade", memory.degrade_line_milli_percent]]) {
      svg.append(draw("line", { class: `line-${name}`, x1: left, x2: right, y1: useY(at), y2: useY(at) }));
    }
  }
  let step = "", use = "";
  const seen = shown();
  seen.forEach((point, i) => {
    const at = x(point.at_ns).toFixed(1), until = x(seen[i + 1]?.at_ns ?? now).toFixed(1);
    step += `${i ? "L" : "M"}${at} ${tierY(point.rung)}L${until} ${tierY(point.rung)}`;
    const share = point.shares_milli_percent[0];
    if (share !== null) use += `${use ? "L" : "M"}${at} ${useY(share).toFixed(1)}`;
  });
  svg.append(draw("path", { class: "step", d: step || "M0 0" }), draw("path", { class: "use", d: use || "M0 0" }));
  svg.append(draw("text", { x: left + 4, y: low - 5 }, "memory in use, by everybody"));
  const parts = { 300: 5, 900: 3, 3600: 4 }[range()];
  for (let part = 0; part <= parts; part += width < 480 ? parts : 1) {
    const back = (range() / parts) * (parts - part);
    const anchor = part === 0 ? "start" : part === parts ? "end" : "middle";
    svg.append(draw("text", { x: left + ((right - left) / parts) * part, y: height - 6, "text-anchor": anchor }, back ? `−${span(back)}` : "now"));
  }
  const chosen = cursor === null ? seen.length - 1 : Math.min(cursor, seen.length - 1);
  const point = seen[chosen];
  if (point) {
    if (cursor !== null) svg.append(draw("line", { class: "cursor", x1: x(point.at_ns), x2: x(point.at_ns), y1: top, y2: bottom }));
    const share = point.shares_milli_percent[0];
    const text = `${cursor === null ? "now" : ago(point.at_ns)}: ${tierName(point.rung)}${share === null ? "" : `, memory ${percent(share)}`}`;
    byId("moment").textContent = text;
    const plot = byId("plot");
    plot.setAttribute("aria-valuemax", String(Math.max(0, seen.length - 1)));
    plot.setAttribute("aria-valuenow", String(chosen));
    plot.setAttribute("aria-valuetext", text);
  }
  byId("plot").replaceChildren(svg);
}

function show() {
  if (status === null) return;
  showNow();
  showResources();
  showPlot();
  showDecisions();
  showRequests();
  const { on, stopped } = status.recording;
  const recording = on ? `recording ${on.run}` : stopped ? "recording stopped" : "no recording";
  byId("alarm").hidden = !stopped;
  byId("alarm").textContent = stopped ? `The recording has stopped, serving goes on: ${stopped.error}` : "";
  byId("about").textContent = `tiershift ${status.version}, up ${span(seconds(status.uptime_ns))}, ${status.switches} switches, ${recording}`;
}

function keep(list, values, most) {
  return list.concat(values).slice(-most);
}

function take(news) {
  status = news;
  const last = points.at(-1), point = news.point;
  if (point !== null && (!last || last.rung !== point.rung || point.at_ns - last.at_ns >= POINT_DISTANCE_NS)) {
    points = keep(points, [point], MOST_POINTS);
  }
  entries = keep(entries, news.entries, MOST_ENTRIES);
  replies = keep(replies, news.replies, MOST_REPLIES);
  say(status.is_stopping ? "stopping" : "live", status.is_stopping);
  document.body.classList.remove("lost");
  show();
}

function say(text, isTrouble) {
  byId("link").textContent = text;
  byId("link").classList.toggle("lost", isTrouble);
}

function connect() {
  const source = new EventSource("/events");
  source.addEventListener("history", (event) => {
    const history = JSON.parse(event.data);
    points = history.points;
    entries = history.entries;
    replies = history.replies;
  });
  source.addEventListener("status", (event) => take(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    say("connection lost, trying again", true);
    document.body.classList.add("lost");
    // A browser gives up after a refusal, such as that of a daemon with too many pages open.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, RETRY_MS);
  });
}

connect();

byId("range").addEventListener("change", () => { cursor = null; show(); });
byId("plot").addEventListener("keydown", (event) => {
  if (status === null) return;
  const last = shown().length - 1, at = cursor ?? last;
  const next = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1, PageDown: at - 10, PageUp: at + 10, Home: 0, End: last }[event.key];
  if (event.key === "Escape") cursor = null;
  else if (next === undefined) return;
  else cursor = Math.max(0, Math.min(last, next));
  event.preventDefault();
  showPlot();
});
function leavePlot() {
  cursor = null;
  if (status !== null) showPlot();
}

byId("plot").addEventListener("blur", leavePlot);
byId("plot").addEventListener("pointerleave", leavePlot);
byId("plot").addEventListener("pointermove", (event) => {
  if (status === null) return;
  const { left, width } = byId("plot").getBoundingClientRect();
  const share = (event.clientX - left - LEFT) / (width - LEFT - RIGHT);
  const at = status.uptime_ns - range() * 1e9 * (1 - share);
  cursor = Math.max(0, shown().findLastIndex((point) => point.at_ns <= at));
  showPlot();
});
window.addEventListener("resize", show);
