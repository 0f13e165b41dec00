// Shows what /events reports. It decides and computes nothing about the machine: words and lines come from the daemon.
const MOST_POINTS = 3800, HOUR_NS = 3600e9, OLDER_POINT_DISTANCE_NS = 60e9, MOST_ENTRIES = 200, MOST_REPLIES = 200, POINT_DISTANCE_NS = 1.9e9, RETRY_MS = 5000, MISSED_READINGS = 3, LOOK_MS = 1000, DAY_MS = 86400e3;
// What is drawn of the resources, in their order.
const SPACES = [["memory", "memory in use, by all programs"], ["vram", "video memory in use, by all programs"]];
let arrived = 0, isLost = false;
let status = null, points = [], entries = [], replies = [], cursor = null;

const seconds = (nanos) => nanos / 1e9;
const ago = (nanos) => `${span(Math.max(0, seconds(status.uptime_ns - nanos)))} ago`;
const tierName = (rung) => status.tiers[rung] ?? String(rung);

function showNow() {
  byId("tier").textContent = status.tier;
  byId("model").textContent = status.model ?? "nothing is loaded";
  byId("decision").textContent = status.words.decision ?? "no decision yet";
  byId("why").replaceChildren(...status.words.why_not_higher.map((text) => make("li", {}, text)));
  if (status.words.why_not_higher.length === 0) {
    byId("why").append(make("li", {}, status.rung === status.top_rung ? "the highest tier serves" : "nothing blocks the next tier"));
  }
  byId("notice").hidden = status.words.notice === null;
  byId("notice").textContent = status.words.notice ?? "";
  const order = status.order;
  byId("order").hidden = order === null;
  byId("order").textContent = order === null ? "" : `Somebody ordered ${order.tier}: ${order.until_ns === null
    ? "it stays in effect until automatic control is requested" : `it stays in effect for another ${span(Math.max(0, seconds(order.until_ns - status.uptime_ns)))}`}.`;
  byId("companions").replaceChildren(...status.companions.map(({ model, serves }) => make("li", {}, `companion ${model}: ${serves ? "serves" : "waits for room"}`)));
  if (byId("order-tier").options.length === 0) {
    const choices = [["auto", "automatic"], ...status.tiers.map((name, rung) => [rung === 0 ? "none" : name, rung === 0 ? "nothing (unload)" : name])];
    byId("order-tier").append(...choices.map(([value, text]) => make("option", { value }, text)));
  }
}

// An order is asked for, confirmed, sent, and answered in the daemon's words.
function confirmOrder() {
  const tier = byId("order-tier").value, name = byId("order-tier").selectedOptions[0].textContent;
  const length = byId("order-for").selectedOptions[0].textContent, holds = byId("order-for").value === "" ? "until you order automatic" : `for ${length}`;
  byId("confirm-text").textContent = tier === "auto" ? "Let the policy decide again?"
    : tier === "none" ? `Unload the model, and load none ${holds}? Requests are refused meanwhile.` : `Stay on ${name} ${holds}?`;
  byId("confirm").showModal();
}

