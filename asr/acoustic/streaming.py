"""The streaming encoder: one chunk of each of many streams, with weights packed for inference.

It computes what `Encoder.forward` does. Everything but the attention is one product for all streams; a stream attends
to its own keys and values, in memory that each chunk is added to, so that nothing is copied and nothing is masked. On a
CPU the weights are kept as fp16 in the layout of FBGEMM's kernels, sums are float32: half the memory to read, which is
what a single stream waits for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.acoustic.encoder import LOOKAHEAD, LOOKBACK, Encoder, TransformerBlock
from asr.errors import ModelError


class _Linear:
    """x (..., I) → x Wᵀ + b (..., O), on a CPU with fp16 weights.

    Args:
        exact: float32 weights in any case.
    """

    def __init__(self, weight: Tensor, bias: Tensor, exact: bool) -> None:
        self._weight, self._bias = weight.detach(), bias.detach()
        self._packed = None
        if not exact and weight.device.type == "cpu" and "fbgemm" in torch.backends.quantized.supported_engines:
            self._packed = torch.ops.quantized.linear_prepack_fp16(self._weight.contiguous(), self._bias)

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed is None:
            return F.linear(x, self._weight, self._bias)
        return torch.ops.quantized.linear_dynamic_fp16(x, self._packed)

    @classmethod
    def concat(cls, layers: list[nn.Linear], exact: bool) -> _Linear:
        """Several layers over the same input as one, their outputs concatenated."""
        bias = [x.weight.new_zeros(x.out_features) if x.bias is None else x.bias.detach() for x in layers]
        return cls(torch.cat([x.weight.detach() for x in layers]), torch.cat(bias), exact)

    @classmethod
    def from_conv(cls, layer: nn.Conv1d, exact: bool) -> _Linear:
        """A convolution, over concatenated frames."""
        assert layer.bias is not None
        return cls(layer.weight.transpose(1, 2).flatten(1), layer.bias, exact)


class _KeyValues:
    """Keys and values of one stream, (blocks, 2, H, room, W); the first `filled` frames hold something."""

    def __init__(self, kept: Tensor, filled: int) -> None:
        self.kept, self.filled = kept, filled


@dataclass(frozen=True)
class Past:
    """One stream's past. A value, though memories are shared: what a state can see of one is never written again."""

    memory: _KeyValues
    """Keys and values, shared with earlier and later states."""
    end: int = 0
    """Frames of the memory that are this state's."""
    position: int = 0
    """Frames since the stream began."""

    def ahead(self, frames: int, past: int) -> Past:
        """The same with room for so many frames, claimed; memory that a later state has filled is left to that."""
        memory, end = self.memory, self.end
        blocks, pair, heads, room, width = memory.kept.shape
        if memory.filled != end or end + frames > room:
            first = max(0, end - past)
            kept = memory.kept.new_empty(blocks, pair, heads, max(room, past + frames), width)
            kept[..., : end - first, :] = memory.kept[..., first:end, :]
            memory, end = _KeyValues(kept, 0), end - first
        memory.filled = end + frames
        return Past(memory, end, self.position)


@dataclass(frozen=True)
class EncoderState:
    """The encoder's state of each stream between chunks."""

    streams: tuple[Past, ...]


