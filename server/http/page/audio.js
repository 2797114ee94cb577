// Sound in: the microphone, and files. All of it is Int16Array; the server takes any rate from 8 to 48 kHz.

const MOST_HERTZ = 48000;
const WORDS_A_SECOND = 2.7;
const VOICE_MS = 3000; // a voice that has not begun by then will not
const LOOK_MS = 200;

let context = null;

/** Browsers let audio begin with a click only: call this in its handler, before anything is waited for. */
export function wake() {
  context ??= new AudioContext();
  if (context.sampleRate > MOST_HERTZ) {
    context.close();
    context = new AudioContext({ sampleRate: MOST_HERTZ });
  }
  const waking = context;
  waking.ready ??= waking.audioWorklet.addModule("worklet.js").catch((error) => {
    waking.ready = null; // the server may be there next time
    throw error;
  });
  context.resume();
}

/** Listens until `stop`. `take` is given each piece of 40 ms; `lost` is called where the microphone goes away. */
export async function openMicrophone(take, lost) {
  if (!navigator.mediaDevices) throw new Error("A browser gives its microphone to pages with https and of this machine only.");
  wake();
  await context.ready;
  const media = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: true, noiseSuppression: false, autoGainControl: true },
  });
  for (const track of media.getTracks()) track.onended = lost;
  const source = context.createMediaStreamSource(media);
  const pieces = new AudioWorkletNode(context, "pieces", {
    numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit",
  });
  pieces.port.onmessage = (event) => take(event.data);
  source.connect(pieces);
  return {
    rate: context.sampleRate,
    stop() {
      pieces.port.onmessage = null;
      source.disconnect();
      pieces.port.postMessage("stop");
      media.getTracks().forEach((track) => track.stop());
    },
  };
}

/** A file's samples: { rate, samples }. Throws what the browser throws where it cannot read it. */
export async function decodeFile(file) {
  const decoder = new OfflineAudioContext(1, 1, MOST_HERTZ);
  const buffer = await decoder.decodeAudioData(await file.arrayBuffer());
  const samples = new Int16Array(buffer.length);
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, i) => buffer.getChannelData(i));
  for (let i = 0; i < samples.length; i++) {
    const sum = channels.reduce((total, channel) => total + channel[i], 0);
    samples[i] = Math.max(-1, Math.min(1, sum / channels.length)) * 32767;
  }
  return { rate: MOST_HERTZ, samples };
}

/** Pieces of 40 ms. */
export function piecesOf(samples, rate) {
  const size = Math.round(rate * 0.04);
  return Array.from({ length: Math.ceil(samples.length / size) }, (_, i) => samples.subarray(i * size, (i + 1) * size));
}

/** The loudest sample, 0 to 1. */
export function peak(piece) {
  let most = 0;
  for (const sample of piece) most = Math.max(most, Math.abs(sample));
  return most / 32768;
}

/** A WAV file. */
export function wavOf(pieces, rate) {
  const size = 2 * pieces.reduce((total, piece) => total + piece.length, 0);
  const head = new DataView(new ArrayBuffer(44));
  const text = (at, word) => [...word].forEach((letter, i) => head.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  head.setUint32(4, 36 + size, true);
  text(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true);
  head.setUint16(22, 1, true);
  head.setUint32(24, rate, true);
  head.setUint32(28, 2 * rate, true);
  head.setUint16(32, 2, true);
  head.setUint16(34, 16, true);
  text(36, "data");
  head.setUint32(40, size, true);
  return new Blob([head, ...pieces], { type: "audio/wav" });
}

let hushed = null;
let spoken = []; // a browser forgets an utterance that nobody holds, and then never says that it has ended

/** Ends what is spoken. */
export function hush() {
  hushed?.();
  hushed = null;
  if ("speechSynthesis" in window) speechSynthesis.cancel();
}

/**
 * Has the browser speak; where it has no voice it waits as long as that takes (`silent`). `started` is given the moment,
 * and so is the result, { from, to, silent }: milliseconds since 1970; null where it was hushed before it began.
 */
export async function speak(text, started) {
  hush();
  const asked = Date.now();
  const took = (text.split(/\s+/).length / WORDS_A_SECOND) * 1000;
  let speech = null;
  let finish = null;
  const ended = new Promise((resolve) => (finish = hushed = resolve));
  const begins = (silent) => {
    speech = { from: Date.now(), silent };
    started(speech);
    if (silent) setTimeout(finish, took);
  };
  let looking = null;
  if (!("speechSynthesis" in window) || speechSynthesis.getVoices().length === 0) begins(true);
  else {
    spoken = portions(text).map((portion) => {
      const utterance = new SpeechSynthesisUtterance(portion);
      utterance.lang = "en-US";
      utterance.onstart = () => hushed === finish && !speech && begins(false);
      return utterance;
    });
    spoken.at(-1).onend = () => speech?.silent || finish();
    spoken.forEach((utterance) => speechSynthesis.speak(utterance));
    looking = setInterval(() => { // some browsers never begin, some never say that they have ended
      const waited = Date.now() - (speech?.from ?? asked);
      const still = (speechSynthesis.speaking || speechSynthesis.pending) && waited < VOICE_MS + 3 * took;
      if (speech && !speech.silent && !still) finish();
      if (!speech && waited > VOICE_MS) {
        begins(true);
        speechSynthesis.cancel();
      }
    }, LOOK_MS);
  }
  await ended;
  clearInterval(looking);
  if (hushed === finish) hush();
  return speech && { ...speech, to: Date.now() };
}

/** A text in parts of some ten seconds: Chromium's voices from the network fall silent after fifteen. */
function portions(text) {
  if (text.length <= 150) return [text];
  return text.match(/.{1,149}[.!?](?=\s|$)|.{1,150}(?=\s|$)|.{150}/gs);
}

addEventListener("pagehide", hush);
if ("speechSynthesis" in window) speechSynthesis.getVoices(); // has the browser load them
