// What all our pages share: elements, words for numbers, and charts on one time axis. It draws what it is given.
const byId = (id) => document.getElementById(id);

// Elements with text in them; nothing that comes from outside is ever read as markup.
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// A number and its unit stay on one line.
const unit = (number, name) => `${number}\u00a0${name}`;

function span(seconds) {
  if (seconds < 0.0995) return unit(Math.round(seconds * 1000), "ms");
  if (seconds < 9.95) return unit(seconds.toFixed(1).replace(".0", ""), "s");
  if (seconds < 59.5) return unit(Math.round(seconds), "s");
  if (seconds < 3570) return unit(Math.round(seconds / 60), "min");
  return unit((seconds / 3600).toFixed(1).replace(".0", ""), "h");
}

const percent = (milli) => unit((milli / 1000).toFixed(milli < 9950 ? 1 : 0), "%");

function size(bytes) {
  const gib = bytes / 2 ** 30;
  return gib >= 1 || bytes === 0 ? unit(gib.toFixed(1), "GiB") : unit(Math.round(gib * 1024), "MiB");
}

// The place of the last value that is not above `value`; -1 where all are.
function lastUpTo(values, value) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

const two = (number) => String(number).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

// Seconds of a run as people say them: the time since it began or, where its wall clock is known, what that showed. `marks` are
// moments with the milliseconds since 1970 that the clock showed, in whatever place it hangs.
class Time {
  constructor(marks) {
    this.isKnown = marks.length > 0;
    this.pieces = this.isKnown ? marks.map(([at, shown]) => [at / 1000, shown / 1000]) : [[0, 0]];
  }

  shown(at) {
    const [from, shown] = this.pieces[Math.max(0, lastUpTo(this.pieces.map((piece) => piece[0]), at))];
    return shown + at - from;
  }

  date(at) {
    const day = new Date(this.shown(at) * 1000);
    return `${day.getUTCFullYear()}-${two(day.getUTCMonth() + 1)}-${two(day.getUTCDate())}`;
  }

  clock(at, withSeconds = true) {
    const day = new Date(this.shown(at) * 1000);
    return `${two(day.getUTCHours())}:${two(day.getUTCMinutes())}${withSeconds ? `:${two(day.getUTCSeconds())}` : ""}`;
  }

