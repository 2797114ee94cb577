// The page: asks, listens, shows.

import { call, CallError, key, openStream } from "./api.js";
import { decodeFile, openMicrophone, peak, piecesOf, speak, wake, wavOf } from "./audio.js";
import { commandsOf } from "./commands.js";
import { Dialogue } from "./dialogue.js";
import { $ } from "./dom.js";
import { showFinal, showLive } from "./results.js";
import { drawTimeline } from "./timeline.js";

const CONFIG = {
  encoding: "LINEAR16", interim_results: true, max_alternatives: 8, enable_word_time_offsets: true,
  voice_activity_events: true,
};
const ONE_UTTERANCE = { single_utterance: true };
const WHOLE_FILE = { endpointing: { likely_silence_s: 10, trailing_silence_s: 10 } };
const SETTLED = ["READY", "FAILED", "EXPIRED"];
const POLL_MS = 60;

const dialogue = new Dialogue();
let turn = {}; // of the timeline
let recorded = null; // what was sent last to RecordEvents
let heard = null; // the last audio: { pieces, rate, options, result }
let microphone = null;

function say(text, aloud = false) {
  $("mic-state").textContent = text;
  if (aloud) $("announce").textContent = text;
}

/** Says what went wrong; where the server is gone, that it is, which the browser's own words would hide. */
async function fail(error) {
  if (error instanceof CallError && error.code === "unauthenticated") askForKey();
  say(error.message || String(error), true);
  if (!(await connect())) say("The server is not reachable.", true);
}

// The server, and its key

/** Shows whether the server answers, and returns it. */
async function connect() {
  try {
    const info = await call("Recognizer/GetServerInfo", {});
    $("server").className = "server up";
    $("server").textContent = `Carryover ${info.version} · ${info.model_version.split("-").slice(0, 2).join("-")}`;
    $("server").title = `model ${info.model_version}, context ${info.context_model_version || "off"}`;
    $("key-form").hidden = true;
    return true;
  } catch (error) {
    $("server").className = "server down";
    $("server").textContent = error.message;
    if (error.code === "unauthenticated") askForKey();
    return error.code !== "unavailable";
  }
}

function askForKey() {
  $("key-form").hidden = false;
  $("key").focus();
}

$("key-form").onsubmit = (event) => {
  event.preventDefault();
  key.set($("key").value.trim());
  $("key").value = "";
  connect();
};

// Asking

$("ask-form").onsubmit = async (event) => {
  event.preventDefault();
  wake();
  stopListening();
  const message = dialogue.ask();
  const here = (turn = { asked: Date.now() });
  recorded = message;
  $("dialogue-id").textContent = dialogue.id;
  drawCommands();
  drawTimeline(turn);
  say("The assistant asks …");
  $("answer").scrollIntoView({ block: "nearest" });
  try {
    const [spoken] = await Promise.all([
      $("speak").checked ? speak(dialogue.reply, (speech) => draw(here, { speech })) : null,
      call("Context/RecordEvents", message).then(() => watch(here, message)),
    ]);
    if (here !== turn) return;
    if (spoken) draw(here, { speech: spoken });
    if (!here.audio) await listen(); // unless a recording has answered
  } catch (error) {
    fail(error);
  }
};

/** Follows a turn's context until it is settled; does not wait for it. */
function watch(here, { dialogue_id, turn_id }) {
  const look = async () => {
    const status = await call("Context/GetContextStatus", { dialogue_id, turn_id });
    if (here !== turn) return;
    const at = (status.timeline ?? []).map((one) => ({ state: one.state, at: Date.parse(one.time) }));
    const off = at.length && (at[0].at < here.asked || at[0].at > Date.now()) ? here.asked - at[0].at : 0; // clocks differ
    draw(here, { states: at.map((one) => ({ ...one, at: one.at + off })), reason: status.reason });
    const dropped = ["DROPPED", "SUPERSEDED"].includes(status.outcome);
    if (!SETTLED.includes(status.state) && !dropped) setTimeout(() => look().catch(giveUp), POLL_MS);
  };
  const giveUp = (error) => here === turn && fail(error);
  look().catch(giveUp);
}

function draw(here, more) {
  Object.assign(here, more);
  if (here === turn) drawTimeline(turn);
}

// Listening

$("mic").onclick = async () => {
  if (microphone) {
    microphone.end();
    return;
  }
  if ("speechSynthesis" in window) speechSynthesis.cancel();
  await listen();
};

