"""Which clips are transcribed where a whole corpus takes too long."""

import pandas as pd

N_CLIPS = 150
"""Clips that two cores transcribe in less than an hour."""


def subset(clips: pd.DataFrame, n_clips: int = N_CLIPS) -> list[str]:
    """`n_clips` of the clips, spread as evenly over clusters as there are clips, deadpan renditions in proportion.

    Deadpan and human clips are drawn apart: in each turn every cluster that has any left gives one. Which clips, and
    which clusters in the last turn, is decided by the hashes of the clips' notes, so that neither names nor the order
    of files matter; where notes are identical, the name decides. A larger subset of the same clips need not hold a
    smaller one, as the proportion is rounded.

    Args:
        clips: columns clip, cluster, deadpan, content_hash of the table `clips`.
    Returns:
        Sorted names; all clips where there are no more than `n_clips`.
    Raises:
        ValueError: `n_clips` below 1.
    """
    if n_clips < 1:
        raise ValueError(f"n_clips={n_clips} must be at least 1")
    if n_clips >= len(clips):
        return sorted(clips["clip"])
    n_deadpan = round(n_clips * float(clips["deadpan"].mean()))
    chosen = []
    for deadpan, n in ((True, n_deadpan), (False, n_clips - n_deadpan)):
        mine = clips[clips["deadpan"] == deadpan].sort_values(["content_hash", "clip"])
        turn = mine.groupby("cluster").cumcount().sort_values(kind="stable").index
        chosen += mine.loc[turn[:n], "clip"].tolist()
    return sorted(chosen)
