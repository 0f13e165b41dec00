// The data of the page of runs: small integers and words, as `report/html/document.rs` writes them.
function runsOf(document) {
  const runs = document.runs.map(runOf), [first, second] = runs;
  // What distinguishes two runs.
  const name = (run, place) => (first.policy !== second?.policy ? run.policy : first.title !== second.title ? run.title : ["first", "second"][place]);
  runs.forEach((run, place) => { run.name = name(run, place); });
  return runs;
}

// Differences become values.
function undelta(deltas) {
  let value = 0;
  return deltas.map((delta) => (delta === null ? null : (value += delta)));
}

// Values with their counts become values.
const unrun = (runs) => runs.flatMap(([value, count]) => new Array(count).fill(value));

const inSeconds = (millis) => millis / 1000;

// Sentences whose numbers are kept apart from their words.
class Sentences {
  #order;
  #forms;
  #turns;

  constructor({ order, forms }) {
    this.#order = unrun(order);
    this.#forms = forms.map((form) => ({ ...form, numbers: form.numbers.map(undelta) }));
    const turns = forms.map(() => 0);
    this.#turns = this.#order.map((form) => (form === null ? 0 : turns[form]++));
  }

  // Returns one in words; nothing where there is none.
  at(place) {
    const form = this.#forms[this.#order[place]];
    if (form === undefined) return null;
    const digits = (column, decimals) => {
      const text = String(column[this.#turns[place]]).padStart(decimals + 1, "0");
      return decimals === 0 ? text : `${text.slice(0, -decimals)}.${text.slice(-decimals)}`;
    };
    return form.texts.reduce((said, text, i) => said + digits(form.numbers[i - 1], form.decimals[i - 1]) + text);
  }

  // Returns the place of the last sentence up to one; -1 where there is none.
  lastUpTo(place) {
    while (place >= 0 && this.#order[place] === null) place -= 1;
    return place;
  }
}

function runOf(run) {
  const gib = (space) => (value) => (value === null ? null : (value * space.unit) / 2 ** 30);
  const share = (value) => (value === null ? null : (value * run.rate_unit) / 1000);
  const series = (list, of) => (list === null ? null : undelta(list).map(of));
  const lines = (list, of) => list.map((line) => ({ name: line.name, at: line.at.map(([value, count]) => [of(value), count]) }));
  const steps = (list) => list.map(([at, rung]) => [inSeconds(at), rung]);
  const at = undelta(run.at).map(inSeconds);
  const requests = run.requests && {
    running: unrun(run.requests.running), waiting: unrun(run.requests.waiting), refused: unrun(run.requests.refused),
    failed: unrun(run.requests.failed), quickest: series(run.requests.quickest, (value) => value && value / 1000),
    slowest: series(run.requests.slowest, (value) => value && value / 1000),
    limit: run.requests.limit === null ? null : inSeconds(run.requests.limit),
  };
  const changed = undelta(run.changes.at).map(inSeconds), reversals = new Set(run.changes.reversals);
  return {
    ...run, at, requests,
    begin: inSeconds(run.begin), end: inSeconds(run.end), time: new Time(run.clock),
    gaps: run.gaps.map((gap) => gap.map(inSeconds)),
    spaces: run.spaces.map((space) => ({
      name: space.name, others: series(space.others, gib(space)), used: series(space.used, gib(space)),
      least: series(space.used_least, gib(space)), projected: series(space.projected, gib(space)),
      total: { name: "all", at: space.total.map(([value, count]) => [gib(space)(value), count]) },
      lines: lines(space.lines, gib(space)),
    })),
    rates: run.rates.map((rate) => ({
      name: rate.name, others: series(rate.others, share), used: series(rate.used, share), most: series(rate.most, share),
      lines: lines(rate.lines, share),
    })),
    steps: steps(run.steps), optimum: steps(run.optimum),
    phases: run.phases.map(([name, rung, from, until]) => ({ name, rung, from: inSeconds(from), until: inSeconds(until) })),
    companions: run.companions.map(({ name, serves }) => ({ name, serves: serves.map((span) => span.map(inSeconds)) })),
    said: new Sentences(run.said),
    kinds: unrun(run.kinds),
    changes: changed.map((at, place) => ({
      at, from: run.changes.from[place], to: run.changes.to[place], took: run.changes.took[place], isReversal: reversals.has(place),
    })),
    changesSaid: new Sentences(run.changes.said),
    worst: run.changes.worst,
  };
}

// The rung that serves at a moment.
const rungAt = (steps, at) => steps[Math.max(0, lastUpTo(steps.map((step) => step[0]), at))]?.[1] ?? 0;