  since(at) {
    const whole = Math.floor(at + 1e-9), days = Math.floor(whole / 86400);
    const rest = `${two(Math.floor(whole / 3600) % 24)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
    return days > 0 ? `${days}d ${rest}` : rest;
  }

  text(at) {
    return this.isKnown ? `${this.date(at)} ${this.clock(at)}` : this.since(at);
  }

  // Round times between two moments, so many seconds apart.
  ticks(min, max, step) {
    const found = [];
    this.pieces.forEach(([from, shown], place) => {
      const until = Math.min(max, this.pieces[place + 1]?.[0] ?? Infinity);
      const start = Math.max(min, from);
      for (let at = Math.ceil((start - from + shown) / step) * step; at - shown + from <= until; at += step) {
        found.push(at - shown + from);
      }
    });
    return found;
  }

  label(at, step) {
    if (!this.isKnown) return step < 1 ? unit(at.toFixed(1), "s") : this.#sinceLabel(at);
    const shown = Math.round(this.shown(at)), day = new Date(shown * 1000);
    if (shown % 86400 === 0) return `${day.getUTCDate()} ${MONTHS[day.getUTCMonth()]}`;
    return this.clock(at + 1e-3, step < 60);
  }

  #sinceLabel(at) {
    let rest = Math.round(at);
    const said = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]].flatMap(([length, name]) => {
      const count = Math.floor(rest / length);
      rest -= count * length;
      return count > 0 ? [`${count}${name}`] : [];
    });
    return said.join("\u00a0") || "0";
  }
}

const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800,
  1209600, 2592000, 7776000, 31536000];
// Where plots begin and end, in pixels from their sides: the same for all, so that moments stand above one another.
const LEFT = 64, RIGHT = 12, AXIS = 26;
const FONT = "11px system-ui, sans-serif";

// A colour of the page's styles, as they are now: light, dark or printed.
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Charts below one another, over the same moments.
class Charts {
  // `onPoint` is called with the moment that is pointed at, and `onLeave` when there is none; without it, the moment stays.
  constructor(time, [first, last], { onPoint = () => {}, onLeave = null, canZoom = true } = {}) {
    Object.assign(this, { time, first, last, min: first, max: last, onPoint, onLeave, canZoom, list: [], at: null });
  }

  // Adds a chart into an element. `series` are those of uPlot; `under` and `over` draw below and above them.
  add(host, { height, data, series = [], y, under, over }) {
    const point = (u) => {
      if (this.isMoving) return;
      if (!(u.cursor.left >= 0)) queueMicrotask(() => (this.onLeave ? this.onLeave() : this.point(this.at)));
      else this.point(u.posToVal(u.cursor.left, "x"));
    };
    const select = (u) => {
      if (u.select.width > 4) this.zoom(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"));
      u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    };
    const axis = { stroke: () => ink("soft"), font: FONT, grid: { stroke: () => ink("edge"), width: 1 }, ticks: { show: false } };
    const chart = new uPlot({
      width: this.#widthOf(host), height, series: [{}, ...series], legend: { show: false }, padding: [6, RIGHT, 0, 0],
      scales: { x: { time: false, range: () => [this.min, this.max] }, y: { range: () => (typeof y.range === "function" ? y.range() : y.range) } },
      axes: [
        { ...axis, size: AXIS, gap: 4, splits: (u, _, min, max) => this.time.ticks(min, max, this.#step(u)),
          values: (u, ticks) => ticks.map((at) => this.time.label(at, this.#step(u))) },
        { ...axis, size: y.size ?? LEFT, gap: 6, splits: y.splits, values: y.values, ...(y.plain ? { grid: { show: false } } : {}) },
      ],
      cursor: {
        y: false, points: { show: false }, drag: { x: this.canZoom, y: false, setScale: false },
        bind: { dblclick: () => () => { if (this.canZoom) this.zoom(this.first, this.last); return null; } },
      },
      hooks: {
        setCursor: [point], setSelect: [select],
        drawAxes: under ? [(u) => this.#clipped(u, under)] : [], draw: over ? [(u) => this.#clipped(u, over)] : [],
      },
    }, data, host);
    this.list.push(chart);
    return chart;
  }

  // Draws within a chart, in its own pixels: `x` and `y` turn values into places.
  #clipped(u, draw) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.font = FONT.replace("11px", `${11 * uPlot.pxRatio}px`);
    const x = (value) => u.valToPos(value, "x", true), y = (value) => u.valToPos(value, "y", true);
    draw({ ctx, x, y, box: bbox, dot: uPlot.pxRatio, min: this.min, max: this.max });
    ctx.restore();
  }

  // Seconds between two labels of time.
  #step(u) {
    const most = Math.max(2, u.bbox.width / uPlot.pxRatio / 84);
    return STEPS.find((step) => (this.max - this.min) / step <= most) ?? STEPS.at(-1);
  }

  #widthOf(host) {
    return Math.max(240, Math.floor(host.clientWidth));
  }

  // Shows the moments between two.
  zoom(min, max) {
    const whole = this.last - this.first, length = Math.min(whole, Math.max(max - min, Math.min(whole, SHORTEST)));
    this.min = Math.max(this.first, Math.min((min + max - length) / 2, this.last - length));
    this.max = this.min + length;
    for (const chart of this.list) chart.batch(() => chart.setScale("x", { min: this.min, max: this.max }));
    this.point(this.at);
  }

  // Shows other moments: all of them or, where some were chosen, those as long as there are enough.
  reach([first, last]) {
    const isWhole = this.min === this.first && this.max === this.last;
    const min = isWhole ? first : Math.max(first, this.min), max = isWhole ? last : Math.min(last, this.max);
    const isShort = max - min < Math.min(SHORTEST, last - first);
    Object.assign(this, { first, last, min: isShort ? first : min, max: isShort ? last : max });
    for (const chart of this.list) chart.setScale("x", { min: this.min, max: this.max });
  }

  // Moves the cursor of all to a moment, and says so.
  point(at) {
    if (at === null) return;
    this.mark(Math.max(this.first, Math.min(this.last, at)));
    this.onPoint(this.at);
  }

  // Moves the cursor of all to a moment; to none, where there is none.
  mark(at) {
    this.at = at;
    this.isMoving = true;
    for (const chart of this.list) {
      const isSeen = at !== null && at >= this.min && at <= this.max;
      chart.setCursor({ left: isSeen ? chart.valToPos(at, "x") : -10, top: isSeen ? 1 : -10 }, false);
    }
    this.isMoving = false;
  }

  // Draws again where colours or widths have changed.
  redraw() {
    for (const chart of this.list) {
      const width = this.#widthOf(chart.root.parentElement);
      if (width !== chart.width) chart.setSize({ width, height: chart.height });
      else chart.redraw(false, true);
    }
    if (!this.onLeave) this.point(this.at);
  }
}

// Seconds that are shown at least.
const SHORTEST = 10;

// A pattern of strokes, rising or falling, so that areas differ without colour.
function hatch(ctx, colour, isRising, dot) {
  const side = Math.round(6 * dot), tile = new OffscreenCanvas(side, side), pen = tile.getContext("2d");
  pen.strokeStyle = colour;
  pen.lineWidth = 1.5 * dot;
  for (const shift of [-side, 0, side]) {
    pen.moveTo(shift, isRising ? side : 0);
    pen.lineTo(shift + side, isRising ? 0 : side);
  }
  pen.stroke();
  return ctx.createPattern(tile, "repeat");
}

// Draws steps: each of `[from, value]` holds until the next, and the last until `end`.
function drawSteps({ ctx, x, y, dot, min, max }, steps, end, { colour, width, dash = [], shift = 0 }) {
  ctx.beginPath();
  const first = Math.max(0, lastUpTo(steps.map((step) => step[0]), min));
  let isDrawn = false;
  for (let place = first; place < steps.length && steps[place][0] <= max; place += 1) {
    const [from, value] = steps[place], until = steps[place + 1]?.[0] ?? end;
    const height = y(value) + shift * dot, begin = x(Math.max(from, min));
    if (isDrawn) ctx.lineTo(begin, height);
    else ctx.moveTo(begin, height);
    ctx.lineTo(x(Math.min(until, max)), height);
    isDrawn = true;
  }
  ctx.strokeStyle = colour;
  ctx.lineWidth = width * dot;
  ctx.setLineDash(dash.map((length) => length * dot));
  ctx.stroke();
  ctx.setLineDash([]);
}

// What each column of pixels shows of values that hold from one moment to the next: `[x, mean, most]`.
function byColumn({ x, dot, min, max }, moments, values) {
  const columns = [];
  const last = Math.min(moments.length - 1, lastUpTo(moments, max) + 1);
  for (let place = Math.max(0, lastUpTo(moments, min)); place <= last; place += 1) {
    const value = values[place];
    if (value === null) {
      columns.push(null);
      continue;
    }
    const at = Math.round(x(moments[place]) / dot) * dot, column = columns.at(-1);
    if (column?.at === at) Object.assign(column, { sum: column.sum + value, count: column.count + 1, most: Math.max(column.most, value) });
    else columns.push({ at, sum: value, count: 1, most: value });
  }
  return columns.map((column) => column && [column.at, column.sum / column.count, column.most]);
}

// Fills from the axis to a value of each column, or draws a line through them.
function drawColumns({ ctx, y, dot }, columns, of, { fill, stroke, dash = [], isStepped = false }) {
  let begun = null, height = 0;
  const close = (until) => {
    if (begun === null) return;
    if (fill) {
      ctx.lineTo(until, y(0));
      ctx.lineTo(begun, y(0));
      ctx.closePath();
      ctx.fillStyle = fill;
      ctx.fill();
    } else {
      ctx.strokeStyle = stroke;
      ctx.lineWidth = 1.25 * dot;
      ctx.setLineDash(dash.map((length) => length * dot));
      ctx.stroke();
      ctx.setLineDash([]);
    }
    begun = null;
  };
  let before = 0;
  for (const column of columns) {
    if (column === null) {
      close(before);
      continue;
    }
    const [at] = column;
    if (begun === null) {
      ctx.beginPath();
      ctx.moveTo(at, y(of(column)));
      begun = at;
    } else if (isStepped) ctx.lineTo(at, height);
    height = y(of(column));
    ctx.lineTo(at, height);
    before = at;
  }
  close(before);
}

// What a line of a name looks like.
const LINES = { all: ["ink", []], degrade: ["degrade", [7, 4]], preventive: ["preventive", [2, 3]], upgrade: ["upgrade", [9, 3, 2, 3]], limit: ["degrade", [7, 4]] };

// Lines as they moved, each with its name where it ends. `at` has the first moment of each run of values.
function drawLines({ ctx, x, y, box, dot, min, max }, lines, moments) {
  const names = [];
  for (const line of lines) {
    const [colour, dash] = LINES[line.name];
    let place = 0, last = null;
    ctx.beginPath();
    for (const [value, count] of line.at) {
      const from = moments[place], until = moments[place + count] ?? Infinity;
      place += count;
      if (value === null || until < min || from > max) continue;
      ctx.moveTo(x(Math.max(from, min)), y(value));
      ctx.lineTo(x(Math.min(until, max)), y(value));
      last = value;
    }
    ctx.setLineDash(dash.map((length) => length * dot));
    ctx.lineWidth = dot * 1.25;
    ctx.strokeStyle = ink(colour);
    ctx.stroke();
    if (last !== null) names.push([y(last), line.name, ink(colour)]);
  }
  ctx.setLineDash([]);
  ctx.textAlign = "right";
  // Names stand above their lines, and not over one another; no line goes through one.
  const right = box.left + box.width - 4 * dot;
  let free = box.top + 10 * dot;
  const placed = names.sort((a, b) => a[0] - b[0]).map(([height, name, colour]) => {
    const place = Math.max(height - 3 * dot, free);
    free = place + 12 * dot;
    return { place, name, colour };
  });
  ctx.fillStyle = ink("panel");
  for (const { place, name } of placed) {
    const width = ctx.measureText(name).width;
    ctx.fillRect(right - width - 2 * dot, place - 10 * dot, width + 4 * dot, 13 * dot);
  }
  for (const { place, name, colour } of placed) {
    ctx.fillStyle = colour;
    ctx.fillText(name, right, place);
  }
}

// A name that has room beside an axis.
const short = (name) => (name.length > 9 ? `${name.slice(0, 8)}…` : name);

// Draws again when the window, the colours or the paper change.
function keepDrawn(redraw) {
  let width = 0;
  new ResizeObserver(() => {
    if (document.body.clientWidth !== width) redraw();
    width = document.body.clientWidth;
  }).observe(document.body);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  for (const [event, isPrinting] of [["beforeprint", true], ["afterprint", false]]) {
    window.addEventListener(event, () => {
      document.documentElement.classList.toggle("printing", isPrinting);
      redraw();
    });
  }
}
