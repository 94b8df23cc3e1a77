"""How far a recording is from what a champion has heard: by aspect of the music and its playing.

A regression answers anything; whether it was ever taught about such music only its training clips can say. Each aspect
has a distance of its own, so that one that is out of all bounds (a tempo that nobody played) does not drown among
hundreds of usual features.
"""

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from piano_assets.ensembles.champion_files import Learnt
from piano_assets.features.families import ASPECTS, aspect_of
from piano_assets.models.relevance import weighted_distances
from piano_assets.store.parts import write_file

DOMAIN = "domain.npz"
NEIGHBOURS = 5
_FAR = 10.0
"""Spreads beyond which a feature counts no more: one that is undefined almost everywhere must not decide alone."""


SLOWEST_FALL, LEAST_RISE, LEAST_RATIO = -3.0, 0.57, 1.19
"""Between one stroke and the next a string can only die away, and it begins sooner than it ends. Of each clip of the
corpus, in its piano's sound, the level falls by over 3.7 dB per second in half of all moments, and rises of bands
spread by at least .57 dB, and by at least 1.19 times as much as falls. What is bowed, blown or sung is beyond in one of
the three more often than not (`benchmarks.instruments`)."""
_SOUNDING_DB = 45.0


def is_held(samples: np.ndarray) -> bool:
    """Whether a sound is held, or swells, as that of struck strings cannot. samples: (n,) at 22.05 kHz."""
    from piano_assets.features.sound.decay import decay, slopes
    from piano_assets.features.sound.hearing import Hearing

    h = Hearing(samples)
    level = h.level[::2]
    sounding = np.minimum(level[1:], level[:-1]) > level.max() - _SOUNDING_DB
    found = decay(h)
    return bool(
        np.median(slopes(h)[sounding]) > SLOWEST_FALL
        or found["decay_rise_sd_db"] < LEAST_RISE
        or found["decay_rise_fall_ratio"] < LEAST_RATIO
    )


@dataclass(frozen=True, eq=False)
class Domain:
    """What a champion has heard, ready to be compared with.

    centre, spread: (d,) median of the training clips' features and half the width of their middle 90 %.
    heard: (n, d) those features in spreads; weights: (n_aspects, d) rows that sum to 1; aspects: their names.
    usual: (n_aspects, n) rising, distances of training clips to the nearest clips of other music.
    """

    centre: np.ndarray
    spread: np.ndarray
    heard: np.ndarray
    aspects: tuple[str, ...]
    weights: np.ndarray
    usual: np.ndarray

    def place(self, features: np.ndarray) -> np.ndarray:
        """Features (n, d) in spreads from the centre, float32; undefined ones lie at the centre."""
        z = np.nan_to_num((features - self.centre) / self.spread, nan=0.0, posinf=_FAR, neginf=-_FAR)
        return np.clip(z, -_FAR, _FAR).astype(np.float32)

    def distance(self, features: np.ndarray) -> np.ndarray:
        """(n, n_aspects) mean distance to the nearest training clips, in spreads a feature."""
        found = weighted_distances(self.place(features), self.heard, self.weights)
        return nearest(found).T.astype(np.float64)

    def share_nearer(self, features: np.ndarray) -> np.ndarray:
        """(n, n_aspects) share of training clips that are nearer to other music than these are; 1: beyond all."""
        d = self.distance(features)
        ranks = [np.searchsorted(usual, d[:, k], side="left") for k, usual in enumerate(self.usual)]
        return np.stack(ranks, axis=1) / self.usual.shape[1]


def nearest(distances: np.ndarray) -> np.ndarray:
    """(..., n_a) mean of the `NEIGHBOURS` smallest of each row of (..., n_a, n_b)."""
    k = min(NEIGHBOURS, distances.shape[-1])
    return np.partition(distances, k - 1, axis=-1)[..., :k].mean(-1)


def domain_of(
    features: np.ndarray, names: tuple[str, ...], clusters: np.ndarray, usual: np.ndarray | None = None
) -> Domain:
    """What was heard in training clips.

    Args:
        features: (n, d), NaN where undefined; names: of the columns; clusters: (n,) music that clips share.
        usual: of the same clips, where it is known: between all pairs of them it takes seconds.
    """
    undefined = np.isnan(features).all(0)
    low, centre, high = np.nanquantile(np.where(undefined, 0.0, features), [0.05, 0.5, 0.95], axis=0)
    half = (high - low) / 2
    spread = np.where(half > 0, half, np.maximum(np.nanstd(np.where(undefined, 0.0, features), axis=0), 1e-12))
    centre[undefined] = np.nan  # so that it decides nothing
    of = np.array([aspect_of(name) for name in names], object)
    aspects = tuple(aspect for aspect in ASPECTS if (of == aspect).any())
    member = np.stack([of == aspect for aspect in aspects]).astype(np.float32)
    weights = member / member.sum(1, keepdims=True)
    empty = Domain(centre, spread, np.zeros((0, len(names)), np.float32), aspects, weights, np.zeros((len(aspects), 0)))
    heard = empty.place(features)
    if usual is not None:
        return replace(empty, heard=heard, usual=usual)
    between = weighted_distances(heard, heard, weights)
    between[:, clusters[:, None] == clusters[None]] = np.inf
    usual = np.sort(nearest(between).astype(np.float64), axis=1)
    return replace(empty, heard=heard, usual=usual)


def domain_in(folder: Path, holder: Learnt) -> Domain:
    """The domain of a champion, kept beside it once it is known."""
    path, reference = folder / DOMAIN, holder.record["reference_sha256"]
    usual = None
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            usual = kept["usual"] if kept["reference"] == reference else None
    return domain_of(holder.features, holder.feature_names, holder.clusters, usual)


def keep_domain(folder: Path, holder: Learnt) -> None:
    """Write down, in a champion's folder, what takes long to know of its domain."""
    sink = io.BytesIO()
    domain = domain_of(holder.features, holder.feature_names, holder.clusters)
    np.savez_compressed(sink, usual=domain.usual, reference=np.array(holder.record["reference_sha256"]))
    write_file(folder / DOMAIN, sink.getvalue())
