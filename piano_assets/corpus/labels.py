"""From single answers to labels, by two rules, and checks that labels belong to the clips they are joined to.

`clean` is for our own results; `published` reproduces the labels that the literature trains and scores on.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from piano_assets.corpus.names import parse_name
from piano_assets.corpus.performance import SUSTAIN
from piano_assets.schemas import TABLES

SCALE = 7.0
HIGHEST_PUBLISHED = 7.1
"""The authors drop a row of the ratings file that holds any answer above this."""


def labels(ratings: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Aggregate the table `ratings` into the table `labels`, by one of `LABEL_RULES`.

    A clip or dimension without a usable answer has no row; `unmatched` names such clips. The standard error is the
    sample standard deviation (n - 1) over the root of n; NULL with n = 1.

    Raises:
        KeyError: an unknown rule.
    """
    if rule not in LABEL_RULES:
        raise KeyError(f"unknown label rule {rule!r}; known: {', '.join(LABEL_RULES)}")
    votes = LABEL_RULES[rule](ratings)
    grouped = votes.groupby(["clip", "dimension"], sort=True, observed=True)["vote"]
    table = grouped.agg(value="mean", standard_error="sem", n_raters="size").reset_index()
    table["value"] /= SCALE
    table["standard_error"] /= SCALE
    table["rule"] = rule
    empty = TABLES["labels"].empty()
    return table[list(empty.columns)].astype(empty.dtypes)


def clean_votes(ratings: pd.DataFrame) -> pd.DataFrame:
    """One vote (1..7) per rater, clip and dimension: columns clip, dimension, vote.

    Repeated rows are removed, blanks, 0, 8 and 9 are missing one by one, and a rater's repeated answers to a clip are
    averaged first.
    """
    once = ratings[~ratings["duplicate"] & ratings["value"].notna()]
    votes = once.groupby(["clip", "dimension", "rater"], observed=True)["value"].mean()
    return votes.rename("vote").reset_index()


def published_votes(ratings: pd.DataFrame) -> pd.DataFrame:
    """The answers that enter the authors' means, one row each: columns clip, dimension, vote.

    Blanks count as 0; a row of the file with an answer above 7.1 is dropped whole; zeros are dropped one by one;
    repeated rows count as often as they occur; both deadpan renditions of 13 excerpts are taken for one.

    Park et al. (2024), Scientific Reports 14:23002, released labels.
    """
    answer = ratings["raw"].fillna(0.0)
    highest = answer.groupby(ratings["row"]).transform("max")
    kept = ratings[(highest <= HIGHEST_PUBLISHED) & (answer != 0)]
    renamed = {clip: published_clip(clip) for clip in kept["clip"].unique()}
    return pd.DataFrame({"clip": kept["clip"].map(renamed), "dimension": kept["dimension"], "vote": kept["raw"]})


def published_clip(clip: str) -> str:
    """The clip under whose name the authors' labels hold the ratings of `clip`.

    `Score` becomes `Score2` in 12 excerpts of WoO80 (segments 5 to 16) and one of D935/3 (segment 1).
    """
    name = parse_name(clip)
    merged = (name.work == "WoO80" and 5 <= name.segment <= 16) or (name.work == "D935_no.3" and name.segment == 1)
    if name.player == "Score" and merged:
        return clip.replace("_Score_", "_Score2_")
    return clip


LABEL_RULES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {"clean": clean_votes, "published": published_votes}
"""How each rule turns `ratings` into the votes that are averaged."""


