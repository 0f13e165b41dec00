// The page of a suite: what failed and why, then every scenario with its figures.

// The first sentence of what a scenario is about.
const firstSentence = (text) => /^[\s\S]*?[.!?](?=\s|$)/.exec(text)?.[0] ?? text;

function failedItem(folder, scenario) {
  const failures = scenario.failures.map((failure) => make("pre", {}, failure));
  return make("li", {}, make("h3", {}, `✕ ${scenario.name}`), ...failures,
    make("p", { class: "when" }, [folder.name, firstSentence(scenario.description)].filter(Boolean).join(": ")), make("p", { class: "when" }, "repeat: ", make("code", {}, scenario.repeat)));
}

const isFailed = (scenario) => scenario.failures.length > 0;

function showFolder(all, folder) {
  const rows = folder.scenarios.toSorted((a, b) => isFailed(b) - isFailed(a)), failed = rows.filter(isFailed).length;
  const title = make("h3", {}, `${folder.name || "."}: ${rows.length - failed} passed, ${failed} failed`), place = `Scenarios of ${folder.name || "."}`;
  const host = make("div", { class: "table", tabindex: "0", role: "region", "aria-label": place });
  byId("folders").append(title, host);
  const name = {
    head: "scenario", isText: true, value: (row) => row.name,
    cell: (row) => [row.name, make("span", { class: "about" }, firstSentence(row.description))],
  };
  const result = {
    head: "result", isText: true, value: (row) => (isFailed(row) ? 0 : row.blessed ? 1 : 2),
    cell: (row) => [isFailed(row) ? make("span", { class: "result failed" }, "✕ failed") : make("span", { class: "result ok" }, row.blessed ? "✓ golden story written" : "✓ ok")],
  };
  const ofFigure = (column, i) => ({
    head: column.head, name: column.name, isHighFirst: column.is_better_higher, cell: (row) => [shown(column, row.figures[i])], value: (row) => row.figures[i] ?? null,
  });
  return { rows, title, host, table: sortable(host, [name, result, ...all.columns.map(ofFigure)], rows) };
}

show((all) => {
  const scenarios = all.folders.flatMap((folder) => folder.scenarios), failed = scenarios.filter(isFailed).length;
  byId("about").textContent = `${scenarios.length - failed} passed, ${failed} failed`;
  byId("made").textContent = `tiershift ${all.version}`;
  byId("failed-section").hidden = failed === 0;
  byId("failed").append(...all.folders.flatMap((folder) => folder.scenarios.filter(isFailed).map((scenario) => failedItem(folder, scenario))));
  const folders = all.folders.map((folder) => showFolder(all, folder));
  const look = () => {
    const part = byId("filter").value.trim().toLowerCase(), isFailedOnly = byId("failed-only").checked;
    const isShown = (row) => row.name.toLowerCase().includes(part) && (!isFailedOnly || isFailed(row));
    for (const { rows, title, host, table } of folders) {
      table.show(isShown);
      title.hidden = host.hidden = !rows.some(isShown);
    }
    byId("shown").textContent = `${scenarios.filter(isShown).length} of ${scenarios.length} shown`;
  };
  byId("filter").addEventListener("input", look);
  byId("failed-only").addEventListener("change", look);
  look();
});
