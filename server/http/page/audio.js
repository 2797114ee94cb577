// Sound in: the microphone, and files. All of it is Int16Array; the server takes any rate from 8 to 48 kHz.

const MOST_HERTZ = 48000;
const WORDS_A_SECOND = 2.7;

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

/** Listens until `stop`. `take` is given each piece of 40 ms. */
export async function openMicrophone(take) {
  wake();
  await context.ready;
  const media = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: true, noiseSuppression: false, autoGainControl: true },
  });
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

/**
 * Has the browser speak; where it has no voice it waits as long as that takes (`silent`). `started` is given the moment,
 * and so is the result, { from, to, silent }: milliseconds since 1970.
 */
export async function speak(text, started) {
  const silent = !("speechSynthesis" in window) || speechSynthesis.getVoices().length === 0;
  let from = Date.now();
  const begins = () => started({ from: (from = Date.now()), silent });
  await new Promise((resolve) => {
    if (silent) {
      begins();
      setTimeout(resolve, (text.split(/\s+/).length / WORDS_A_SECOND) * 1000);
      return;
    }
    const utterance = new SpeechSynthesisUtterance(text);
    utterance.lang = "en-US";
    utterance.onstart = begins;
    utterance.onend = utterance.onerror = resolve;
    speechSynthesis.cancel();
    speechSynthesis.speak(utterance);
  });
  return { from, to: Date.now(), silent };
}

if ("speechSynthesis" in window) speechSynthesis.getVoices(); // has the browser load them