def unmatched(ratings: pd.DataFrame, clips: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Rows of `quarantine`: rated clips without a performance, and performances without a label under `rule`.

    Together with the performances that have a label they account for every rated clip and every performance.
    """
    rated = ratings.drop_duplicates(["clip", "row"]).groupby("clip").size()
    performed = set(clips["clip"])
    labelled = set(LABEL_RULES[rule](ratings)["clip"])
    found = [
        ("ratings", clip, "a rated clip has a performance", f"{n} ratings")
        for clip, n in rated.items()
        if clip not in performed
    ]
    for clip in sorted(performed - labelled):
        merged = published_clip(clip) if rule == "published" else clip
        if merged != clip:
            reason = f"its ratings are merged into {merged}"
        else:
            reason = f"{rated.get(clip, 0)} ratings, none usable" if clip in rated else "no ratings"
        found.append(("clips", clip, f"a performance has a label under the rule {rule!r}", reason))
    return pd.DataFrame(found, columns=list(TABLES["quarantine"].columns), dtype="str")


SIGN_FACTS: tuple[tuple[str, str], ...] = (
    ("duration_s", "tempo_fast_slow"),
    ("pedal_down_share", "pedal_sparse_saturated"),
    ("pedal_down_share", "pedal_clean_blurred"),
    ("pedal_down_share", "articulation_short_long"),
    ("mean_velocity", "articulation_soft_hard"),
    ("mean_velocity", "dynamic_mellow_raw"),
    ("mean_velocity", "mood_low_high_energy"),
    ("mean_velocity", "timbre_soft_loud"),
    ("velocity_spread", "dynamic_range_little_large"),
)
"""What a performer does, and the dimension that rises with it when people play the same excerpt."""

LEAST_R = 0.1
"""A sign fact holds above this correlation. In PercePiano the nine lie between .26 and .56; a shuffled join gives
0 +- .03, the next column of the file as little as -.34."""

LEAST_DEGREES_OF_FREEDOM = 30


def label_join_violations(
    labels: pd.DataFrame, clips: pd.DataFrame, notes: pd.DataFrame, controls: pd.DataFrame
) -> list[str]:
    """Say, one sentence each, what contradicts that these labels belong to these clips; empty when nothing does.

    Labels of unknown clips, and, for each rule among the labels, `SIGN_FACTS` that do not hold: correlations over human
    clips, both sides centred within excerpt. With fewer than `LEAST_DEGREES_OF_FREEDOM` human clips more than excerpts,
    a sign says nothing, and the facts are not judged.
    """
    found = []
    unknown = sorted(set(labels["clip"]) - set(clips["clip"]))
    if unknown:
        found.append(f"labels of {len(unknown)} clips have no performance, first {unknown[0]!r}")
    played = playing_facts(clips, notes, controls)
    excerpts = clips[~clips["deadpan"]].set_index("clip")["excerpt"]
    for rule, of_rule in labels.groupby("rule", observed=True):
        wide = of_rule.pivot(index="clip", columns="dimension", values="value")
        excerpt = excerpts[excerpts.index.isin(wide.index)]
        if len(excerpt) - excerpt.nunique() < LEAST_DEGREES_OF_FREEDOM:
            continue
        for quantity, dimension in SIGN_FACTS:
            heard = wide[dimension] if dimension in wide else pd.Series(np.nan, wide.index)
            r = _within(played.loc[excerpt.index, quantity], heard.loc[excerpt.index], excerpt)
            if not r > LEAST_R:
                found.append(
                    f"rule {rule!r}: within excerpts, {quantity} and {dimension} of {len(excerpt)} human clips "
                    f"correlate with r = {r:.3f}; must exceed {LEAST_R}"
                )
    return found


def playing_facts(clips: pd.DataFrame, notes: pd.DataFrame, controls: pd.DataFrame) -> pd.DataFrame:
    """By clip: duration_s, mean_velocity, velocity_spread (standard deviation), pedal_down_share (of the duration,
    with the sustain pedal at 64 or more; 0..1)."""
    velocity = notes.groupby("clip")["velocity"]
    duration_s = clips.set_index("clip")["duration_s"]
    pedal = controls.loc[controls["controller"] == SUSTAIN, ["clip", "time_s", "value"]]
    until = pedal.groupby("clip")["time_s"].shift(-1).fillna(pedal["clip"].map(duration_s))
    down_s = (until - pedal["time_s"]).where(pedal["value"] >= 64, 0.0).groupby(pedal["clip"]).sum()
    return pd.DataFrame(
        {
            "duration_s": duration_s,
            "mean_velocity": velocity.mean(),
            "velocity_spread": velocity.std(ddof=0),
            "pedal_down_share": (down_s / duration_s).reindex(duration_s.index).fillna(0.0),
        }
    )


def _within(x: pd.Series, y: pd.Series, group: pd.Series) -> float:
    """Pearson correlation after both sides are centred within `group`; NaN when either is constant."""
    known = x.notna() & y.notna()
    x, y, group = x[known], y[known], group[known]
    x = x - x.groupby(group).transform("mean")
    y = y - y.groupby(group).transform("mean")
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / scale if scale > 0 else float("nan")
