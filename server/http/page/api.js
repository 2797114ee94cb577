// Calls of carryover.v1: in JSON, and its stream over a WebSocket. The key goes into headers, never into an address.

const KEY = "carryover-key";
const STREAM = "carryover.v1.Recognizer/StreamingRecognize";
const GOING_AWAY = 1001; // a server that ends closes so what still runs

export class CallError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

let held = kept((storage) => storage.getItem(KEY)) ?? "";

export const key = {
  get: () => held,
  set(value) {
    held = value;
    kept((storage) => storage.setItem(KEY, value));
  },
};

/** What is done with the tab's storage; null where the browser keeps nothing, as when all cookies are blocked. */
function kept(use) {
  try {
    return use(sessionStorage);
  } catch {
    return null;
  }
}

function headers() {
  return key.get() ? { authorization: `Bearer ${key.get()}` } : {};
}

async function refusal(response) {
  const told = await response.json().catch(() => ({}));
  const { code, message } = told.error ?? told;
  return new CallError(code ?? `HTTP ${response.status}`, message ?? response.statusText);
}

/** The response to a message, both as protobuf has them in JSON. Throws CallError. */
export async function call(method, message) {
  const response = await fetch(`carryover.v1.${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers() },
    body: JSON.stringify(message),
  }).catch(() => {
    throw new CallError("unavailable", "the server does not answer");
  });
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/**
 * A stream. `respond` is given each StreamingRecognizeResponse; `send` takes Int16Array; `done` ends with the stream,
 * and throws CallError where an error ends it.
 */
export function openStream(config, respond) {
  const protocols = ["carryover.v1", ...(key.get() ? [`carryover-key.${key.get()}`] : [])];
  const url = new URL(STREAM, document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url, protocols);
  const waiting = [JSON.stringify({ config })];
  let opened = false;
  const post = (data) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(data);
    else if (!opened) waiting.push(data);
  };
  const done = new Promise((resolve, reject) => {
    socket.onopen = () => {
      opened = true;
      waiting.forEach((data) => socket.send(data));
    };
    socket.onmessage = (event) => {
      const response = JSON.parse(event.data);
      if (response.error) reject(new CallError(response.error.code, response.error.message));
      else respond(response);
    };
    socket.onclose = async (event) => {
      if (event.wasClean && event.code !== GOING_AWAY) resolve();
      else if (opened) reject(new CallError("unavailable", "the server ended the stream before its result"));
      else reject(await whyRefused());
    };
  });
  return {
    done,
    send: (samples) => post(samples.buffer.slice(samples.byteOffset, samples.byteOffset + samples.byteLength)),
    end: () => post('{"end": {}}'),
    close: () => socket.close(),
  };
}

/** Browsers do not say why a WebSocket was refused; a GET of its path does, unless the reason is gone by then. */
async function whyRefused() {
  const response = await fetch(STREAM, { headers: headers() }).catch(() => null);
  if (response === null) return new CallError("unavailable", "the server does not answer");
  const error = await refusal(response);
  return error.code === "invalid_argument" ? new CallError("unavailable", "the stream was refused; try again") : error;
}
