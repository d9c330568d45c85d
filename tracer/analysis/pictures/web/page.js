// SPDX-License-Identifier: Apache-2.0

const byId = (id) => document.getElementById(id);
const { scenes, zone } = JSON.parse(byId("data").textContent);
const LEAST_BUCKETS = 4;
const SHARE_DASHES = [[], [8, 4], [2, 3], [8, 3, 2, 3]];

// What is shown: which node, which stretch of time, what part of it, and whose CPI. `drawn` is the view as fine as the
// screen can show that part; `time` and `row` are where the cursor of the keyboard is.
const state = { scene: null, view: null, drawn: null, range: null, focus: 0, heat: null, row: 0, time: null, hidden: new Set() };
let values;
let charts = [];

const nameAt = (number) => (number < state.scene.names.length ? state.scene.names[number] : "all others");
const isShown = (number) => !state.hidden.has(number);
const own = () => Math.min(COLOURED, state.view.rows - 1);

const DAY = 86400000;
const isLong = () => state.view.end - state.view.start > DAY / 2;
const moment = ({ start, step }, bucket) => `${clock(start + bucket * step, step, isLong())} ${zone.name}, ${duration(step)}`;

function fill(id, title, about) {
  const section = byId(id);
  const heading = section.querySelector("h2");
  heading.textContent = title;
  const text = section.querySelector(".about");
  if (text) text.textContent = about;
  section.hidden = title === "";
  const holder = section.querySelector(".chart");
  // Until there is a picture, nothing to go to.
  holder.replaceChildren();
  for (const name of ["tabindex", "role", "aria-roledescription", "aria-label"]) holder.removeAttribute(name);
  return holder;
}

const whyNot = (scene) => (scene.why ? `: ${scene.why}` : "");

function drawStack() {
  const { view, scene } = state;
  const kind = view.traffic ? "traffic" : "cpus";
  const holder = fill(
    "stack",
    view.traffic ? "Memory traffic by container" : "CPU time by container",
    (view.traffic
      ? `LLC misses × ${scene.line_bytes} bytes, per second.`
      : `In cores, as LLC misses were not counted${whyNot(scene)}.`)
      + ` Colours: the mean; pale behind them: the highest ${view.unit} of all together.`);
  charts.push(makeChart(holder, {
    label: byId("stack-title").textContent,
    height: 300,
    data: () => stackData(state.drawn, state.drawn[kind], isShown),
    series: stackSeries(view),
    scales: { y: { range: (u, least, largest) => [0, (view.traffic ? largest || 1 : Math.max(largest, LEAST_HIGH)) * 1.05] } },
    axes: [view.traffic ? axisOf(3, (value) => withUnit(value, "B/s"), { incrs: BINARY_STEPS }) : axisOf(3, plain)],
    gaps: () => ({ axis: state.drawn, row: state.drawn[kind].totalPeak }),
    tip: (time) => {
      const rate = state.drawn[kind];
      const bucket = bucketAt(state.drawn, time);
      const rows = [...Array(own()).keys()].filter(isShown).reverse().map((number) =>
        [number, nameAt(number), `${FORMATS[kind](rate.mean[number][bucket])}, highest ${FORMATS[kind](rate.peak[number][bucket])}`]);
      if (isShown("other")) {
        const others = rate.mean.slice(own()).reduce((sum, row) => sum + row[bucket], 0);
        rows.unshift([COLOURED, "all others", FORMATS[kind](others)]);
      }
      return { title: moment(state.drawn, bucket), rows: [[null, `highest ${view.unit} of all`, FORMATS[kind](rate.totalPeak[bucket])], ...rows] };
    },
  }));
}