class _StreamingBlock:
    def __init__(self, block: TransformerBlock, exact: bool) -> None:
        attention, (up, _, down) = block.attn, block.mlp
        assert isinstance(up, nn.Linear) and isinstance(down, nn.Linear)
        self.attn_ln, self.mlp_ln, self.heads = block.attn_ln, block.mlp_ln, attention.heads
        self.queries_keys_values = _Linear.concat([attention.query, attention.key, attention.value], exact)
        self.out, self.up, self.down = (_Linear.concat([x], exact) for x in (attention.out, up, down))

    def __call__(self, x: Tensor, streams: list[Past], depth: int, past: int) -> Tensor:
        """X (B, T, D) → the same; keys and values go into the streams' memories."""
        frames = x.shape[1]
        mixed = self.queries_keys_values(self.attn_ln(x)).unflatten(-1, (3, self.heads, -1)).permute(0, 2, 3, 1, 4)
        attended = []
        for own, stream in zip(mixed.unbind(), streams, strict=True):
            kept, end = stream.memory.kept[depth], stream.end + frames
            query, kept[:, :, stream.end : end] = own[None, 0], own[1:]
            key, value = kept[:, None, :, max(0, stream.end - past) : end].unbind()
            attended.append(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        x = x + self.out(torch.cat(attended))
        return x + self.down(F.gelu(self.up(self.mlp_ln(x))))


class StreamingEncoder:
    """`Encoder`, and linear layers that all read its output; B: streams, C: 20 ms frames of a chunk, D: width.

    Weights are packed when it is made; what is changed later does not count.

    Args:
        layers: read the encoder's output; their outputs are concatenated.
        exact: weights in float32, whatever the processor.
    """

    def __init__(self, encoder: Encoder, layers: list[nn.Linear], exact: bool = False) -> None:
        self.config, self._positions, self._ln_post = encoder.config, encoder.positions, encoder.ln_post
        self._windows = [_Linear.from_conv(conv, exact) for conv in (encoder.conv1, encoder.conv2)]
        self._blocks = [
            _StreamingBlock(block, exact) for block in encoder.blocks if isinstance(block, TransformerBlock)
        ]
        self._stack, self._layers = _Linear.concat([encoder.stack], exact), _Linear.concat(layers, exact)

    def initial_state(self, streams: int) -> EncoderState:
        """The state of so many streams before their first chunk."""
        config = self.config
        shape = (config.blocks, 2, config.heads, 2 * config.past, config.width // config.heads)
        empty = self._positions.new_empty
        return EncoderState(tuple(Past(_KeyValues(empty(shape), 0)) for _ in range(streams)))

    def step(self, features: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """Encode one chunk of each stream.

        Args:
            features: (B, 2 + 2 C + 1, 80): the chunk's 2 C feature frames, two before and one after it, on any device.
                What stands before a stream's first frame is ignored.
            state: of the B streams; it stays as it is.

        Returns:
            (B, C / 2, outputs of the layers) and the new state.

        Raises:
            ModelError: the chunk is not a multiple of 4 frames.
        """
        if (features.shape[1] - LOOKBACK - LOOKAHEAD) % 4:
            raise ModelError(f"encoder: {features.shape[1]} feature frames; a chunk is 3 + a multiple of 4 of them")
        features = features.to(self._positions.device)
        x = self._convolve(features, [i for i, past in enumerate(state.streams) if past.position == 0])
        frames, past = x.shape[1], self.config.past
        at = torch.tensor([stream.position for stream in state.streams], device=x.device)[:, None]
        x = x + self._positions[(at + torch.arange(frames, device=x.device)) % self.config.positions]
        streams = [stream.ahead(frames, past) for stream in state.streams]
        for depth, block in enumerate(self._blocks):
            x = block(x, streams, depth, past)
        x = self._layers(self._stack(self._ln_post(x).unflatten(1, (-1, 2)).flatten(2)))
        new = (Past(stream.memory, stream.end + frames, stream.position + frames) for stream in streams)
        return x, EncoderState(tuple(new))

    def _convolve(self, features: Tensor, begun: list[int]) -> Tensor:
        """(B, 2 C + 3, 80) → (B, C, D). begun: streams that begin here, before which there is nothing."""
        if begun:
            features = features.clone()
            features[begun, :LOOKBACK] = 0.0
        first, second = self._windows
        x = F.gelu(first(_side_by_side(features, 1)))
        if begun:
            x[begun, 0] = 0.0
        return F.gelu(second(_side_by_side(x, 2)))


def _side_by_side(x: Tensor, step: int) -> Tensor:
    """Three frames of (B, T, D) in each row, (B, 1 + (T - 3) // step, 3 D), beginning `step` frames apart."""
    batch, frames, width = x.shape
    rows = 1 + (frames - 3) // step
    return x.contiguous().as_strided((batch, rows, 3 * width), (frames * width, step * width, 1))
