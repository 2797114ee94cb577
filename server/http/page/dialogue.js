// The dialogue that is edited: what was said, what is asked, what services know.

import { $, make } from "./dom.js";

export const EXAMPLES = [
  {
    name: "Which Meg?",
    utterance: "call Meg",
    reply: "Do you mean Meg Jones or Meg Bauer?",
    signals: { contacts: ["Meg Jones", "Meg Bauer", "Sam Miller", "Anna Power", "Doctor Brown"] },
    say: "Bauer",
  },
  {
    name: "Which device?",
    utterance: "dim the light",
    reply: "I found several. Which one should I dim?",
    signals: { devices: ["cellar fridge", "upstairs chandelier", "gym heater", "pool tv", "landing echo show"] },
    say: "dim the gym heater",
  },
  {
    name: "Which shop?",
    utterance: "find a convenience store near me",
    reply: "The nearest ones are Timewise and Plaid Pantry. Which would you like?",
    signals: { places: ["Timewise", "Plaid Pantry"], screen: ["open now", "nearest first"] },
    say: "Plaid Pantry",
  },
];

const SIGNALS = ["contacts", "devices", "places", "screen", "preferences", "device_type"];

export class Dialogue {
  /** `begin` is called for a new one. */
  constructor(begin) {
    $("signals").after(make("datalist", { id: "signal-names" }, ...SIGNALS.map((name) => make("option", { value: name }))));
    for (const example of EXAMPLES) {
      const chip = make("button", { type: "button", "aria-pressed": "false" }, example.name);
      chip.onclick = () => {
        begin();
        this.show(example);
      };
      $("examples").append(chip);
    }
    $("add-signal").onclick = () => this.#row("places", []).querySelector("input").select();
    this.begin();
    this.show(EXAMPLES[0]);
  }

  /** A new one. */
  begin() {
    this.former = [];
    this.#rename();
    this.history = [];
    this.#drawHistory();
  }

  #rename() {
    const parts = crypto.getRandomValues(new Uint32Array(2)); // randomUUID is for pages with https only
    this.id = `page-${[...parts].map((part) => part.toString(36)).join("")}`;
    this.turn = 0;
    this.question = null; // that has no answer yet
    $("dialogue-id").textContent = this.id;
  }

  show(example) {
    $("utterance").value = example.utterance;
    $("reply").value = example.reply;
    $("signals").replaceChildren();
    for (const [signal, entries] of Object.entries(example.signals)) this.#row(signal, entries);
    this.#point(example);
  }

  /** Shows which example this is; null: none. */
  #point(example) {
    for (const chip of $("examples").children) chip.setAttribute("aria-pressed", chip.textContent === example?.name);
    $("say").textContent = example ? `Answer, for example: “${example.say}”.` : "";
  }

  /** The turn that is asked now, as RecordEvents takes it. */
  ask() {
    if (this.turn === 1 && this.question) {
      this.former.push(this.id); // asked anew: nothing came of the last one
      this.#rename();
    }
    this.turn += 1;
    this.question = { you: this.utterance, assistant: this.reply };
    const bodies = [
      this.utterance && { utterance: { text: this.utterance } },
      { reply: { text: this.reply } },
      ...this.signals.map(([signal, entries]) => ({ entities: { signal, entries } })),
      { speak: {} },
      { expect_speech: {} },
    ].filter(Boolean);
    const events = bodies.map((body, i) => ({ event_id: `e${i + 1}`, ...body }));
    return { dialogue_id: this.id, turn_id: String(this.turn), events };
  }

  /** Of the turn that answers; nothing where nothing was asked. */
  get answering() {
    return this.turn ? { dialogue_id: this.id, turn_id: String(this.turn + 1) } : {};
  }

  /** The answer becomes what the user said. */
  goOn(answer) {
    if (this.question) this.history.push(this.question);
    this.question = null;
    $("utterance").value = answer;
    $("reply").value = "";
    this.#point(null);
    this.#drawHistory();
    $("reply").focus();
  }

  get utterance() {
    return $("utterance").value.trim();
  }

  get reply() {
    return $("reply").value.trim();
  }

  get signals() {
    return [...$("signals").children]
      .map((row) => [
        row.querySelector("input").value.trim(),
        row.querySelector("textarea").value.split("\n").map((line) => line.trim()).filter(Boolean),
      ])
      .filter(([, entries]) => entries.length);
  }

  #row(signal, entries) {
    const name = make("input", { "aria-label": "Signal", list: "signal-names", value: signal, required: true });
    const lines = make("textarea", {
      "aria-label": "Entries, one a line", rows: Math.max(2, Math.min(6, entries.length)), spellcheck: "false",
    }, entries.join("\n"));
    const remove = make("button", { type: "button", "aria-label": "Remove this signal", title: "Remove" }, "✕");
    const row = make("div", { class: "signal" }, name, lines, remove);
    remove.onclick = () => {
      row.remove();
      $("add-signal").focus();
    };
    $("signals").append(row);
    return row;
  }

  #drawHistory() {
    $("history").hidden = this.history.length === 0;
    $("history").replaceChildren(
      ...this.history.map(({ you, assistant }) =>
        make("li", {}, you && said("you", "You: ", you), said("assistant", "The assistant: ", assistant))),
    );
  }
}

function said(speaker, name, text) {
  return make("p", { class: speaker }, make("span", { class: "visually-hidden" }, name), text);
}
