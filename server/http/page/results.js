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

/** A final result. */
export function showFinal(result) {
  const best = result.alternatives[0];
  const text = best.transcript ?? "";
  const context = result.context ?? {};
  const plain = context.plain_transcript ?? "";
  const { removed, added } = diff(plain, text);
  $("plain").replaceChildren(...marked(removed, "del", plain));
  $("final").replaceChildren(...marked(added, "mark", text));
  $("no-result").hidden = true;
  $("result-body").hidden = false;
  $("result-body").classList.remove("fresh");
  requestAnimationFrame(() => $("result-body").classList.add("fresh"));
  const applied = context.status === "APPLIED";
  $("status").className = `status ${applied ? "applied" : context.status === "FAILED" ? "failed" : ""}`;
  const what = applied && !context.changed ? "the context agrees with what was heard" : ADVICE[context.status];
  $("status").replaceChildren(make("b", {}, context.status ?? "UNSPECIFIED"), context.reason || what || "");
  showWhy(context);
  showAlternatives(result, plain);
  return `Final result: ${text || "nothing was said"}. Heard by itself: ${plain || "nothing"}. Context: ${context.status}.`;
}

function marked(words, tag, text) {
  if (!text) return [make("span", { class: "hint" }, "(nothing)")];
  return words.flatMap(({ word, same }, i) => [i ? " " : "", same ? word : make(tag, {}, word)]);
}

function showWhy(context) {
  const words = context.biased_words ?? [];
  $("no-why").hidden = words.length > 0;
  $("why").hidden = words.length === 0;
  fill("why", words.map((one) => [
    one.word,
    one.phrase,
    one.signal,
    number(one.nats === undefined ? "" : `+${one.nats.toFixed(1)}`),
  ]));
  const notes = [];
  const rank = words.find((one) => one.rank)?.rank;
  if (rank) notes.push(`Without the context's score this transcript would rank ${rank}.`);
  const meant = (context.meant ?? []).map((one) => `${one.entry}${one.entry_id ? ` (${one.entry_id})` : ""}, ${one.signal}`);
  if (meant.length) notes.push(`It names ${meant.join(" or ")}.`);
  $("why-note").textContent = notes.join(" ");
}

function showAlternatives(result, plain) {
  fill("nbest", result.alternatives.map((one, i) => [
    number(String(i + 1)),
    one.transcript || "(nothing)",
    number((one.score ?? 0).toFixed(1)),
    number(`${Math.round(100 * (one.confidence ?? 0))} %`),
    make("span", { class: `origin ${one.from_context ? "context" : ""}` },
      one.from_context ? "context" : one.transcript === plain ? "heard first" : "heard"),
  ]));
}

function number(text) {
  return make("span", { class: "number" }, text);
}

function fill(table, rows) {
  const cells = (row) => row.map((cell) =>
    make("td", { class: cell instanceof Element && cell.className === "number" ? "number" : false }, cell));
  $(table).tBodies[0].replaceChildren(...rows.map((row) => make("tr", {}, ...cells(row))));
}
