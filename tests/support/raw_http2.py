"""HTTP/2 frames by hand: what no gRPC client would send."""

from __future__ import annotations

import socket
import struct

HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, DATA = 1, 3, 4, 6, 7, 0
END_STREAM, END_HEADERS, ACK = 1, 4, 1
CANCEL = 8


class Connection:
    """One connection to a gRPC server, without TLS."""

    def __init__(self, port: int, timeout_s: float = 60.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self._received = b""
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))

    def send(self, *frames: bytes) -> None:
        """Sends frames."""
        self._socket.sendall(b"".join(frames))

    def receive(self) -> tuple[int, int, int, bytes]:
        """The next frame: type, flags, stream, payload. Raises ConnectionError at the end."""
        while len(self._received) < 9 or len(self._received) < 9 + self._length():
            data = self._socket.recv(65_536)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._received += data
        length = self._length()
        kind, flags, stream = struct.unpack(">BBI", self._received[3:9])
        payload, self._received = self._received[9 : 9 + length], self._received[9 + length :]
        return kind, flags, stream, payload

    def _length(self) -> int:
        return int.from_bytes(self._received[:3])

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return len(payload).to_bytes(3) + struct.pack(">BBI", kind, flags, stream) + payload


def call(stream: int, path: str, **metadata: str) -> bytes:
    """The headers of a call. metadata: names with _ for -."""
    fields = {":path": path, ":authority": "localhost", "content-type": "application/grpc", "te": "trailers"}
    fields |= {name.replace("_", "-"): value for name, value in metadata.items()}
    block = b"\x83\x86" + b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields.items())
    return frame(HEADERS, END_HEADERS, stream, block)


def message(stream: int, data: bytes, *, last: bool = False) -> bytes:
    """One message of a call."""
    return frame(DATA, END_STREAM if last else 0, stream, struct.pack(">BI", 0, len(data)) + data)


def reset(stream: int) -> bytes:
    """The client leaves a call."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))


def _text(text: str) -> bytes:
    data = text.encode()
    return (bytes([len(data)]) if len(data) < 127 else b"\x7f" + _rest(len(data) - 127)) + data


def _rest(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _rest(number >> 7)
