"""Run as a program: decodes a WebM, MP4 or similar file by FFmpeg, through PyAV.

    python media_decoder.py DEMUXER BYTES < FILE > SAMPLES

Standard output has the rate and the number of channels, two 32-bit numbers, and then the samples, interleaved float32.
It is a process of its own: a file that was made to exhaust or to crash a decoder of so many formats does that to
nobody else.
"""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Iterator

import av
import av.container
import av.error

_MEMORY_BYTES = 512 << 20
"""What a decoder may take, beside four times the file."""
_CPU_S = 10
"""What it may compute, and as much again for each MB: that is some minutes of audio, which take half a second."""


def main(demuxer: str, size: int) -> None:
    """Decode standard input."""
    limit(_MEMORY_BYTES + 4 * size, _CPU_S + _CPU_S * size // 1_000_000)
    data, out = sys.stdin.buffer.read(), sys.stdout.buffer
    with av.open(io.BytesIO(data), "r", format=demuxer, metadata_errors="ignore") as container:
        resampler = av.AudioResampler("flt")  # interleaved float32; rate and channels are those of the first frame
        for number, frame in enumerate(_frames(container, container.streams.audio[0])):
            if not number:
                out.write(struct.pack("<II", frame.sample_rate, len(frame.layout.channels)))
            for resampled in resampler.resample(frame):
                out.write(resampled.to_ndarray().tobytes())


def limit(memory_bytes: int, cpu_s: int) -> None:
    """Bound what this process may take, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))


def _frames(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """The frames up to where the file ends, or is cut off; those of a damaged packet are left out."""
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                continue
    except av.error.FFmpegError:
        return


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