function drawCpi() {
  const { view, focus, scene } = state;
  const name = nameAt(focus);
  const isKnown = view.cpi && !Number.isNaN(largestOf(view.cpi.mean[focus], 0, view.buckets));
  const holder = fill(
    "cpi",
    `Cycles per instruction${isKnown ? ` of ${name}` : ""}`,
    isKnown ? `Line: the mean; area: from the lowest to the highest ${view.unit}.`
      : view.cpi ? `Not known of ${name}: it hardly ran.` : `Not pictured: cycles or instructions were not counted${whyNot(scene)}.`);
  if (!isKnown) return;
  const found = () => [state.drawn.cpi.largest, state.drawn.cpi.least, state.drawn.cpi.mean].map((rows) => rows[focus]);
  const colour = () => containerColour(focus);
  const edge = { stroke: () => `${colour()}88`, width: 0.5, paths: stepped, points: { show: false } };
  charts.push(makeChart(holder, {
    label: byId("cpi-title").textContent,
    height: 200,
    data: () => [edges(state.drawn), ...found().map(steps)],
    series: [edge, edge, { stroke: colour, width: 1.5, paths: stepped, points: { show: false } }],
    bands: [{ series: [1, 2], fill: () => `${colour()}55` }],
    axes: [axisOf(3, (value) => value.toFixed(value < 10 ? 2 : 0))],
    gaps: () => ({ axis: state.drawn, row: state.drawn.cpi.mean[focus] }),
    missing: { text: "hardly ran, or not counted" },
    tip: (time) => {
      const bucket = bucketAt(state.drawn, time);
      const [largest, least, mean] = found();
      return {
        title: moment(state.drawn, bucket),
        rows: [
          [focus, name, ""],
          [null, `highest ${view.unit}`, FORMATS.cpi(largest[bucket])],
          [null, "mean", FORMATS.cpi(mean[bucket])],
          [null, `lowest ${view.unit}`, FORMATS.cpi(least[bucket])],
        ],
      };
    },
  }));
}

function heatMeasures(view) {
  return {
    cpus: ["CPU time", view.cpus.peak, Math.sqrt],
    ...(view.waiting && { waiting: ["waiting for a CPU", view.waiting.peak, Math.sqrt] }),
    ...(view.traffic && { traffic: ["memory traffic", view.traffic.peak, Math.sqrt] }),
    ...(view.cpi && { cpi: ["cycles per instruction", view.cpi.largest, (share) => share] }),
  };
}

function drawHeatMap() {
  const { view, scene } = state;
  const measures = heatMeasures(view);
  if (!(state.heat in measures)) state.heat = ["traffic", "waiting", "cpus"].find((measure) => measure in measures);
  const [, all, scale] = measures[state.heat];
  const rows = all.slice(0, scene.names.length);
  const known = (reduce) => rows.map((row) => reduce(row, 0, view.buckets)).filter((value) => !Number.isNaN(value));
  const highest = Math.max(state.heat === "cpus" || state.heat === "waiting" ? LEAST_HIGH : 0, ...known(largestOf));
  const lowest = state.heat === "cpi" ? Math.min(highest, ...known(leastOf)) : 0;
  const position = (value) => scale(Math.max(0, (value - lowest) / (highest - lowest || 1)));
  const [low, ramp, high] = byId("heat").querySelector(".ramp").children;
  low.textContent = FORMATS[state.heat](lowest);
  high.textContent = FORMATS[state.heat](highest);
  rampColours().forEach((colour, step) => {
    const context = ramp.getContext("2d");
    context.fillStyle = colour;
    context.fillRect(step * 2, 0, 2, 10);
  });
  const holder = byId("heat").querySelector(".chart");
  const cut = cutTo(leftSize() - 16);
  charts.push(makeChart(holder, {
    label: `Heat map: of each container the highest ${view.unit} of ${measures[state.heat][0]}`,
    height: 60 + 22 * rows.length,
    data: () => [[view.start, view.end], [null, null]],
    series: [{ show: false }],
    scales: { y: { dir: -1, range: [0, rows.length] } },
    axes: [axisOf(3, (value) => (rows[value - 0.5] ? cut(nameAt(value - 0.5)) : ""), {
      splits: () => rows.map((_, number) => number + 0.5),
      grid: { show: false },
      ticks: { show: false },
      stroke: ink,
    })],
    missing: {
      has: rows.some((row) => row.some(Number.isNaN)),
      text: state.heat === "cpi" ? "hardly ran, or not counted" : "not recorded",
    },
    draw: (u) => drawHeat(u, state.drawn, heatMeasures(state.drawn)[state.heat][1].slice(0, rows.length), position),
    tip: (time, y) => {
      const bucket = bucketAt(state.drawn, time);
      if (holder.matches(":hover")) state.row = Math.max(0, Math.min(rows.length - 1, Math.floor(y)));
      return {
        title: moment(state.drawn, bucket),
        rows: [
          [state.row, nameAt(state.row), `highest ${view.unit}`],
          ...Object.entries(heatMeasures(state.drawn)).map(([measure, [name, found]]) => [null, name, FORMATS[measure](found[state.row][bucket])]),
        ],
      };
    },
  }));
}