async function listen() {
  if (microphone) return;
  if (turn.audio) turn = {}; // pressed again, without a question
  const pieces = [];
  const here = turn;
  let stream = null;
  let device = null;
  const mine = (microphone = {
    end: () => (stream ? stream.end() : stopListening()),
    stop: () => {
      device?.stop();
      stream?.close();
    },
  });
  $("mic").setAttribute("aria-pressed", "true");
  $("mic-name").textContent = "Stop";
  say("Waiting for the microphone …");
  try {
    device = await openMicrophone((piece) => {
      here.audio ??= { from: Date.now() - 40, peaks: [] };
      const loud = peak(piece);
      here.audio.peaks.push(loud);
      $("mic").style.setProperty("--level", String(Math.sqrt(loud)));
      pieces.push(piece);
      stream?.send(piece);
    });
    if (microphone !== mine) return device.stop();
    say("Listening …", true);
    const said = { pieces, rate: device.rate, options: ONE_UTTERANCE };
    stream = streamOf(said, dialogue.answering, here);
    pieces.forEach((piece) => stream.send(piece));
    said.result = await stream.result;
    if (microphone === mine) finished(said, here);
  } catch (error) {
    if (microphone === mine) {
      fail(error.name === "NotAllowedError" ? new Error("The browser does not allow the microphone.") : error);
    }
  } finally {
    if (microphone === mine) stopListening();
  }
}

/** Ends listening at once; what was said is dropped, unless its result is there. */
function stopListening() {
  const last = microphone;
  microphone = null;
  last?.stop();
  $("mic").setAttribute("aria-pressed", "false");
  $("mic-name").textContent = "Listen";
  $("mic").style.setProperty("--level", "0");
}

/** A stream whose results are shown as they come; its `result` is the final one. */
function streamOf({ rate, options }, answering, here, quiet = false) {
  let final = null;
  let before = "";
  const audioStart = () => here.audio?.from ?? Date.now();
  const stream = openStream({ ...CONFIG, ...options, ...answering, sample_rate_hertz: rate }, (response) => {
    if (response.speech_event && !quiet) {
      const begins = response.speech_event.type === "BEGIN";
      const at = audioStart() + 1000 * (response.speech_event.time ?? 0);
      draw(here, begins ? { begin: here.begin ?? at } : { end: at });
    }
    for (const result of response.results ?? []) {
      const text = result.alternatives[0].transcript ?? "";
      const stage = result.is_final ? "final" : result.likely_final ? "likely" : "partial";
      if (result.is_final && (final === null || text)) final = result;
      if (quiet) continue;
      showLive(text, before, stage);
      before = text;
      if (stage === "partial") say(`Listening … stability ${Math.round(100 * (result.stability ?? 0))} %`);
    }
  });
  return { ...stream, result: stream.done.then(() => final) };
}

function finished(said, here) {
  if (said.result === null) {
    say("Nothing was said.", true);
    return;
  }
  heard = said;
  draw(here, { final: Date.now() });
  say("Press to talk again.");
  $("announce").textContent = showFinal(said.result);
  $("result").scrollIntoView({ block: "nearest" });
  $("again-result").hidden = true;
  $("save").hidden = false;
  URL.revokeObjectURL($("save").href);
  $("save").href = URL.createObjectURL(wavOf(said.pieces, said.rate));
  drawCommands();
}

// Files

async function take(file) {
  stopListening();
  say(`Reading ${file.name} …`);
  try {
    const { rate, samples } = await decodeFile(file).catch(() => {
      throw new Error(`${file.name} is no audio that this browser reads.`);
    });
    if (turn.audio) turn = {};
    const pieces = piecesOf(samples, rate);
    turn.audio = { from: Date.now(), peaks: pieces.map(peak) };
    const said = { pieces, rate, options: WHOLE_FILE };
    said.result = await resend(said, dialogue.answering, turn);
    finished(said, turn);
  } catch (error) {
    fail(error);
  }
}

/** The result of audio that is there already. */
function resend(said, answering, here, quiet = false) {
  const stream = streamOf(said, answering, here, quiet);
  said.pieces.forEach((piece) => stream.send(piece));
  stream.end();
  return stream.result;
}

$("file").onchange = () => {
  if ($("file").files[0]) take($("file").files[0]);
  $("file").value = "";
};
for (const [name, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", over);
    if (name === "drop" && event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}

// What can be done with a result

$("again").onclick = async () => {
  $("again").disabled = true;
  try {
    const result = await resend(heard, {}, {}, true);
    const text = result?.alternatives[0].transcript || "(nothing)";
    const same = text === (heard.result.context?.plain_transcript || "(nothing)");
    $("again-result").hidden = false;
    $("again-result").textContent = `The same audio without any context: “${text}”${same ? ", as heard above" : ""}.`;
    $("announce").textContent = $("again-result").textContent;
  } catch (error) {
    fail(error);
  } finally {
    $("again").disabled = false;
  }
};

$("go-on").onclick = () => dialogue.goOn(heard.result.alternatives[0].transcript ?? "");

$("erase").onclick = async () => {
  const { id } = dialogue;
  begin();
  try {
    const { items_deleted: items = 0 } = await call("Context/DeleteDialogue", { dialogue_id: id });
    say(items ? `Erased: ${items} items.` : "There was nothing to erase.", true);
  } catch (error) {
    fail(error);
  }
};

$("new").onclick = begin;

function begin() {
  stopListening();
  dialogue.begin();
  turn = {};
  recorded = null;
  drawTimeline(turn);
  drawCommands();
}

$("copy").onclick = async () => {
  await navigator.clipboard.writeText($("commands").textContent);
  $("announce").textContent = "Copied.";
};

function drawCommands() {
  $("commands").textContent = commandsOf(recorded, dialogue.answering);
}

drawCommands();
connect();
