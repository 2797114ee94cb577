"""Samples of any format, cut anywhere, become the same samples of 16 bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carryover_wyoming.audio import AudioFormat, AudioFormatError, Converter


def converted(form: AudioFormat, *pieces: bytes) -> list[int]:
    converter = Converter(form)
    return np.frombuffer(b"".join(map(converter.convert, pieces)), "<i2").tolist()


def test_widths() -> None:
    assert converted(AudioFormat(16_000, 1, 1), bytes([0, 128, 129, 255])) == [-32768, 0, 256, 32512]
    assert converted(AudioFormat(16_000, 2, 1), b"\x01\x00\xff\xff") == [1, -1]
    assert converted(AudioFormat(16_000, 3, 1), b"\xff\x01\x00\x00\xff\xff") == [2, -1]
    assert converted(AudioFormat(16_000, 4, 1), b"\xff\xff\xff\x7f\x00\x00\x00\x80") == [32767, -32768]


def test_channels_and_rates() -> None:
    loud = np.array([30_000, 30_000, -30_000, -30_000, 1, 3], "<i2").tobytes()
    assert converted(AudioFormat(48_000, 2, 2), loud) == [30_000, -30_000, 2]  # averaged: nothing overflows
    assert Converter(AudioFormat(48_000, 2, 1)).rate == 48_000
    assert Converter(AudioFormat(96_000, 2, 1)).rate == 48_000
    assert Converter(AudioFormat(88_200, 2, 1)).rate == 44_100
    assert converted(AudioFormat(96_000, 2, 1), loud) == [30_000, -30_000, 2]


@given(
    st.binary(max_size=300), st.lists(st.integers(0, 300)), st.integers(1, 4), st.integers(1, 5),
    st.sampled_from([8_000, 48_000, 96_000, 192_000]),
)  # fmt: skip
def test_where_it_is_cut_changes_nothing(audio: bytes, cuts: list[int], width: int, channels: int, rate: int) -> None:
    form = AudioFormat(rate, width, channels)
    edges = [0, *sorted(cuts), len(audio)]
    assert converted(form, *(audio[a:b] for a, b in zip(edges, edges[1:], strict=False))) == converted(form, audio)


@pytest.mark.parametrize("form", [(7_999, 2, 1), (800_000, 2, 1), (16_000, 0, 1), (16_000, 2, 17), (16_000.0, 2, 1)])
def test_formats_that_are_refused(form: tuple[int, int, int]) -> None:
    with pytest.raises(AudioFormatError, match="send "):
        Converter(AudioFormat(*form))
