"""Written and spoken forms of text: one module for references, hypotheses, phrases and context entries.

`normalize` gives the one normal form, `spoken_forms` all usual ways to say what is written.
"""

from asr.text.spoken import alternatives, normalize, spoken_forms
from asr.text.unicode import plain_letters

__all__ = ["alternatives", "normalize", "plain_letters", "spoken_forms"]