function drawDensity() {
  const { scene, focus } = state;
  const found = scene.densities[focus];
  const name = nameAt(focus);
  const isCpi = found?.measure === "cpi";
  const format = FORMATS[isCpi ? "cpi" : "cpus"];
  const holder = fill(
    "density",
    `${found && !isCpi ? "CPU time" : found || state.view.cpi ? "Cycles per instruction" : "CPU time"} of ${name}, with noisy and with quiet neighbours`,
    !found ? `Not pictured: ${focus < COLOURED ? "in less than 400 windows it ran for a 60th of a core or more" : "it is not among the first six"}.` : `Filled: its windows in which the neighbours ${isCpi ? "missed" : "ran"} most (5 %, ${found.noisy_windows.toLocaleString("en")} windows, mean ${format(found.noisy_mean)}); `
      + `dashed: the middle half (${found.quiet_windows.toLocaleString("en")} windows, mean ${format(found.quiet_mean)}).`);
  if (!found) return;
  const at = Array.from({ length: found.points }, (_, point) => found.from + ((found.to - found.from) * point) / (found.points - 1));
  const [noisy, quiet] = [found.noisy, found.quiet].map((position) => Array.from(grid(values, position, 1, found.points)[0]));
  const colour = () => containerColour(focus);
  charts.push(makeChart(holder, {
    label: byId("density-title").textContent,
    height: 200,
    isTime: false,
    data: () => [at, noisy, quiet],
    series: [
      { stroke: colour, fill: () => `${colour()}66`, width: 1.5, points: { show: false } },
      { stroke: ink, dash: [6, 4], width: 1.5, points: { show: false } },
    ],
    scales: { y: { range: (u, least, largest) => [0, largest * 1.05] } },
    axes: [{ show: false }],
    tip: (value) => {
      const point = Math.max(0, Math.min(found.points - 1, Math.round(((value - found.from) / (found.to - found.from)) * (found.points - 1))));
      return {
        title: format(at[point]),
        rows: [[focus, "density, noisiest 5 %", noisy[point].toPrecision(3)], [null, "density, middle half", quiet[point].toPrecision(3)]],
      };
    },
  }));
}

// By bucket NaN where none of the rows has a value.
const everywhereMissing = (rows) => Float32Array.from(rows[0], (_, bucket) => (rows.every((row) => Number.isNaN(row[bucket])) ? NaN : 0));

function drawResources() {
  const { scene, focus } = state;
  const found = scene.resources && readResources(values, scene.resources);
  const hasMemory = found && found.memory.largest.some((row) => !Number.isNaN(largestOf(row, 0, found.buckets)));
  const memory = fill("memory", "Memory", hasMemory ? "memory.current: the highest value of each stretch."
    : `Not pictured: ${found ? "no memory.current was recorded: a cgroup without the memory controller has none, nor has the root"
      : "no rows of `resources` were recorded of these"}.`);
  if (hasMemory) {
    charts.push(makeChart(memory, {
      label: "Memory of each container",
      height: 200,
      data: () => [edges(found), ...found.memory.largest.map(steps)],
      series: found.memory.largest.map((_, number) => ({ stroke: () => containerColour(number), width: 1.5, paths: stepped, points: { show: false } })),
      scales: { y: { range: (u, least, largest) => [0, (largest || 1) * 1.05] } },
      axes: [axisOf(3, (value) => withUnit(value, "B"), { incrs: BINARY_STEPS })],
      gaps: () => ({ axis: found, row: everywhereMissing(found.memory.largest) }),
      tip: (at) => {
        const bucket = bucketAt(found, at);
        return { title: moment(found, bucket), rows: found.memory.largest.map((row, number) => [number, nameAt(number), FORMATS.memory(row[bucket])]) };
      },
    }));
  }
  const shares = found && focus < found.rows
    ? Object.entries(found.shares).filter(([, rows]) => !Number.isNaN(largestOf(rows[focus], 0, found.buckets))) : [];
  const waiting = fill(
    // The root's files speak of the whole node.
    "waiting", `How long ${nameAt(focus) === "/" ? "any task of the node" : nameAt(focus)} waited${state.view.spent ? " for memory and I/O" : ""}`,
    !shares.length ? `Not pictured: no pressure was recorded of it${focus < COLOURED ? "" : ", as it is not among the first six"}.` : `Share of the time, the highest second of each stretch. ${shares.map(([name], index) => `${["Solid", "Dashed", "Dotted", "Dash-dotted"][index]}: ${name}`).join(". ")}.`);
  if (shares.length) {
    charts.push(makeChart(waiting, {
      label: byId("waiting-title").textContent,
      height: 200,
      data: () => [edges(found), ...shares.map(([, rows]) => steps(rows[focus]))],
      series: shares.map((_, index) => ({ stroke: ink, dash: SHARE_DASHES[index], width: 1.25, paths: stepped, points: { show: false } })),
      scales: { y: { range: (u, least, largest) => [0, Math.max(largest, LEAST_HIGH) * 1.05] } },
      axes: [axisOf(3, FORMATS.share)],
      gaps: () => ({ axis: found, row: everywhereMissing(shares.map(([, rows]) => rows[focus])) }),
      tip: (at) => {
        const bucket = bucketAt(found, at);
        return { title: moment(found, bucket), rows: shares.map(([name, rows]) => [null, name, FORMATS.share(rows[focus][bucket])]) };
      },
    }));
  }
}

