// The reply window on one axis: the assistant's speech, the context in the making, the user's voice.

import { $ } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const BAR = 26;
const NARROW = 460;
const MOST_POINTS = 1000;

let drawn = {};

/**
 * Draws what is known of a turn. Moments are milliseconds since 1970: asked (or `before` this turn), speech
 * { from, to }, states [{ state, at }] and their reason, audio { from, peaks, file }, begin, end, final.
 */
export function drawTimeline(turn) {
  drawn = turn;
  const start = turn.asked ?? turn.audio?.from;
  $("no-window").hidden = start !== undefined;
  $("window-body").hidden = start === undefined;
  if (start === undefined) return;
  const known = [
    start + 500, turn.speech?.to, turn.audio?.file ? undefined : turn.final, ...(turn.states ?? []).map((one) => one.at),
    turn.audio && turn.audio.from + 40 * turn.audio.peaks.length,
  ].filter((one) => one !== undefined);
  const end = Math.max(...known) + 100;
  const width = Math.max(240, $("timeline").clientWidth);
  const place = layout(width);
  const x = (at) => place.left + ((at - start) / (end - start)) * (width - place.left - 2);
  const bottom = place.top(2) + BAR + 6;
  const svg = element("svg", {
    viewBox: `0 0 ${width} ${bottom + 16}`, width, height: bottom + 16, "aria-hidden": "true", // the text says it all
  });
  for (const at of ticks(end - start, width - place.left)) {
    svg.append(
      element("line", { class: "grid", x1: x(start + at), x2: x(start + at), y1: 18, y2: bottom }),
      element("text", { x: x(start + at), y: 11, "text-anchor": anchor(x(start + at), width) }, `${+(at / 1000).toFixed(2)} s`),
    );
  }
  ["assistant", "its context", "you"].forEach((name, lane) => {
    svg.append(
      element("text", { class: "lane", x: 0, y: place.label(lane) }, name),
      element("rect", { class: "track", x: place.left, y: place.top(lane), width: width - place.left - 2, height: BAR, rx: 6 }),
    );
  });
  const note = (text) => element("text", { x: place.left + 10, y: place.top(0) + 17 }, text);
  if (!turn.asked) svg.append(note(turn.before ? "asked before" : "nothing was asked"));
  else if (!turn.speech) svg.append(note("not spoken"));
  else {
    const kind = turn.speech.silent ? "silent" : "assistant";
    svg.append(bar(kind, place.top(0), x(turn.speech.from), x(turn.speech.to ?? end)));
    if (turn.speech.silent) svg.append(note("no voice here"));
  }
  drawStates(svg, turn, x, end, place.top(1));
  if (turn.audio) svg.append(wave(turn.audio, x, place.top(2) + BAR / 2));
  if (turn.final !== undefined && !turn.audio.file) {
    const at = x(turn.final);
    svg.append(
      element("line", { class: "moment", x1: at, x2: at, y1: 18, y2: bottom }),
      element("text", { x: at, y: bottom + 13, "text-anchor": "end" }, "final result"),
    );
  }
  $("timeline").replaceChildren(svg);
  $("window-text").textContent = describe(turn);
}

function anchor(x, width) {
  return x < 20 ? "start" : x > width - 20 ? "end" : "middle";
}

/** Where the lanes are: their names beside them, or above them where there is little room. */
function layout(width) {
  const narrow = width < NARROW;
  const height = narrow ? 48 : 38;
  const top = (lane) => 24 + lane * height + (narrow ? 18 : 4);
  return { left: narrow ? 0 : 88, top, label: (lane) => top(lane) + (narrow ? -6 : 17) };
}

new ResizeObserver(() => drawTimeline(drawn)).observe($("timeline"));

