// SPDX-License-Identifier: Apache-2.0

const COLOURED = 6;
const property = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const containerColour = (number) => property(number < COLOURED ? `--container-${number}` : "--container-other");
const ink = () => property("--ink");

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// A name that may be written from right to left must not turn what stands beside it.
const nameOf = (name) => element("bdi", { textContent: name });

// Of a container by its number, of something else by the name of its colour.
function swatch(number) {
  const which = typeof number === "string" ? number : number === null ? "none" : number < COLOURED ? number : "other";
  return element("span", { className: `swatch swatch-${which}`, ariaHidden: "true" });
}

const stepped = (u, series, first, last) => uPlot.paths.stepped({ align: 1 })(u, series, first, last);

// Steps of an axis of bytes: powers of two, so that its figures are round.
const BINARY_STEPS = Array.from({ length: 60 }, (_, power) => 2 ** power);

// What is missing is neither nothing nor the colour of the ground.
function hatch(context) {
  const tile = element("canvas", { width: 8, height: 8 });
  const drawn = tile.getContext("2d");
  drawn.fillStyle = property("--missing");
  drawn.fillRect(0, 0, 8, 8);
  drawn.strokeStyle = property("--missing-line");
  drawn.beginPath();
  for (const from of [-8, 0, 8]) { drawn.moveTo(from, 8); drawn.lineTo(from + 8, 0); }
  drawn.stroke();
  return context.createPattern(tile, "repeat");
}

// Where a row has no value, from top to bottom.
function drawGaps(u, { axis, row }) {
  const { left, top, width, height } = u.bbox;
  u.ctx.save();
  u.ctx.fillStyle = hatch(u.ctx);
  for (let bucket = 0, from = null; bucket <= axis.buckets; bucket++) {
    const isMissing = bucket < axis.buckets && Number.isNaN(row[bucket]);
    if (isMissing && from === null) from = bucket;
    if (!isMissing && from !== null) {
      const [start, end] = [from, bucket].map((edge) =>
        Math.max(left, Math.min(left + width, u.valToPos(axis.start + edge * axis.step, "x", true))));
      u.ctx.fillRect(start, top, end - start, height);
      from = null;
    }
  }
  u.ctx.restore();
}

function axisOf(side, values, more = {}) {
  return {
    side,
    stroke: () => property("--faint"),
    grid: { stroke: () => property("--line"), width: 1 },
    ticks: { stroke: () => property("--line"), width: 1 },
    font: "12px system-ui, sans-serif",
    ...(side === 3 && { size: leftSize() }),
    ...(values && { values: (u, splits) => splits.map(values) }),
    ...more,
  };
}

// Times of the x axis, and under the first one of each day the day. Whole days are so in UTC.
function timeValues(u, splits, _axis, _space, increment) {
  const isByDay = increment >= 86400000 && zone.offset === 0;
  const [from, to] = isByDay ? [5, 10] : increment >= 60000 ? [11, 16] : [11, increment >= 1000 ? 19 : 23];
  return splits.map((time, index) => {
    const text = shownTime(time);
    const isNewDay = index === 0 || (!isByDay && shownTime(splits[index - 1]).slice(0, 10) !== text.slice(0, 10));
    return text.slice(from, to) + (isNewDay ? `\n${text.slice(0, 10)}` : "");
  });
}

// Names and figures beside the pictures take the same room in all, so that their times are above each other.
const leftSize = () => Math.min(200, Math.max(92, document.documentElement.clientWidth * 0.14));

const isPointing = (type) => type === "mousemove" || type === "mouseleave";

