// The page: asks, listens, shows.

import { call, CallError, key, openStream } from "./api.js";
import { decodeFile, hush, openMicrophone, peak, piecesOf, speak, wake, wavOf } from "./audio.js";
import { commandsOf } from "./commands.js";
import { Dialogue } from "./dialogue.js";
import { $ } from "./dom.js";
import { plainOf, showFinal, showLive, showNothing, textOf } from "./results.js";
import { drawTimeline } from "./timeline.js";

const CONFIG = {
  encoding: "LINEAR16", interim_results: true, max_alternatives: 8, enable_word_time_offsets: true,
  voice_activity_events: true,
};
const ONE_UTTERANCE = { single_utterance: true, endpointing: { start_timeout_s: 10 } };
const SETTLED = ["READY", "FAILED", "EXPIRED"];
const POLL_MS = 60;

const MICROPHONE = {
  NotAllowedError: "The browser does not allow the microphone.",
  NotFoundError: "There is no microphone.",
  NotReadableError: "The microphone is not to be had; another program may use it.",
};

let turn = {}; // of the timeline
let recorded = null; // what was sent last to RecordEvents
let heard = null; // the last audio: { pieces, rate, options, results }
let listening = null; // to the microphone, or to a file: { end, stop }
const dialogue = new Dialogue(begin);

function say(text, aloud = false) {
  $("mic-state").textContent = text;
  if (aloud) $("announce").textContent = text;
}