function drawStates(svg, turn, x, end, top) {
  const states = turn.states ?? [];
  states.forEach(({ state, at }, i) => {
    const next = states[i + 1]?.at ?? end;
    const last = i === states.length - 1;
    if (state === "RECORDED" && !last) return;
    const kind = state === "READY" ? "ready" : state === "FAILED" || state === "EXPIRED" ? "gone" : "making";
    const piece = bar(kind, top, x(at), x(next));
    piece.append(element("title", {}, state.toLowerCase()));
    svg.append(piece);
  });
  const ready = states.find((one) => one.state === "READY");
  if (ready) {
    const label = `ready after ${Math.max(0, Math.round(ready.at - states[0].at))} ms`;
    svg.append(element("text", { x: x(ready.at) + 10, y: top + 17, class: "on-bar" }, label));
  }
}

/** What the picture shows, in words. */
export function describe(turn) {
  const parts = [];
  const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
  const states = turn.states ?? [];
  const ready = states.find((one) => one.state === "READY");
  if (turn.speech?.to && turn.speech.silent) parts.push(`The browser has no voice; it waited ${seconds(turn.speech.to - turn.speech.from)} in its place.`);
  else if (turn.speech?.to) parts.push(`The question took ${seconds(turn.speech.to - turn.speech.from)} to speak.`);
  if (ready) {
    const took = ["READING", "ENCODING"].flatMap((name) => {
      const at = states.findIndex((one) => one.state === name);
      return at < 0 ? [] : [`${name.toLowerCase()} ${Math.round(states[at + 1].at - states[at].at)} ms`];
    });
    const before = turn.speech?.to ? `, ${seconds(turn.speech.to - ready.at)} before its end` : "";
    const how = took.length ? ` (${took.join(", ")})` : "";
    parts.push(`Its context was ready ${Math.round(ready.at - states[0].at)} ms after it was recorded${how}${before}.`);
  } else if (states.length) {
    parts.push(`Its context is ${states[states.length - 1].state.toLowerCase()}${turn.reason ? `: ${turn.reason}` : ""}.`);
  } else if (turn.reason) {
    parts.push(`What became of its context is not known: ${turn.reason}.`);
  }
  if (turn.audio?.file) {
    const took = turn.final === undefined ? "" : `; its result was there after ${seconds(turn.final - turn.audio.from)}`;
    return [...parts, `The recording lasts ${seconds(40 * turn.audio.peaks.length)}${took}.`].join(" ");
  }
  const start = turn.asked ?? turn.audio?.from;
  if (turn.begin !== undefined) parts.push(`You began to speak at ${seconds(turn.begin - start)}`.concat(
    turn.end === undefined ? "." : ` and ended at ${seconds(turn.end - start)}.`));
  if (turn.final !== undefined) parts.push(`The final result was there at ${seconds(turn.final - start)}.`);
  return parts.join(" ");
}

function wave({ from, peaks }, x, middle) {
  const step = Math.ceil(peaks.length / MOST_POINTS);
  const shown = Array.from({ length: Math.ceil(peaks.length / step) }, (_, i) => Math.max(...peaks.slice(i * step, (i + 1) * step)));
  const most = Math.max(0.05, ...shown);
  const points = shown.map((peak, i) => [x(from + 40 * step * i), Math.max(0.8, (peak / most) ** 0.7 * BAR * 0.46)]);
  const upper = points.map(([at, high]) => `${at.toFixed(1)} ${(middle - high).toFixed(1)}`);
  const lower = points.reverse().map(([at, high]) => `${at.toFixed(1)} ${(middle + high).toFixed(1)}`);
  return element("path", { class: "you", d: `M${[...upper, ...lower].join("L")}Z` });
}

function ticks(span, width) {
  const most = Math.max(3, width / 70);
  const step = [100, 250, 500, 1000, 2000, 5000, 10000].find((one) => span / one <= most) ?? 30000;
  return Array.from({ length: Math.floor(span / step) + 1 }, (_, i) => i * step);
}

function bar(kind, top, from, to) {
  return element("rect", { class: kind, x: from, y: top, width: Math.max(2.5, to - from), height: BAR, rx: 4 });
}

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
