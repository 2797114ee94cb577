// Hands the microphone's samples on in pieces of 40 ms, as 16-bit integers at the rate of the device.

class Pieces extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Int16Array(Math.round(sampleRate * 0.04));
    this.filled = 0;
    this.stopped = false;
    this.port.onmessage = () => (this.stopped = true);
  }

  process([input]) {
    for (const sample of input[0] ?? []) {
      this.piece[this.filled++] = Math.max(-1, Math.min(1, sample)) * 32767;
      if (this.filled === this.piece.length) {
        this.port.postMessage(this.piece);
        this.filled = 0;
      }
    }
    return !this.stopped;
  }
}

registerProcessor("pieces", Pieces);
