// What does the same from a shell.

import { key } from "./api.js";

export function commandsOf(recorded, answering) {
  const base = new URL(".", document.baseURI).href.replace(/\/$/, "");
  const signed = key.get() ? ' -H "authorization: Bearer $KEY"' : "";
  const lines = [];
  if (recorded) {
    const events = recorded.events.map((event) => `  ${JSON.stringify(event)}`).join(",\n");
    const ids = `"dialogue_id": "${recorded.dialogue_id}", "turn_id": "${recorded.turn_id}"`;
    lines.push(
      "# what the assistant asks, and what its services know",
      `curl ${base}/carryover.v1.Context/RecordEvents${signed} \\`,
      `  -H 'content-type: application/json' -d '${quoted(`{${ids}, "events": [\n${events}]}`)}'`,
      "",
    );
  }
  const own = Object.entries(answering).map(([name, value]) => ` -F ${name}=${value}`).join("");
  const grpc = [
    answering.dialogue_id ? ` --dialogue ${answering.dialogue_id} --turn ${answering.turn_id}` : "",
    key.get() ? " --key-file KEY_FILE" : "",
  ].join("");
  lines.push(
    answering.dialogue_id ? "# the answer, recognised with it" : "# a recording",
    `curl ${base}/v1/audio/transcriptions${signed} \\`,
    `  -F file=@answer.wav -F max_alternatives=8${own}`,
    "",
    "# or over gRPC, word by word (--server HOST:PORT where it is not 127.0.0.1:50051)",
    `./scripts/stream_client answer.wav --nbest 8${grpc}`,
  );
  return lines.join("\n");
}

/** What may stand between single quotes. */
function quoted(text) {
  return text.replaceAll("'", "'\\''");
}
