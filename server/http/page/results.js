// What a result says, as the page shows it.

import { $, diff, make } from "./dom.js";

const ADVICE = {
  APPLIED: "the context changed which alternative comes first",
  NOT_REQUESTED: "nothing was asked before",
  NOT_FOUND: "no turn of the dialogue expects speech",
  NOT_READY: "the context was still being made",
  EXPIRED: "the context is too old",
  FAILED: "making or using the context failed",
  DISABLED: "the server runs without context",
};

/** A partial result: words that the one before had too stand firm. */
export function showLive(text, before, stage) {
  const words = text.split(" ").filter(Boolean);
  const old = before.split(" ");
  const same = words.findIndex((word, i) => word !== old[i]);
  const firm = stage === "partial" ? (same < 0 ? words.length : same) : words.length;
  $("live").replaceChildren(
    ...words.map((word, i) => make("span", { class: i < firm ? "firm" : "unsure" }, i ? ` ${word}` : word)),
  );
  for (const one of $("stages").children) one.classList.toggle("on", one.dataset.stage === stage);
}

/** The text of results. */
export function textOf(results) {
  return results.map((one) => one.alternatives[0].transcript).filter(Boolean).join(" ");
}

/** What was heard without the context. */
export function plainOf(results) {
  return results.map((one) => one.context?.plain_transcript).filter(Boolean).join(" ");
}

/** No result, as it was before there was one. */
export function showNothing() {
  $("no-result").hidden = false;
  $("result-body").hidden = true;
}

/** The final results of an answer: one, or several of a long recording. Returns what is said of them aloud. */
export function showFinal(results) {
  const text = textOf(results);
  const contexts = results.map((one) => one.context ?? {});
  const context = contexts.find((one) => one.changed) ?? contexts[0];
  const plain = plainOf(results);
  const both = results.map((one) => diff(plainOf([one]), textOf([one])));
  $("plain").replaceChildren(...marked(both.flatMap((one) => one.removed), "del", plain));
  $("final").replaceChildren(...marked(both.flatMap((one) => one.added), "mark", text));
  $("no-result").hidden = true;
  $("result-body").hidden = false;
  $("result-body").classList.remove("fresh");
  requestAnimationFrame(() => $("result-body").classList.add("fresh"));
  const applied = context.status === "APPLIED";
  $("status").className = `status ${applied ? "applied" : context.status === "FAILED" ? "failed" : ""}`;
  const what = applied && !context.changed ? "the context agrees with what was heard" : ADVICE[context.status];
  $("status").replaceChildren(make("b", {}, context.status ?? "UNSPECIFIED"), " ", context.reason || what || "");
  showWhy(contexts);
  showAlternatives(results);
  return `Final result: ${text || "nothing was said"}. Heard by itself: ${plain || "nothing"}. Context: ${context.status}.`;
}

function marked(words, tag, text) {
  if (!text) return [make("span", { class: "hint" }, "(nothing)")];
  return words.flatMap(({ word, same }, i) => [i ? " " : "", same ? word : make(tag, {}, word)]);
}

function showWhy(contexts) {
  const words = contexts.flatMap((one) => one.biased_words ?? []);
  $("no-why").hidden = words.length > 0;
  $("why").hidden = words.length === 0;
  fill("why", words.map((one) => [
    one.word,
    one.phrase,
    one.signal,
    number(one.nats === undefined ? "" : signed(one.nats)),
  ]));
  const meant = contexts.flatMap((one) => one.meant ?? []).map((one) => `${one.entry}${one.entry_id ? ` (${one.entry_id})` : ""}, ${one.signal}`);
  $("why-note").textContent = meant.length ? `It names ${meant.join(" or ")}.` : "";
}

function showAlternatives(results) {
  const rows = results.flatMap((result) => [
    ...(results.length > 1 ? [make("th", { colspan: 7 }, `${seconds(result.start)} to ${seconds(result.end)}`)] : []),
    ...alternatives(result),
  ]);
  fill("nbest", rows);
}

function alternatives({ alternatives, context }) {
  const plain = context?.plain_transcript ?? "";
  const without = (one) => (one.score ?? 0) - (one.context_score ?? 0);
  return alternatives.map((one, i) => [
    number(String(i + 1)),
    // equal ones stay in their order
    number(String(1 + alternatives.filter((other, j) => without(other) - without(one) > (j < i ? -1e-9 : 1e-9)).length)),
    one.transcript || "(nothing)",
    number((one.score ?? 0).toFixed(1)),
    number(one.context_score === undefined ? "" : signed(one.context_score)),
    number(`${Math.round(100 * (one.confidence ?? 0))}\u00a0%`),
    make("span", { class: `origin ${one.from_context ? "context" : ""}` },
      one.from_context ? "context" : (one.transcript ?? "") === plain ? "heard first" : "heard"),
  ]);
}

function signed(nats) {
  return `${nats < 0 ? "" : "+"}${nats.toFixed(1)}`;
}

function seconds(time) {
  return `${(time ?? 0).toFixed(1)} s`;
}

function number(text) {
  return make("span", { class: "number" }, text);
}

/** Rows of cells; a row that is one element is a heading of those below it. */
function fill(table, rows) {
  const cell = (one) => make("td", { class: one instanceof Element && one.className === "number" ? "number" : false }, one);
  $(table).tBodies[0].replaceChildren(
    ...rows.map((row) => make("tr", {}, ...(row instanceof Element ? [row] : row.map(cell)))),
  );
}