// The least part of all its time that is seen.
const TRIFLE = 0.001;

function drawSpent() {
  const { view, focus } = state;
  const found = view.spent;
  const isThere = found && focus < found.rows;
  const name = nameAt(focus);
  const holder = fill("spent", `Where the time of ${name} went`,
    !found ? "Not pictured: waits were not recorded (--waits off, or a tracer without them)."
      : !isThere ? "Not pictured: it is not among the first six." : "How many of its tasks, on average: below the line they ran, above it they waited for a CPU, in the run queue or throttled.");
  byId("spent").querySelector(".key").replaceChildren();
  if (!isThere) return;
  const size = found.layers.length * found.buckets;
  const all = grid(values, found.values + focus * size, found.layers.length, found.buckets);
  const sums = all.map((row) => meanOf(row, 0, found.buckets) || 0);
  const whole = sums.reduce((sum, one) => sum + one, 0);
  const special = ["limit", "idle-cpu", "line"];
  const layers = found.layers.map((label, layer) => {
    const other = layer - found.holders;
    if (layer === 1) return { layer, label, mark: "faint", colour: () => property("--faint") };
    if (layer < found.holders) {
      const isOwn = layer === 0;
      return { layer, label, mark: isOwn ? focus : `${focus} faded`, colour: () => containerColour(focus) + (isOwn ? "" : "80") };
    }
    if (other < COLOURED) return { layer, label: `waited behind ${nameAt(other)}`, mark: other, colour: () => containerColour(other) };
    if (other === COLOURED) return { layer, label, mark: COLOURED, colour: () => containerColour(COLOURED) };
    const mark = special[other - COLOURED - 1];
    return { layer, label, mark, colour: () => property(`--${mark}`) };
  }).filter(({ layer }) => sums[layer] > TRIFLE * whole);
  const ran = layers.filter(({ layer }) => layer < 2).length;
  byId("spent").querySelector(".key").replaceChildren(...layers.toReversed().map(({ label, mark }) =>
    element("span", {}, swatch(mark), nameOf(label))));
  charts.push(makeChart(holder, {
    label: byId("spent-title").textContent,
    height: 260,
    data: () => layerData(found, layers.map(({ layer }) => all[layer]), ran),
    series: layerSeries(layers.map(({ colour }) => colour)),
    scales: { y: { range: (u, least, largest) => [0, Math.max(largest, LEAST_HIGH) * 1.05] } },
    axes: [axisOf(3, plain)],
    gaps: () => ({ axis: found, row: all[0] }),
    tip: (at) => {
      const bucket = bucketAt(found, at);
      const rows = layers.toReversed().map(({ layer, label, mark }) => [mark, label, FORMATS.waiting(all[layer][bucket])]);
      return { title: moment(found, bucket), rows };
    },
  }));
}

// Less is told by no more digits.
const LEAST_FIGURE = 0.001;

