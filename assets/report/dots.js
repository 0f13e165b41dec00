// Charts of dots: a mark for each policy, distinguished by shape and colour where they are few.

const SHAPES = ["circle", "square", "up", "diamond", "down", "cross"], INKS = ["own", "degrade", "upgrade", "second", "ink", "others"];
const MOST_SHAPES = SHAPES.length, MOST_NAMES = 12, LONGEST_NAME = 32;

// How a policy is drawn. Of many, only the first and the one that is picked stand out.
function markOf(place, count, picked) {
  if (count <= MOST_SHAPES) return { shape: SHAPES[place], colour: INKS[place] };
  if (place === picked) return { shape: "diamond", colour: "degrade" };
  return place === 0 ? { shape: "square", colour: "own" } : { shape: "circle", colour: "others" };
}

// Colours for one drawing: thousands of marks do not read the styles again.
function paints() {
  const known = {};
  return (name) => (known[name] ??= ink(name));
}

function outline(ctx, x, y, shape, half) {
  ctx.beginPath();
  const corners = {
    square: [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]], diamond: [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]],
    up: [[0, -1.15], [1.1, 0.85], [-1.1, 0.85]], down: [[0, 1.15], [1.1, -0.85], [-1.1, -0.85]],
    cross: [[-0.35, -1.1], [0.35, -1.1], [0.35, -0.35], [1.1, -0.35], [1.1, 0.35], [0.35, 0.35], [0.35, 1.1], [-0.35, 1.1], [-0.35, 0.35], [-1.1, 0.35], [-1.1, -0.35], [-0.35, -0.35]],
  }[shape];
  if (corners === undefined) ctx.arc(x, y, half, 0, 7);
  else corners.forEach(([right, down], i) => (i === 0 ? ctx.moveTo(x + right * half, y + down * half) : ctx.lineTo(x + right * half, y + down * half)));
  ctx.closePath();
}

// Draws a mark: filled where the policy is on the front, in a ring where it is picked, and faint where it is one of very many.
function drawMark({ ctx, dot, paint }, x, y, { shape, colour, isFilled, isPicked, isFaint = false, half = 5 }) {
  outline(ctx, x, y, shape, half * dot);
  ctx.strokeStyle = ctx.fillStyle = paint(colour);
  ctx.globalAlpha = isFilled ? 0.7 : 0;
  ctx.fill();
  ctx.globalAlpha = isFaint ? 0.4 : 1;
  ctx.lineWidth = 1.5 * dot;
  ctx.stroke();
  ctx.globalAlpha = 1;
  if (!isPicked) return;
  ctx.beginPath();
  ctx.arc(x, y, (half + 5) * dot, 0, 7);
  ctx.strokeStyle = paint("ink");
  ctx.stroke();
}

// The same mark beside a name in a key.
function keyMark(mark, name) {
  const canvas = make("canvas", { width: "28", height: "28", class: "mark", "aria-hidden": "true" });
  const draw = () => {
    const ctx = canvas.getContext("2d");
    ctx.clearRect(0, 0, 28, 28);
    drawMark({ ctx, dot: 2, paint: ink }, 14, 14, { ...mark, half: 4.5 });
  };
  draw();
  return { element: make("span", {}, canvas, name), draw };
}

const cut = (name, most = LONGEST_NAME) => (name.length > most ? `${name.slice(0, most - 1)}…` : name);

// Round values between two, some five of them.
function roundValues(min, max, isWhole = false) {
  const rough = (max - min) / 5, power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const whole = isWhole ? Math.max(1, step) : step, found = [];
  for (let i = Math.ceil(min / whole - 1e-9); i * whole <= max + 1e-9; i += 1) found.push(Number((i * whole).toPrecision(12)));
  return found;
}

// An axis of values, for charts that know axes of time.
const valueAxis = (isWhole) => ({
  ticks: (min, max) => roundValues(min, max, isWhole),
  label: (value) => String(value),
});

// Says which dot a pointer is at. `dots` have their places in pixels of the plot.
function listenToDots(chart, dots, onDot, onPick) {
  const nearest = (event) => {
    const box = chart.over.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let found = null, least = 24 ** 2;
    for (const dot of dots()) {
      const apart = (dot.x - x) ** 2 + (dot.y - y) ** 2;
      if (apart < least) [found, least] = [dot, apart];
    }
    return found;
  };
  chart.over.addEventListener("pointermove", (event) => onDot(nearest(event)));
  chart.over.addEventListener("pointerleave", () => onDot(null));
  chart.over.addEventListener("click", (event) => {
    const dot = nearest(event);
    if (dot) onPick(dot);
  });
}

// Writes names beside dots where there is room: the first of them first.
function drawNames({ ctx, box, dot }, named, taken) {
  const height = 12 * dot, gap = 9 * dot;
  const isFree = (place) => place.left >= box.left && place.right <= box.left + box.width && place.top >= box.top && place.bottom <= box.top + box.height
    && taken.every((other) => place.right < other.left || place.left > other.right || place.bottom < other.top || place.top > other.bottom);
  for (const { x, y, name, isStrong } of named) {
    ctx.font = `${isStrong ? "600 " : ""}${11 * dot}px system-ui, sans-serif`;
    const width = ctx.measureText(name).width;
    const place = [[x + gap, y - height / 2], [x - gap - width, y - height / 2], [x - width / 2, y - gap - height], [x - width / 2, y + gap]]
      .map(([left, top]) => ({ left, top, right: left + width, bottom: top + height })).find(isFree);
    if (!place) continue;
    taken.push(place);
    ctx.textAlign = "left";
    ctx.fillStyle = ink("panel");
    ctx.globalAlpha = 0.8;
    ctx.fillRect(place.left - 2 * dot, place.top, width + 4 * dot, height);
    ctx.globalAlpha = 1;
    ctx.fillStyle = ink(isStrong ? "ink" : "soft");
    ctx.fillText(name, place.left, place.bottom - 2.5 * dot);
  }
}

