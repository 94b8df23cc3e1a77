"""What a model's score rests on: how much of it goes when a family of features is exchanged between test clips.

Permutation importance (Breiman 2001, Machine Learning 45:5, sec. 10; Fisher, Rudin & Dominici 2019, JMLR 20:177, sec.
3) of the models that are kept, on the clips that they were tested on. Whole families are exchanged, rows together:
correlated features stand in for one another, so that each by itself seems worth little (Strobl et al. 2008, BMC
Bioinformatics 9:307).

Two exchanges answer two questions. Over all test clips of a fold: what a family is worth for the score, which counts
how well different music is told apart as well. Within an excerpt (a conditional permutation in the sense of Strobl et
al., given the music): what it tells about the playing; no clip gets values that nobody could have played there (Hooker,
Mentch & Zhou 2021, Statistics and Computing 31:82). What the score fixes, such as texture, is worth nothing in that.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from piano_assets.analysis.evaluate import ROW_NAMES, Judged, average, judge, less
from piano_assets.analysis.panel import Block, Units
from piano_assets.analysis.scores import intervals
from piano_assets.features.families import family_of
from piano_assets.schemas import POPULATIONS
from piano_assets.training.data import TrialData

if TYPE_CHECKING:
    from piano_assets.training.fitted import Fitted, FittedFold

REPEATS = 5
METRICS = ("pearson_mean", "r2_pooled")
INTACT = "intact"
WITHIN = ", within excerpts"
"""What the condition of an exchange within excerpts ends with."""


def groups_of(of: "Fitted", family: Callable[[str], str] = family_of) -> dict[str, np.ndarray | None]:
    """What is exchanged: name -> columns of the features, or None for the whole sequence of a clip.

    Every feature is in exactly one family. A source of several families stands there as a whole as well, and beside the
    features of a hybrid its `spectrogram` or `notes`.

    Raises:
        ValueError: the subject reads no features.
    """
    if of.data.features is None:
        raise ValueError(f"subject {of.subject!r} reads no features: there is no family of them to exchange")
    families = np.array([family(name) for name in of.data.feature_names])
    sources = np.array([f.partition(".")[0] for f in families])
    found: dict[str, np.ndarray | None] = {f: np.flatnonzero(families == f) for f in sorted(set(families))}
    for source in sorted(set(sources)):
        if len(set(families[sources == source])) > 1:
            found[source] = np.flatnonzero(sources == source)
    if of.data.sequence is not None:
        found["notes" if of.trial.inputs.notes else "spectrogram"] = None
    return found


def feature_importance(
    of: "Fitted",
    known: Units,
    rng: np.random.Generator,
    *,
    repeats: int = REPEATS,
    family: Callable[[str], str] = family_of,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Drops of a model's scores, family by family.

    An interval is Student's with the two-way clustered error of each clip's contribution to the drop, averaged over
    the repeats. That a clip gets one of many other clips' values is part of its contribution, so the interval holds
    the chance of the exchanges as well.

    Args:
        known: clips and labels of the corpus. rng: draws the exchanges, which all families of a fold share.
        family: feature -> family. progress: told (exchanges done, exchanges).
    Returns:
        rows condition (the family; `intact`: the scores themselves), step (how many features it has, NULL for a
        sequence), population, dimension, metric (`<metric>_drop`: positive = the model needs the family), value,
        ci_low, ci_high.
    Raises:
        ValueError: the subject reads no features, a feature without family, fewer than one repeat.
    """
    if repeats < 1:
        raise ValueError(f"repeats={repeats} must be >= 1")
    groups = groups_of(of, family)
    at = known.clip.get_indexer(of.data.clips)
    intact = _judged(of, known, [pred for _, pred in of.tested()])
    rows = [_rows(intact, known, INTACT, np.nan, "")]
    schemes = {"": np.zeros_like(known.excerpt), WITHIN: known.excerpt}
    drawn = {s: [orders(rng, code[at[fold.test]], repeats) for fold in of.folds] for s, code in schemes.items()}
    for done, (name, scheme) in enumerate(((n, s) for n in groups for s in schemes), start=1):
        columns = groups[name]
        by_fold = [_exchanged(of, fold, o, columns) for fold, o in zip(of.folds, drawn[scheme], strict=True)]
        after = [_judged(of, known, list(preds)) for preds in zip(*by_fold, strict=True)]
        mean = {p: average([less(before, found[p], METRICS) for found in after]) for p, before in intact.items()}
        rows.append(_rows(mean, known, name + scheme, np.nan if columns is None else len(columns), "_drop"))
        if progress:
            progress(done, len(groups) * len(schemes))
    return pd.concat(rows, ignore_index=True)