function drawTable() {
  const { view, scene, range } = state;
  const [first, last] = [bucketAt(view, range[0]), bucketAt(view, range[1] - view.step / 1000) + 1];
  // The heading says what it is.
  const bare = (value) => (Number.isNaN(value) ? "–" : value > 0 && value < LEAST_FIGURE ? `< ${LEAST_FIGURE}` : plain(value));
  const figure = { ...FORMATS, cpus: bare, waiting: bare };
  const kinds = ["cpus", ...(view.waiting ? ["waiting"] : []), ...(view.traffic ? ["traffic"] : [])];
  const head = ["container", "about", "cores, mean", "highest",
    ...(view.waiting ? ["tasks waiting, mean", "highest"] : []),
    ...(view.traffic ? ["traffic, mean", "highest"] : []), ...(view.cpi ? ["CPI, median", "highest"] : [])];
  const rows = [...Array(scene.hidden || view.rows - 1 > COLOURED ? view.rows : view.rows - 1).keys()].map((number) => {
    const key = number === view.rows - 1 ? "other" : number;
    const isStacked = key === "other" || number < own();
    const label = [swatch(key === "other" ? COLOURED : isStacked ? number : null), nameOf(nameAt(number))];
    const name = isStacked ? element("button", { type: "button" }, ...label) : element("span", { className: "among-others" }, ...label);
    if (isStacked) {
      name.setAttribute("aria-pressed", String(isShown(key)));
      name.addEventListener("click", () => toggle(key, name));
    }
    const pick = key === "other" ? "" : element("input", { type: "radio", name: "focus", checked: number === state.focus, ariaLabel: `show pictures about ${nameAt(number)}` });
    if (pick) pick.addEventListener("change", () => { state.focus = number; drawAll(); byId("containers").querySelectorAll("input")[number].focus(); });
    const numbers = kinds.flatMap((kind) => [
      figure[kind](meanOf(view[kind].mean[number], first, last)), key === "other" ? "–" : figure[kind](largestOf(view[kind].peak[number], first, last))]);
    if (view.cpi) numbers.push(...(key === "other" ? ["–", "–"] : [FORMATS.cpi(medianOf(view.cpi.mean[number], first, last)), FORMATS.cpi(largestOf(view.cpi.largest[number], first, last))]));
    return element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, pick), ...numbers.map((text) => element("td", { className: "number", textContent: text })));
  });
  byId("containers").replaceChildren(
    element("thead", {}, element("tr", {}, ...head.map((text, index) => element("th", { scope: "col", textContent: text, className: index > 1 ? "number" : "" })))),
    element("tbody", {}, ...rows));
}

function toggle(key, button) {
  if (!state.hidden.delete(key)) state.hidden.add(key);
  button.setAttribute("aria-pressed", String(isShown(key)));
  charts[0].update();
  charts[0].chart.redraw();
}

// A part of the view, and its buckets put together until each has some pixels.
function setRange(from, to) {
  const { start, end, step } = state.view;
  const width = Math.min(end - start, Math.max(to - from, LEAST_BUCKETS * step));
  const left = Math.max(start, Math.min(end - width, from));
  state.range = [left, left + width];
  const columns = Math.max(100, charts[0].holder.clientWidth - leftSize()) / 1.5;
  state.drawn = coarser(state.view, Math.max(1, Math.ceil(width / step / columns)));
  for (const { chart, isTime, update } of charts) {
    if (!isTime) continue;
    chart.batch(() => {
      update();
      chart.setScale("x", { min: left, max: left + width });
    });
  }
  byId("shown-range").textContent =
    `${clock(left, step, isLong())} to ${clock(left + width, step, isLong())} ${zone.name}, each value ${duration(state.drawn.step)}`;
  const isAll = width >= end - start;
  byId("all").disabled = byId("out").disabled = isAll;
  byId("in").disabled = width <= LEAST_BUCKETS * step;
  byId("earlier").disabled = left <= start;
  byId("later").disabled = left + width >= end;
  drawTable();
}

function showAll() { setRange(state.view.start, state.view.end); }

// Around the cursor of the keyboard, if it is in sight.
function zoom(factor) {
  const [from, to] = state.range;
  const around = state.time > from && state.time < to ? state.time : (from + to) / 2;
  const left = around - (around - from) * factor;
  setRange(left, left + (to - from) * factor);
}

function shift(share) {
  const [from, to] = state.range;
  setRange(from + (to - from) * share, to + (to - from) * share);
}

// The cursor of the keyboard goes by what is drawn; where there is no time, by some pixels.
function moveCursor(holder, by) {
  const { chart, isTime } = charts.find((one) => one.holder === holder);
  if (isTime) {
    const [from, to] = state.range;
    const { drawn } = state;
    const bucket = bucketAt(drawn, state.time ?? (from + to) / 2) + by;
    state.time = drawn.start + (Math.max(0, Math.min(drawn.buckets - 1, bucket)) + 0.5) * drawn.step;
    if (state.time < from) setRange(state.time - (to - from) / 10, state.time + (9 * (to - from)) / 10);
    if (state.time > to) setRange(state.time - (9 * (to - from)) / 10, state.time + (to - from) / 10);
    chart.setCursor({ left: chart.valToPos(state.time, "x"), top: 10 });
  } else {
    const width = chart.over.clientWidth;
    const left = (chart.cursor.left < 0 ? width / 2 : chart.cursor.left) + by * 4;
    chart.setCursor({ left: Math.max(0, Math.min(width, left)), top: 10 });
  }
  const rows = [...holder.querySelector(".tip").children];
  byId("announcer").textContent = rows.map((row) => row.innerText.replaceAll("\n", " ")).join("; ");
}

