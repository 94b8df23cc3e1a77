"""Notes and pedals to sound: two renderers behind one function, and the writer of a corpus' audio."""

from piano_assets.corpus.rendering.registry import RENDERERS
from piano_assets.corpus.rendering.write import RECORDED, render_corpus

__all__ = ["RECORDED", "RENDERERS", "render_corpus"]