// One of the pictures, in `holder`. `tip` gives the rows of the box at the cursor: [number of its colour, name, text].
// `data` is asked for anew with each range of time, and `gaps` for the row whose missing values are hatched.
function makeChart(holder, { label, height, data, series, axes, bands, scales, tip, draw, gaps, missing, isTime = true }) {
  holder.replaceChildren();
  holder.tabIndex = 0;
  holder.setAttribute("role", "group");
  holder.setAttribute("aria-roledescription", "picture");
  holder.setAttribute("aria-label", label);
  const box = element("div", { className: "tip", hidden: true });
  const chart = new uPlot({
    width: Math.max(240, holder.clientWidth),
    height,
    ms: 1,
    tzDate: (time) => uPlot.tzDate(new Date(time), "Etc/UTC"),
    legend: { show: false },
    // Room for half of the last time.
    padding: [null, 30, null, null],
    cursor: {
      y: false,
      points: { show: false },
      drag: { x: isTime, y: false, setScale: false },
      // Others follow the pointer, but what is dragged here is zoomed to once.
      ...(isTime && { sync: { key: "time", scales: ["x", null], filters: { pub: isPointing } }, bind: { dblclick: () => () => showAll() } }),
    },
    select: { show: isTime },
    scales: { x: { time: isTime }, ...scales },
    series: [{}, ...series],
    axes: [isTime ? axisOf(2, null, { space: 76, values: timeValues }) : axisOf(2, (value) => Number(value.toPrecision(5)), { space: 76 }), ...axes],
    bands,
    hooks: {
      drawClear: gaps ? [(u) => drawGaps(u, gaps())] : [],
      draw: draw ? [draw] : [],
      setCursor: [(u) => placeTip(u, holder, box, tip)],
      setSelect: [(u) => {
        if (u.select.width > 3) {
          setRange(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"));
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
        }
      }],
    },
  }, data(), holder);
  holder.append(box);
  const hasGaps = missing?.has ?? (gaps && gaps().row.some(Number.isNaN));
  if (hasGaps) holder.append(element("p", { className: "key" }, element("span", {}, swatch("missing"), missing?.text ?? "not recorded")));
  return { chart, holder, isTime, update: () => chart.setData(data(), false) };
}

function placeTip(u, holder, box, tip) {
  const { left, top } = u.cursor;
  const isHere = holder.matches(":hover") || holder === document.activeElement;
  const found = isHere && left >= 0 ? tip(u.posToVal(left, "x"), u.posToVal(top, "y")) : null;
  box.hidden = found === null;
  if (found === null) return;
  box.replaceChildren(element("strong", { textContent: found.title }));
  for (const [number, name, text] of found.rows) {
    const row = element("div", { className: "row" }, swatch(number), nameOf(name), element("span", { textContent: text }));
    box.append(row);
  }
  const atX = u.over.offsetLeft + left;
  const isRight = atX + 16 + box.offsetWidth > holder.clientWidth;
  box.style.left = `${Math.max(0, isRight ? atX - 16 - box.offsetWidth : atX + 16)}px`;
  box.style.top = `${u.over.offsetTop + 4}px`;
}

// The highest windows, and over them areas on top of each other: each is drawn down to zero and the next one over it.
function stackData(view, rate, isShown) {
  const own = Math.min(COLOURED, view.rows - 1);
  const under = new Float64Array(view.buckets);
  const areas = [];
  for (let number = 0; number <= own; number++) {
    const rows = number < own ? [rate.mean[number]] : rate.mean.slice(own);
    if (isShown(number === own ? "other" : number)) {
      for (const row of rows) row.forEach((value, bucket) => { under[bucket] += value; });
    }
    areas.unshift(steps(under));
  }
  return [edges(view), steps(peaks(view, rate, isShown, own)), ...areas];
}

// The highest window of all is known, and that of each one; of some of them it is not.
function peaks(view, rate, isShown, own) {
  const shown = [...Array(own).keys()].filter(isShown);
  if (shown.length === own && isShown("other")) return rate.totalPeak;
  if (shown.length === 1 && !isShown("other")) return rate.peak[shown[0]];
  return new Float32Array(view.buckets).fill(NaN);
}

function stackSeries(view) {
  const own = Math.min(COLOURED, view.rows - 1);
  const areas = Array.from({ length: own + 1 }, (_, index) => {
    const number = own - index;
    const colour = () => containerColour(number === own ? COLOURED : number);
    return { fill: colour, stroke: colour, width: 0, paths: stepped, points: { show: false } };
  });
  const peak = { stroke: () => `${ink()}80`, fill: () => `${ink()}1c`, width: 0.5, paths: stepped, points: { show: false } };
  return [peak, ...areas];
}

// Layers, the lowest first, as areas that lie on top of each other; over them a line at the top of the first `ran`.
function layerData(axis, layers, ran) {
  const under = new Float64Array(axis.buckets);
  const tops = layers.map((values) => {
    values.forEach((value, bucket) => { under[bucket] += value; });
    return steps(under);
  });
  return [edges(axis), ...tops.toReversed(), ran > 0 ? tops[ran - 1] : steps(new Float64Array(axis.buckets))];
}

function layerSeries(colours) {
  const areas = colours.toReversed().map((colour) =>
    ({ fill: colour, stroke: colour, width: 0, paths: stepped, points: { show: false } }));
  return [...areas, { stroke: ink, width: 0.5, paths: stepped, points: { show: false } }];
}

function rampColours() {
  const [low, high] = ["--ramp-low", "--ramp-high"].map((name) =>
    property(name).match(/[0-9a-f]{2}/gi).map((digits) => parseInt(digits, 16)));
  return Array.from({ length: 64 }, (_, step) =>
    `rgb(${low.map((from, channel) => Math.round(from + ((high[channel] - from) * step) / 63)).join()})`);
}

// Draws each pixel's largest value, so that a bucket narrower than a pixel is seen too.
function drawHeat(u, view, rows, position) {
  const ramp = rampColours();
  const missing = hatch(u.ctx);
  const { left, top, width, height } = u.bbox;
  const perPixel = (u.scales.x.max - u.scales.x.min) / width;
  const rowHeight = height / rows.length;
  u.ctx.save();
  rows.forEach((row, number) => {
    const y = Math.round(top + number * rowHeight);
    const yEnd = Math.round(top + (number + 1) * rowHeight) - (rowHeight > 8 ? 1 : 0);
    let runStart = 0, runColour = null;
    for (let pixel = 0; pixel <= width; pixel++) {
      let colour = null;
      if (pixel < width) {
        const from = (u.scales.x.min + pixel * perPixel - view.start) / view.step;
        const first = Math.max(0, Math.floor(from));
        const last = Math.min(view.buckets, Math.max(first + 1, Math.ceil(from + perPixel / view.step)));
        const value = largestOf(row, first, last);
        colour = Number.isNaN(value) ? missing : ramp[Math.round(63 * Math.max(0, Math.min(1, position(value))))];
      }
      if (colour !== runColour) {
        if (runColour !== null) {
          u.ctx.fillStyle = runColour;
          u.ctx.fillRect(left + runStart, y, pixel - runStart, yEnd - y);
        }
        runStart = pixel;
        runColour = colour;
      }
    }
  });
  u.ctx.restore();
}

function cutTo(width) {
  const context = document.createElement("canvas").getContext("2d");
  context.font = "12px system-ui, sans-serif";
  return (name) => {
    if (context.measureText(name).width <= width) return name;
    // Of both ends, as these tell it from its kind.
    let length = name.length - 1;
    const cut = () => `${name.slice(0, Math.ceil(length / 2))}…${name.slice(name.length - Math.floor(length / 2))}`;
    while (length > 3 && context.measureText(cut()).width > width) length--;
    return cut();
  };
}