function onKey(event) {
  const holder = event.currentTarget;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const rows = state.scene.names.length;
  const actions = {
    ArrowLeft: () => moveCursor(holder, event.shiftKey ? -10 : -1),
    ArrowRight: () => moveCursor(holder, event.shiftKey ? 10 : 1),
    "+": () => zoom(0.5),
    "=": () => zoom(0.5),
    "-": () => zoom(2),
    0: showAll,
    ...(holder.closest("#heat") && {
      ArrowUp: () => { state.row = Math.max(0, state.row - 1); moveCursor(holder, 0); },
      ArrowDown: () => { state.row = Math.min(rows - 1, state.row + 1); moveCursor(holder, 0); },
    }),
  };
  if (event.key in actions) {
    event.preventDefault();
    actions[event.key]();
  }
}

function drawAll() {
  charts.forEach(({ chart }) => chart.destroy());
  charts = [];
  state.drawn = state.view;
  drawStack();
  drawSpent();
  drawCpi();
  drawHeatMap();
  drawDensity();
  drawResources();
  setRange(...state.range);
}

function drawHeatChoice() {
  const choice = byId("heat-measure");
  choice.replaceChildren(choice.querySelector("legend"));
  for (const [measure, [name]] of Object.entries(heatMeasures(state.view))) {
    const radio = element("input", { type: "radio", name: "heat", value: measure, checked: measure === state.heat });
    radio.addEventListener("change", () => { state.heat = measure; drawAll(); });
    choice.append(element("label", {}, radio, ` ${name}`));
  }
}

function chooseView(number) {
  state.view = readView(values, state.scene.views[number]);
  state.range = [state.view.start, state.view.end];
  state.focus = state.view.about;
  byId("view").value = number;
  drawAll();
  drawHeatChoice();
}

function chooseNode(number) {
  state.scene = scenes[number];
  Object.assign(state, { focus: 0, row: 0, time: null, hidden: new Set() });
  byId("node").value = number;
  byId("view").replaceChildren(...state.scene.views.map(({ title }, index) => element("option", { value: index, textContent: title })));
  byId("left-out").textContent = state.scene.hidden ? `Among “all others”: those that did least, ${state.scene.hidden} of ${state.scene.hidden + state.scene.names.length}.` : "";
  chooseView(0);
}

const sceneOf = (button) => scenes.findIndex(({ node }) => node === button.dataset.node);

function showTime(button) {
  chooseNode(sceneOf(button));
  const [from, to] = [Number(button.dataset.from), Number(button.dataset.to)];
  const margin = (to - from) * 0.1;
  setRange(from - margin, to + margin);
  const section = byId(state.view.spent ? "spent" : "stack");
  section.querySelector(".chart").focus({ preventScroll: true });
  section.scrollIntoView();
}

async function start() {
  if (!scenes.length) return;
  values = await readValues(byId("values").textContent);
  byId("pictures").hidden = false;
  byId("node").replaceChildren(...scenes.map(({ node }, index) => element("option", { value: index, textContent: node })));
  byId("node-control").hidden = scenes.length < 2;
  byId("node").addEventListener("change", (event) => chooseNode(Number(event.target.value)));
  byId("view").addEventListener("change", (event) => chooseView(Number(event.target.value)));
  for (const [id, action] of Object.entries({
    in: () => zoom(0.5), out: () => zoom(2), earlier: () => shift(-0.5), later: () => shift(0.5), all: showAll,
  })) byId(id).addEventListener("click", action);
  for (const button of document.querySelectorAll(".range")) {
    button.disabled = sceneOf(button) < 0;
    button.addEventListener("click", () => showTime(button));
  }
  document.querySelectorAll("#pictures .chart").forEach((holder) => {
    holder.addEventListener("keydown", onKey);
    holder.addEventListener("blur", () => { holder.querySelector(".tip")?.setAttribute("hidden", ""); });
    holder.addEventListener("mousemove", () => { state.time = null; });
  });
  chooseNode(0);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) { width = innerWidth; drawAll(); }
  });
}

start();
