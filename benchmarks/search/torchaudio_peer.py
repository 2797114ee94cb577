"""torchaudio's RNN-T beam search over any of our acoustic models, to measure ours against."""

from __future__ import annotations

import torch
from torch import Tensor

from asr.acoustic.interface import AcousticModel
from asr.pairing import load_torchaudio

_Lists = list[list[Tensor]]


class _Adapter(torch.nn.Module):
    """The model as torchaudio's search asks for it: encoded frames for audio, the blank moved to the end."""

    def __init__(self, model: AcousticModel) -> None:
        super().__init__()
        self.model = model

    def transcribe(self, encoded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return encoded, lengths

    def predict(self, tokens: Tensor, lengths: Tensor, state: _Lists | None) -> tuple[Tensor, Tensor, _Lists]:
        if state is None:
            predicted, new = self.model.start(len(tokens))
        else:
            ours = (tokens[:, 0] + self.model.blank + 1) % self.model.vocab_size
            predicted, new = self.model.predict(ours, tuple(state[0]))
        return predicted[:, None], lengths, [list(new)]

    def join(
        self, encoded: Tensor, frames: Tensor, predicted: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.model.join(encoded[:, :, None], predicted[:, None])
        return logits.roll(-self.model.blank - 1, -1), frames, lengths


class TorchaudioSearch:
    """`torchaudio.models.RNNTBeamSearch`, ranked as it does by default (score over length).

    Args:
        beam: hypotheses kept. symbols: most tokens in one frame.
    """

    def __init__(self, model: AcousticModel, beam: int = 8, symbols: int = 3) -> None:
        self.beam, self._first = beam, model.blank + 1
        self._vocab_size = model.vocab_size
        search = load_torchaudio().models.RNNTBeamSearch
        self._search = search(_Adapter(model), model.vocab_size - 1, step_max_tokens=symbols)

    def best(self, encoded: Tensor) -> tuple[int, ...]:
        """The tokens heard in (T, J) encoded frames."""
        found = self._search(encoded, torch.tensor([len(encoded)]), self.beam)
        tokens = max(found, key=lambda h: h[3] / (len(h[0]) + 1))[0]
        return tuple((t + self._first) % self._vocab_size for t in tokens[1:])  # the first is the blank
