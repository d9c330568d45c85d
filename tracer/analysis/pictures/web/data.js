// SPDX-License-Identifier: Apache-2.0
"use strict";

// What packing.py packed: all arrays of the page, one after the other.
async function readValues(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Float32Array(await new Response(stream).arrayBuffer());
}

// A table of numbers: `rows` rows of `columns`, which begin at `position`.
function grid(values, position, rows, columns) {
  return Array.from({ length: rows }, (_, row) =>
    values.subarray(position + row * columns, position + (row + 1) * columns));
}

function readRate(values, rate, rows, buckets) {
  return rate && {
    mean: grid(values, rate.mean, rows, buckets),
    peak: grid(values, rate.peak, rows, buckets),
    totalPeak: grid(values, rate.total_peak, 1, buckets)[0],
  };
}

function readView(values, view) {
  const { rows, buckets, cpi } = view;
  return {
    ...view,
    end: view.start + view.step * buckets,
    cpus: readRate(values, view.cpus, rows, buckets),
    waiting: readRate(values, view.waiting, rows, buckets),
    traffic: readRate(values, view.traffic, rows, buckets),
    cpi: cpi && {
      mean: grid(values, cpi.cpi, rows, buckets),
      least: grid(values, cpi.cpi_min, rows, buckets),
      largest: grid(values, cpi.cpi_max, rows, buckets),
    },
  };
}

function readResources(values, found) {
  const { rows, buckets, memory } = found;
  return {
    ...found,
    memory: {
      least: grid(values, memory.least, rows, buckets),
      largest: grid(values, memory.largest, rows, buckets),
    },
    shares: Object.fromEntries(
      Object.entries(found.shares).map(([name, position]) => [name, grid(values, position, rows, buckets)])),
  };
}

// Where each bucket begins, and the end of the last one; values are drawn from edge to edge.
const edges = (axis) => Array.from({ length: axis.buckets + 1 }, (_, number) => axis.start + number * axis.step);
const steps = (row) => [...Array.from(row, orNull), orNull(row[row.length - 1])];
const orNull = (value) => (Number.isNaN(value) ? null : value);

function bucketAt(axis, time) {
  return Math.max(0, Math.min(axis.buckets - 1, Math.floor((time - axis.start) / axis.step)));
}

function largestOf(row, first, last) {
  let largest = NaN;
  for (let bucket = first; bucket < last; bucket++) {
    if (!(row[bucket] <= largest) && !Number.isNaN(row[bucket])) largest = row[bucket];
  }
  return largest;
}

function leastOf(row, first, last) {
  let least = NaN;
  for (let bucket = first; bucket < last; bucket++) {
    if (!(row[bucket] >= least) && !Number.isNaN(row[bucket])) least = row[bucket];
  }
  return least;
}

function meanOf(row, first, last) {
  let sum = 0, count = 0;
  for (let bucket = first; bucket < last; bucket++) {
    if (!Number.isNaN(row[bucket])) { sum += row[bucket]; count++; }
  }
  return count ? sum / count : NaN;
}

function medianOf(row, first, last) {
  const sorted = row.slice(first, last).filter((value) => !Number.isNaN(value)).sort();
  return sorted.length ? sorted[sorted.length >> 1] : NaN;
}

// The view with `factor` buckets to one, as a screen has fewer columns: of peaks the largest remains.
function coarser(view, factor) {
  if (factor === 1) return view;
  const buckets = Math.ceil(view.buckets / factor);
  const every = (reduce) => (row) => Float32Array.from({ length: buckets }, (_, bucket) =>
    reduce(row, bucket * factor, Math.min(view.buckets, (bucket + 1) * factor)));
  const rate = (of) => of && {
    mean: of.mean.map(every(meanOf)),
    peak: of.peak.map(every(largestOf)),
    totalPeak: every(largestOf)(of.totalPeak),
  };
  return {
    ...view,
    step: view.step * factor,
    buckets,
    cpus: rate(view.cpus),
    waiting: rate(view.waiting),
    traffic: rate(view.traffic),
    cpi: view.cpi && {
      mean: view.cpi.mean.map(every(meanOf)),
      least: view.cpi.least.map(every(leastOf)),
      largest: view.cpi.largest.map(every(largestOf)),
    },
  };
}

const PREFIXES = ["", "Ki", "Mi", "Gi", "Ti", "Pi"];

function withUnit(value, unit) {
  if (Number.isNaN(value)) return "–";
  let power = 0;
  while (Math.abs(value) >= 1023.5 && power < PREFIXES.length - 1) { value /= 1024; power++; }
  return `${Number(value.toPrecision(3))} ${PREFIXES[power]}${unit}`;
}

// Less is nothing to speak of: no picture is stretched so far that it fills it. Of cores, tasks and shares.
const LEAST_HIGH = 0.01;

// Three digits, never as a power of ten.
function plain(value) {
  const rounded = Number(value.toPrecision(3));
  return rounded !== 0 && Math.abs(rounded) < 1e-6 ? rounded.toFixed(9) : String(rounded);
}

const FORMATS = {
  traffic: (value) => withUnit(value, "B/s"),
  memory: (value) => withUnit(value, "B"),
  cpus: (value) => (Number.isNaN(value) ? "–" : `${plain(value)} ${plain(value) === "1" ? "core" : "cores"}`),
  waiting: (value) => (Number.isNaN(value) ? "–" : `${plain(value)} ${plain(value) === "1" ? "task" : "tasks"}`),
  cpi: (value) => (Number.isNaN(value) ? "–" : value.toFixed(2)),
  share: (value) => (Number.isNaN(value) ? "–" : `${plain(100 * value)} %`),
};

// As ISO 8601, in the zone in which times are shown.
const shownTime = (time) => new Date(time + zone.offset).toISOString();

// 14:02:03, and as many decimals as steps of `step` ms need; with the day where `isLong`.
function clock(time, step, isLong) {
  return shownTime(time).replace("T", " ").slice(isLong ? 5 : 11, step % 1000 === 0 ? 19 : 23);
}

function duration(milliseconds) {
  if (milliseconds < 1000) return `${Number(milliseconds.toPrecision(3))} ms`;
  if (milliseconds < 120000) return `${Number((milliseconds / 1000).toPrecision(3))} s`;
  return milliseconds < 7200000 ? `${(milliseconds / 60000).toFixed(1)} min` : `${(milliseconds / 3600000).toFixed(1)} h`;
}
