"""Errors of the recogniser.

    AsrError
    ├── AudioError        audio that cannot be read: encoding, rate, odd bytes, NaN
    │   └── AudioLengthError  audio that is longer than the caller takes
    ├── ModelError        weights or configuration that do not fit
    ├── UnspellableError  text that the model's tokens cannot spell
    ├── ContextError      context or embedding that cannot be used
    └── ManifestError     a line of a manifest or n-best file that cannot be used

Messages say what to change and never hold a user's words.
"""


class AsrError(Exception):
    """Root of all errors that `asr` raises on purpose."""


class AudioError(AsrError, ValueError):
    """The audio cannot be used as it was given."""


class AudioLengthError(AudioError):
    """The audio is longer than the caller takes."""


class ModelError(AsrError, ValueError):
    """The model's files or options do not fit together."""


class UnspellableError(AsrError, ValueError):
    """A text holds characters that no token of the model spells."""


class ContextError(AsrError, ValueError):
    """A context or a context embedding cannot be used."""


class ManifestError(AsrError, ValueError):
    """A line of a manifest, list or n-best file cannot be used."""
