"""Which clips are transcribed where a whole corpus takes too long."""

import numpy as np
import pandas as pd

N_CLIPS = 150
"""Clips that two cores transcribe in less than an hour."""


def subset(clips: pd.DataFrame, n_clips: int = N_CLIPS) -> list[str]:
    """`n_clips` of the clips, spread as evenly over clusters as there are clips, deadpan renditions in proportion.

    Deadpan and human clips are drawn apart: in each turn every cluster that has any left gives one. Which clips, and
    which clusters in the last turn, is decided by the hashes of the clips' notes, so that neither names nor the order
    of files matter; where notes are identical, the name decides.

    Args:
        clips: columns clip, cluster, deadpan, content_hash of the table `clips`.
    Returns:
        Names in order of turns, both kinds mixed in proportion: whoever stops on the way has heard all clusters about
        alike. All clips where there are no more than `n_clips`.
    Raises:
        ValueError: `n_clips` below 1.
    """
    if n_clips < 1:
        raise ValueError(f"n_clips={n_clips} must be at least 1")
    n_clips = min(n_clips, len(clips))
    n_deadpan = round(n_clips * float(clips["deadpan"].mean()))
    ordered = clips.sort_values(["content_hash", "clip"])
    turn = ordered.groupby(["deadpan", "cluster"]).cumcount()
    ordered = ordered.assign(turn=turn).sort_values("turn", kind="stable")
    ordered["place"] = ordered.groupby("deadpan").cumcount() + 0.5
    ordered["quota"] = np.where(ordered["deadpan"], n_deadpan, n_clips - n_deadpan)
    chosen = ordered[ordered["place"] < ordered["quota"]]
    # Both kinds run out together.
    return chosen.loc[(chosen["place"] / chosen["quota"]).sort_values(kind="stable").index, "clip"].tolist()