async function sendOrder() {
  byId("confirm").close();
  const tier = byId("order-tier").value, length = byId("order-for").value, token = byId("order-token").value;
  const headers = { "content-type": "application/json", ...(token === "" ? {} : { authorization: `Bearer ${token}` }) };
  const body = JSON.stringify(tier === "auto" || length === "" ? { tier } : { tier, for: length });
  const answer = (text) => { byId("order-answer").textContent = text; };
  try {
    const reply = await fetch("/switch", { method: "POST", headers, body }), said = await reply.json();
    if (reply.status === 401) byId("order-token-row").hidden = false;
    if (!reply.ok) answer(said.error?.message ?? `refused (${reply.status})`);
    else if (tier === "auto") answer("The policy decides again.");
    else answer(`Ordered: ${said.follows_in_seconds > 0 ? `it follows in ${span(said.follows_in_seconds)}` : "it follows at once"}.`);
  } catch (error) {
    answer(`The order did not arrive: ${error.message}`);
  }
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
  showReplies();
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

// The plot, drawn again with every status, by the clock of whoever looks at it.
const charts = new Charts(new Time([]), [0, 1], {
  onPoint: (at) => { cursor = Math.max(0, lastUpTo(seen().map((point) => point.at), at)); showMoment(); },
  onLeave: leavePlot,
});

// Seconds with what was then.
const seen = () => shown().map((point) => ({ at: seconds(point.at_ns), rung: point.rung, shares: point.shares_milli_percent }));

function makePlot() {
  const nothing = [[0, 1], [null, null]], series = [{ points: { show: false } }], now = () => seconds(status.uptime_ns);
  byId("plot").append(make("h3", {}, "tier"));
  charts.add(byId("plot"), {
    height: 130, data: nothing, series,
    y: { range: () => [-0.3, status.tiers.length - 0.7], splits: () => status.tiers.map((_, rung) => rung), values: () => status.tiers.map(short) },
    over: (pen) => drawSteps(pen, seen().map(({ at, rung }) => [at, rung]), now(), { colour: ink("own"), width: 2.5 }),
  });
  SPACES.forEach(([resource, title], place) => {
    if (!status.lines.some((line) => line.resource === resource)) return;
    byId("plot").append(make("h3", {}, title));
    charts.add(byId("plot"), {
      height: 140, data: nothing, series, y: { range: () => [0, 105], splits: () => [0, 50, 100], values: () => [0, 50, 100].map((share) => unit(share, "%")) },
      over: (pen) => {
        const points = seen(), moments = points.map((point) => point.at), space = status.lines.find((line) => line.resource === resource);
        const shares = points.map(({ shares }) => (shares[place] === null ? null : shares[place] / 1000));
        drawColumns(pen, byColumn(pen, moments, shares), (column) => column[1], { stroke: ink("ink") });
        if (!space) return;
        const line = (name) => ({ name, at: [[space[`${name}_line_milli_percent`] / 1000, moments.length]] });
        drawLines(pen, [line("upgrade"), line("degrade")], moments);
      },
    });
  });
}

function showPlot() {
  if (charts.list.length === 0 && status.lines.length > 0) makePlot();
  const now = seconds(status.uptime_ns);
  charts.reach([now - range(), now]);
  showMoment();
}

function showMoment() {
  const points = seen(), last = points.length - 1, chosen = cursor === null ? last : Math.min(cursor, last);
  if (last < 0) return;
  const { at, rung, shares: [share] } = points[chosen];
  charts.mark(cursor === null ? null : at);
  const text = `${cursor === null ? "now" : `${charts.time.clock(at)}, ${ago(at * 1e9)}`}: ${tierName(rung)}${share === null ? "" : `, memory ${percent(share)}`}`;
  byId("moment").textContent = text;
  const plot = byId("plot");
  plot.setAttribute("aria-valuemax", String(last));
  plot.setAttribute("aria-valuenow", String(chosen));
  plot.setAttribute("aria-valuetext", text);
}

// The last replies in their order, on an axis of roots, so that short ones can be distinguished.
const replyCharts = new Charts({ ticks: () => [], label: () => "" }, [0, 1], { canZoom: false });

function showReplies() {
  const most = () => Math.max(0.1, ...replies.map((reply) => seconds(reply.latency_ns)));
  if (replyCharts.list.length === 0) {
    replyCharts.add(byId("replies"), {
      height: 110, data: [[0, 1], [null, null]], series: [{ points: { show: false } }],
      y: { range: () => [0, Math.sqrt(most()) * 1.1], splits: () => [0, 0.5, 1].map((part) => part * Math.sqrt(most())), values: (_, roots) => roots.map((root) => (root ? span(root ** 2) : "0")) },
      over: ({ ctx, x, y, dot }) => replies.forEach((reply, place) => {
        for (const [nanos, colour, isFilled] of [[reply.first_token_ns, "upgrade", false], [reply.latency_ns, "own", true]]) {
          ctx.beginPath();
          ctx.arc(x(place), y(Math.sqrt(seconds(nanos))), 2.5 * dot, 0, 7);
          ctx.fillStyle = ctx.strokeStyle = ink(colour);
          ctx.lineWidth = 1.5 * dot;
          if (isFilled) ctx.fill();
          else ctx.stroke();
        }
      }),
    });
  }
  byId("replies").setAttribute("aria-label", `${replies.length} last replies, the slowest ${span(most())}; filled: whole reply, hollow: first token`);
  replyCharts.reach([-1, Math.max(1, replies.length)]);
}

function show() {
  if (status === null) return;
  showNow();
  showResources();
  showPlot();
  showDecisions();
  showRequests();
  const { on, held, stopped } = status.recording;
  const recording = on ? `recording ${on.run}` : held ? "recording held in memory" : stopped ? "recording stopped" : "no recording";
  byId("alarm").hidden = !stopped && !held;
  byId("alarm").textContent = stopped ? `The recording has stopped, serving goes on: ${stopped.error}` : held ? `The recording cannot be written, and is held in memory for now: ${held.error}` : "";
  byId("about").textContent = `tiershift ${status.version}, up ${span(seconds(status.uptime_ns))}, ${status.switches} ${status.switches === 1 ? "switch" : "switches"}, ${recording}`;
}

function keep(list, values, most) {
  return list.concat(values).slice(-most);
}

// Of what is older than an hour, a point a minute and each change of tier, as the daemon keeps it.
function thinned(all) {
  if (all.length <= MOST_POINTS) return all;
  const recent = status.uptime_ns - HOUR_NS;
  let last = null;
  return all.filter((point) => {
    const stays = point.at_ns >= recent || last === null || last.rung !== point.rung || point.at_ns - last.at_ns >= OLDER_POINT_DISTANCE_NS;
    if (stays) last = point;
    return stays;
  }).slice(-MOST_POINTS);
}

function take(news) {
  status = news;
  const now = Date.now(), shown = now - new Date(now).getTimezoneOffset() * 60000;
  // From before the oldest moment that is shown, so that every one has its time.
  charts.time = new Time([[-DAY_MS, shown - news.uptime_ns / 1e6 - DAY_MS]]);
  const last = points.at(-1), point = news.point;
  if (point !== null && (!last || last.rung !== point.rung || point.at_ns - last.at_ns >= POINT_DISTANCE_NS)) {
    points = thinned(points.concat([point]));
  }
  entries = keep(entries, news.entries, MOST_ENTRIES);
  replies = keep(replies, news.replies, MOST_REPLIES);
  arrived = Date.now();
  isLost = false;
  showLink();
  show();
}

// Whether what is shown still holds: by the age of the last reading, whatever the connection says.
function showLink() {
  const age = status === null ? 0 : status.uptime_ns - (status.sampled_at_ns ?? 0) + (Date.now() - arrived) * 1e6;
  const isOld = status !== null && age > MISSED_READINGS * status.sampling_interval_ns + LOOK_MS * 1e6;
  const [text, isTrouble] = isLost ? ["connection lost, trying again", true]
    : isOld ? [`no reading since ${new Date(Date.now() - age / 1e6).toLocaleTimeString()}`, true]
      : status === null ? ["connecting", false]
        : status.is_stopping ? ["stopping", true] : ["live", false];
  if (byId("link").textContent !== text) byId("link").textContent = text;
  byId("link").classList.toggle("lost", isTrouble);
  document.body.classList.toggle("lost", isLost || isOld);
  document.title = `${isLost || isOld ? text : status?.tier ?? text} – tiershift`;
}

function connect() {
  const source = new EventSource("/events");
  source.addEventListener("history", (event) => {
    const history = JSON.parse(event.data);
    points = history.older.concat(history.points);
    entries = history.entries;
    replies = history.replies;
  });
  source.addEventListener("status", (event) => take(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    isLost = true;
    showLink();
    // A browser gives up after a refusal, such as that of a daemon with too many pages open.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, RETRY_MS);
  });
}

connect();
setInterval(showLink, LOOK_MS);

byId("orders").addEventListener("submit", (event) => { event.preventDefault(); confirmOrder(); });
byId("confirm-no").addEventListener("click", () => byId("confirm").close());
byId("confirm-yes").addEventListener("click", sendOrder);
byId("range").addEventListener("change", () => { cursor = null; charts.zoom(charts.first, charts.last); show(); });
byId("plot").addEventListener("keydown", (event) => {
  if (status === null) return;
  const last = shown().length - 1, at = cursor ?? last;
  const next = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1, PageDown: at - 10, PageUp: at + 10, Home: 0, End: last }[event.key];
  const scale = { "+": 0.5, "-": 2, 0: Infinity }[event.key], middle = charts.at ?? charts.max, half = (charts.max - charts.min) / 2;
  if (scale !== undefined) charts.zoom(middle - half * Math.min(scale, 1e6), middle + half * Math.min(scale, 1e6));
  else if (event.key === "Escape") cursor = null;
  else if (next === undefined) return;
  else cursor = Math.max(0, Math.min(last, next));
  event.preventDefault();
  showMoment();
});
function leavePlot() {
  cursor = null;
  if (status !== null) showMoment();
}

byId("plot").addEventListener("blur", leavePlot);
byId("plot").addEventListener("pointerleave", leavePlot);
keepDrawn(() => {
  charts.redraw();
  replyCharts.redraw();
});
