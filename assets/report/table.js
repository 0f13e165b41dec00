// Tables of figures. A column has a head, the content of its cells, and the value that its rows are sorted by.

// A figure as it is shown. It was rounded where it was written.
function shown({ decimals }, value) {
  if (value === null || value === undefined) return "–";
  return decimals !== null ? value.toFixed(decimals) : Number.isInteger(value) ? String(value) : value.toFixed(1);
}

// The best of a column's values; nothing where all are the same, since then none is.
function bestOf(column, values) {
  const known = values.filter((value) => value !== null && value !== undefined), least = known.reduce((a, b) => Math.min(a, b), Infinity);
  const most = known.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!(least < most)) return null;
  return column.is_better_higher ? most : least;
}

// A figure in its cell, marked where it is the best.
function figure(column, value, best) {
  if (best === null || value !== best) return make("span", {}, shown(column, value));
  return make("b", { class: "best" }, shown(column, value), make("span", { class: "hidden" }, " best"));
}

const collator = new Intl.Collator("en", { numeric: true });

// Compares two values; what is not known comes last, whatever the direction.
function compareValues(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  return direction * (typeof a === "string" ? collator.compare(a, b) : a - b);
}

// Puts a table into a host. The first click on a head puts its best values first. Returns what shows some of the rows only.
function sortable(host, columns, rows) {
  const cells = (row) => columns.map((column, place) =>
    make(...(place === 0 ? ["th", { scope: "row" }] : ["td", column.isText ? { class: "text" } : {}]), ...column.cell(row)));
  const lines = rows.map((row, place) => ({ row, place, line: make("tr", {}, ...cells(row)) })), body = make("tbody", {}, ...lines.map(({ line }) => line));
  const heads = columns.map((column) => {
    const button = make("button", { type: "button" }, `${column.head}\u00a0`, make("span", { class: "order", "aria-hidden": "true" }));
    if (column.name) button.title = column.name;
    const head = make("th", { scope: "col", "aria-sort": "none", ...(column.isText ? { class: "text" } : {}) }, button);
    button.addEventListener("click", () => {
      const first = column.isHighFirst ? "descending" : "ascending", second = column.isHighFirst ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? second : first;
      for (const other of heads) other.setAttribute("aria-sort", other === head ? order : "none");
      const direction = order === "ascending" ? 1 : -1, value = ({ row }) => column.value(row) ?? null;
      lines.sort((a, b) => compareValues(value(a), value(b), direction) || a.place - b.place);
      body.append(...lines.map(({ line }) => line));
    });
    return head;
  });
  host.append(make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body));
  return {
    show: (isShown) => { for (const { row, line } of lines) line.hidden = !isShown(row); },
    mark: (isMarked) => { for (const { row, line } of lines) line.classList.toggle("marked", isMarked(row)); },
  };
}