/** Says what went wrong; where the server is gone, that it is, which the browser's own words would hide. */
async function fail(error) {
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
    if (!$("key-form").hidden) {
      $("key-form").hidden = true;
      $("ask").focus();
    }
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

$("key-form").onsubmit = async (event) => {
  event.preventDefault();
  key.set($("key").value.trim());
  $("key").value = "";
  drawCommands();
  await connect();
  $("key-state").textContent = $("announce").textContent = $("server").textContent;
};

// Asking

$("ask-form").onsubmit = async (event) => {
  event.preventDefault();
  $("reply").value = dialogue.reply;
  if (!$("ask-form").reportValidity()) return; // nothing but blanks
  wake();
  stopListening();
  const message = dialogue.ask();
  const here = (turn = { asked: Date.now() });
  recorded = message;
  forget();
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
    hush();
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
  const giveUp = (error) => draw(here, { reason: error.message });
  look().catch(giveUp);
}

function draw(here, more) {
  Object.assign(here, more);
  if (here === turn) drawTimeline(turn);
}

// Listening

$("mic").onclick = async () => {
  if (listening) {
    listening.end();
    return;
  }
  hush();
  await listen();
};

async function listen() {
  if (listening) return;
  if (turn.audio) turn = { before: dialogue.turn > 0 }; // pressed again, without a question
  const pieces = [];
  const here = turn;
  let stream = null;
  let device = null;
  let ended = false;
  const mine = (listening = {
    end() {
      if (!stream || ended) return leave("Press to talk.");
      ended = true;
      device.stop();
      stream.end();
      say("Waiting for the result …");
    },
    stop() {
      device?.stop();
      stream?.close();
    },
  });
  $("mic").setAttribute("aria-pressed", "true");
  showLive("", "");
  say("Waiting for the microphone …");
  try {
    device = await openMicrophone((piece) => {
      here.audio ??= { from: Date.now() - 40, peaks: [] };
      const loud = peak(piece);
      here.audio.peaks.push(loud);
      $("mic").style.setProperty("--level", String(Math.sqrt(loud)));
      pieces.push(piece);
      stream?.send(piece);
    }, () => listening === mine && leave("The microphone is gone."));
    if (listening !== mine) return device.stop();
    say("Listening …", true);
    const said = { pieces, rate: device.rate, options: ONE_UTTERANCE };
    stream = streamOf(said, dialogue.answering, here);
    pieces.forEach((piece) => stream.send(piece));
    said.results = await stream.results;
    if (listening === mine) finished(said, here);
  } catch (error) {
    if (listening === mine) fail(MICROPHONE[error.name] ? new Error(MICROPHONE[error.name]) : error);
  } finally {
    if (listening === mine) stopListening();
  }
}

/** Ends listening at once; what was said is dropped, unless its result is there. */
function stopListening() {
  const last = listening;
  listening = null;
  last?.stop();
  $("mic").setAttribute("aria-pressed", "false");
  $("mic").style.setProperty("--level", "0");
}

function leave(why) {
  stopListening();
  say(why, true);
}

/** A stream whose results are shown as they come; its `results` are the final ones in which something was said. */
function streamOf({ rate, options }, answering, here, quiet = false) {
  const finals = [];
  let before = "";
  const audioStart = () => here.audio?.from ?? Date.now();
  const stream = openStream({ ...CONFIG, ...options, ...answering, sample_rate_hertz: rate }, (response) => {
    if (response.speech_event && !quiet) {
      const begins = response.speech_event.type === "BEGIN";
      const at = audioStart() + 1000 * (response.speech_event.time ?? 0);
      draw(here, begins ? { begin: here.begin ?? at } : { end: at });
    }
    for (const result of response.results ?? []) {
      const text = textOf([...finals.slice(-2), result]); // there is little room
      const stage = result.is_final ? "final" : result.likely_final ? "likely" : "partial";
      if (result.is_final && result.alternatives[0].transcript) finals.push(result);
      if (quiet) continue;
      showLive(text, before, stage);
      before = text;
      if (stage === "partial") say(`Listening … stability ${Math.round(100 * (result.stability ?? 0))} %`);
    }
  });
  return { ...stream, results: stream.done.then(() => finals) };
}

function finished(said, here) {
  if (!$("server").classList.contains("up")) connect();
  if (said.results.length === 0) {
    say("Nothing was heard.", true);
    return;
  }
  heard = said;
  draw(here, { final: Date.now() });
  say("Press to talk again.");
  $("announce").textContent = showFinal(said.results);
  $("result").scrollIntoView({ block: "nearest" });
  $("again-result").hidden = true;
  $("save").hidden = false;
  URL.revokeObjectURL($("save").href);
  $("save").href = URL.createObjectURL(wavOf(said.pieces, said.rate));
  drawCommands();
}

// Files

async function take(file) {
  hush();
  stopListening();
  showLive("", "");
  say(`Reading ${file.name} …`);
  let stream = null;
  const mine = (listening = { end: () => leave("Press to talk."), stop: () => stream?.close() });
  try {
    const { rate, samples } = await decodeFile(file).catch(() => {
      throw new Error(`${file.name} is no audio that this browser reads.`);
    });
    if (listening !== mine) return;
    if (turn.audio) turn = { before: dialogue.turn > 0 };
    const here = turn;
    const pieces = piecesOf(samples, rate);
    draw(here, { audio: { from: Date.now(), peaks: pieces.map(peak), file: true } });
    const said = { pieces, rate, options: {} };
    stream = resend(said, dialogue.answering, here);
    said.results = await stream.results;
    if (listening === mine) finished(said, here);
  } catch (error) {
    if (listening === mine) fail(error);
  } finally {
    if (listening === mine) stopListening();
  }
}

/** A stream of audio that is there already. */
function resend(said, answering, here, quiet = false) {
  const stream = streamOf(said, answering, here, quiet);
  said.pieces.forEach((piece) => stream.send(piece));
  stream.end();
  return stream;
}

$("file").onchange = () => {
  if ($("file").files[0]) take($("file").files[0]);
  $("file").value = "";
};
for (const [name, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
  addEventListener(name, (event) => { // anywhere: a file that is dropped beside would replace the page
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    $("drop").classList.toggle("over", over);
    if (name === "drop" && event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}

// What can be done with a result

$("again").onclick = async () => {
  $("again").disabled = true;
  try {
    const said = heard;
    const text = textOf(await resend(said, {}, {}, true).results) || "(nothing)";
    if (heard !== said) return;
    const same = text === (plainOf(said.results) || "(nothing)");
    $("again-result").hidden = false;
    $("again-result").textContent = `The same audio without any context: “${text}”${same ? ", as heard above" : ""}.`;
    $("announce").textContent = $("again-result").textContent;
  } catch (error) {
    fail(error);
  } finally {
    $("again").disabled = false;
  }
};

$("go-on").onclick = () => dialogue.goOn(textOf(heard.results));

$("erase").onclick = async () => {
  const ids = [...dialogue.former, dialogue.id];
  stopListening();
  try {
    let items = 0;
    for (const dialogue_id of ids) items += (await call("Context/DeleteDialogue", { dialogue_id })).items_deleted ?? 0;
    begin(); // where it fails, it can be tried again
    say(items ? `Erased: ${items} items.` : "There was nothing to erase.", true);
  } catch (error) {
    fail(error);
  }
};

$("new").onclick = begin;

function begin() {
  hush();
  stopListening();
  dialogue.begin();
  turn = {};
  recorded = null;
  forget();
  say("Press to talk, or ask first.");
}

/** Shows nothing of the last answer any more, and what is known of the turn now. */
function forget() {
  heard = null;
  showLive("", "");
  showNothing();
  $("save").hidden = true;
  drawTimeline(turn);
  drawCommands();
}

$("copy").onclick = async () => {
  try {
    await navigator.clipboard.writeText($("commands").textContent);
    $("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren($("commands"));
    $("copied").textContent = "The browser does not allow it; they are selected.";
  }
};

function drawCommands() {
  $("copied").textContent = "";
  $("commands").textContent = commandsOf(recorded, dialogue.answering);
}

drawCommands();
connect();