// The steps of the front in two figures: the best quality up to so many reversals.
function stairs(points) {
  const steps = [];
  for (const { x, y } of points.toSorted((a, b) => a.x - b.x || b.y - a.y)) {
    if (steps.length === 0 || y > steps.at(-1)[1]) steps.push([x, y]);
  }
  return steps;
}

// Draws policies by reversals and quality. `points` have x, y, name, place and whether they are on the front; `front` are all that
// are on it, shown or not.
function frontChart(host, points, front, count, picked, { onDot, onPick }) {
  host.replaceChildren();
  const extent = (values, least) => {
    const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b)), room = Math.max(least, (high - low) * 0.09);
    return [low - room, high + room];
  };
  const [first, last] = extent(points.map(({ x }) => x), 0.5), range = extent(points.map(({ y }) => y), 0.004);
  const charts = new Charts(valueAxis(true), [first, last], { canZoom: false });
  const marked = (point) => ({ ...markOf(point.place, count, picked()), isFilled: point.isOnFront, isPicked: point.place === picked(), half: count > 60 ? 4 : 5 });
  const chart = charts.add(host, {
    height: 340, data: [[first, last], [null, null]], series: [{ points: { show: false } }],
    y: { range, splits: () => roundValues(...range), values: (_, ticks) => ticks.map((tick) => tick.toFixed(3).replace(/0$/, "")) },
    over: (bare) => {
      const pen = { ...bare, paint: paints() }, { x, y, dot } = pen;
      drawSteps(pen, stairs(front), last, { colour: ink("own"), width: 1.5, dash: [6, 3] });
      // Those that stand out are drawn last.
      const rank = (point) => 2 * (point.place === picked()) + (point.isOnFront ? 1 : 0), order = points.toSorted((a, b) => rank(a) - rank(b));
      for (const point of order) drawMark(pen, x(point.x), y(point.y), marked(point));
      const named = order.toReversed().filter((point) => points.length <= MOST_NAMES || point.isOnFront || point.place === 0 || point.place === picked());
      const around = (point) => ({ left: x(point.x) - 6 * dot, right: x(point.x) + 6 * dot, top: y(point.y) - 6 * dot, bottom: y(point.y) + 6 * dot });
      drawNames(pen, named.map((point) => ({ x: x(point.x), y: y(point.y), name: cut(point.name), isStrong: point.place === picked() })), points.map(around));
    },
  });
  const dots = () => points.map((point) => ({ point, x: chart.valToPos(point.x, "x"), y: chart.valToPos(point.y, "y") }));
  listenToDots(chart, dots, onDot, onPick);
  return charts;
}

// Draws a row for each recording, with a mark for each policy's share of the optimum. `rows` have a name and shares by policy;
// `isShown` says of a policy whether it is looked at.
function sharesChart(host, rows, count, picked, isOnFront, isShown, { onDot, onPick }) {
  host.replaceChildren();
  const ROW = 40, known = rows.flatMap((row) => row.shares).filter((share) => share !== null);
  const least = Math.min(0.95, Math.floor(known.reduce((a, b) => Math.min(a, b), 1) * 20 - 0.2) / 20), first = Math.max(-0.01, least);
  const most = Math.max(1, known.reduce((a, b) => Math.max(a, b), 1)), last = most + (most - first) * 0.015;
  const charts = new Charts(valueAxis(false), [first, last], { canZoom: false });
  const middle = (row, height) => (row + 0.68) * (height / rows.length);
  const places = [...Array(count).keys()];
  const chart = charts.add(host, {
    height: 8 + AXIS + ROW * rows.length, data: [[first, last], [null, null]], series: [{ points: { show: false } }],
    y: { range: [0, rows.length], splits: () => [], values: () => [], plain: true, size: 16 },
    over: (bare) => {
      const pen = { ...bare, paint: paints() }, { ctx, x, box, dot } = pen;
      // Those that stand out are drawn last.
      const rank = (policy) => 4 * (policy === picked()) + 2 * (policy === 0) + (isOnFront(policy) ? 1 : 0), order = places.toSorted((a, b) => rank(a) - rank(b));
      rows.forEach((row, place) => {
        const height = box.top + middle(place, box.height);
        ctx.fillStyle = pen.paint("edge");
        ctx.fillRect(box.left, height - dot / 2, box.width, dot);
        ctx.fillStyle = pen.paint("soft");
        ctx.textAlign = "left";
        ctx.fillText(cut(row.name, Math.floor(box.width / dot / 6.2)), box.left + 2 * dot, height - 13 * dot);
        for (const policy of order) {
          const share = row.shares[policy];
          if (share === null || !isShown(policy)) continue;
          const isPicked = policy === picked(), isOne = count > MOST_SHAPES && !isPicked && policy > 0;
          drawMark(pen, x(share), height, {
            ...markOf(policy, count, picked()), isFilled: isOnFront(policy), isPicked, isFaint: isOne && !isOnFront(policy), half: isOne ? 3.5 : 5,
          });
        }
      });
    },
  });
  const dots = () => rows.flatMap((row, place) => row.shares.flatMap((share, policy) =>
    (share === null || !isShown(policy) ? [] : [{ row, policy, share, x: chart.valToPos(share, "x"), y: middle(place, chart.over.clientHeight) }])));
  listenToDots(chart, dots, onDot, onPick);
  return charts;
}