def orders(rng: np.random.Generator, group: np.ndarray, repeats: int) -> np.ndarray:
    """(repeats, n): whose values each clip gets, all permutations within groups (n,) alike likely."""
    own = np.argsort(group, kind="stable")
    found = np.empty((repeats, len(group)), np.int64)
    for row in found:
        row[own] = np.lexsort((rng.random(len(group)), group))
    return found


def exchanged(data: TrialData, rows: np.ndarray, order: np.ndarray, columns: np.ndarray | None) -> TrialData:
    """The clips at `rows` once for each order (repeats, n), with the columns (None: the sequences) of others of them.

    Row k * n + i is clip i of repeat k.
    """
    own, other = np.tile(rows, len(order)), rows[order].ravel()
    sequence, features = data.sequence, data.features
    if sequence is not None:
        heard = other if columns is None else own
        sequence = replace(sequence, start=sequence.start[heard], n_frames=sequence.n_frames[heard])
    if features is not None:
        features = features[own]
        if columns is not None:
            features[:, columns] = data.features[np.ix_(other, columns)]  # type: ignore[index]
    return replace(
        data, clips=data.clips[own], targets=data.targets[own], errors=data.errors[own], roles={}, features=features,
        sequence=sequence, sound=None, variants=(),
    )  # fmt: skip


def _exchanged(of: "Fitted", fold: "FittedFold", order: np.ndarray, columns: np.ndarray | None) -> np.ndarray:
    """Predictions (repeats, n_test, 19) of a fold's test clips after each exchange."""
    altered = exchanged(of.data, fold.test, order, columns)
    pred = fold.predict(altered, np.arange(len(altered.clips)))
    return pred.reshape(*order.shape, -1)


def _judged(of: "Fitted", known: Units, preds: Sequence[np.ndarray]) -> dict[str, Judged]:
    """The predictions of every fold's test clips, judged in each population that has clips enough."""
    fold = np.concatenate([np.full(len(f.test), f.fold) for f in of.folds])
    names = np.concatenate([of.data.clips[f.test] for f in of.folds])
    clip = known.clip.get_indexer(names)
    if (clip < 0).any():
        raise ValueError(f"subject {of.subject!r}: clip {names[clip < 0][0]!r} is not in the table clips")
    block = Block(of.subject, of.trial.split, of.tuning, of.repeat, fold, clip, np.concatenate(preds))
    judged = {p: judge(block, known, of.trial.label_rule, p, "global", METRICS) for p in POPULATIONS}
    return {population: found for population, found in judged.items() if found is not None}


def _rows(found: dict[str, Judged], known: Units, condition: str, step: float, ending: str) -> pd.DataFrame:
    frames = []
    for population, judged in found.items():
        low, high = intervals(judged, known)
        for metric, value in judged.value.items():
            told = {"condition": condition, "step": step, "population": population, "dimension": ROW_NAMES}
            told |= {"metric": metric + ending, "value": value, "ci_low": low[metric], "ci_high": high[metric]}
            frames.append(pd.DataFrame(told))
    return pd.concat(frames, ignore_index=True)
