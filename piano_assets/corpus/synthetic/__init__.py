"""A corpus in PercePiano's file layout whose truth is known: themes, players with habits, listeners with noise."""

from piano_assets.corpus.synthetic.write import TINY, write_synthetic

__all__ = ["TINY", "write_synthetic"]
