"""The literature's own splits, exactly: they exist to stand beside published numbers, leaks and all."""

from collections.abc import Iterator

import numpy as np

from piano_assets.corpus.split_strategies import Assignment, Sources, SplitImpossible

BEETHOVEN_PLAYERS = (1, 2, 3, 4, 7, 11, 14, 18, 19, 22, 24, 26)
PERCEPIANO_FOLDS = 4
PERCEPIANO_TEST = (1, 2)


def founding(s: Sources) -> Iterator[Assignment]:
    """A random 70/15/15 split of the clips with a published label: 832/178/179 of PercePiano's 1,189.

    scikit-learn's `train_test_split(test_size=.30, random_state=42)`, then the 30 % in halves. The original order of
    the clips is not known, so the members of the three sets are ours (clips sorted by name); their sizes and their leak
    are the original's. Clips without a published label are `unused`.
    """
    from sklearn.model_selection import train_test_split

    labelled = set(s.labels.loc[s.labels["rule"] == "published", "clip"])
    chosen = np.flatnonzero(s.clips["clip"].isin(labelled))
    if len(chosen) < 10:
        raise SplitImpossible(f"the founding split needs ten clips with a published label, found {len(chosen)}")
    train, rest = train_test_split(chosen, test_size=0.30, random_state=42)
    valid, test = train_test_split(rest, test_size=0.50, random_state=42)
    role = np.full(len(s.clips), "unused", dtype=object)
    role[train], role[valid], role[test] = "train", "valid", "test"
    yield Assignment(0, 0, None, role)


def percepiano_index(composer: str, player: str) -> int:
    """A player's index in PercePiano's performer split: deadpan 0 and -1, Beethoven by position, Schubert by number.

    Raises:
        SplitImpossible: a composer or a player that PercePiano does not have.
    """
    if player in ("Score", "Score2"):
        return 0 if player == "Score" else -1
    if composer == "Beethoven" and player.isdigit() and int(player) in BEETHOVEN_PLAYERS:
        return BEETHOVEN_PLAYERS.index(int(player)) + 1
    if composer == "Schubert" and player.isdigit():
        return int(player)
    raise SplitImpossible(f"PercePiano's performer split does not know player {player!r} of composer {composer!r}")


def percepiano_performer(s: Sources) -> Iterator[Assignment]:
    """PercePiano's performer split (Park et al. 2024): indices 1 and 2 are the test set of all four folds.

    Fold f validates on indices 2f+3 and 2f+4 and trains on all others, deadpan renditions among them.
    """
    index = np.array(
        [percepiano_index(c, p) for c, p in zip(s.clips["composer"], s.clips["player"].astype(str), strict=True)]
    )
    for fold in range(PERCEPIANO_FOLDS):
        valid = (2 * fold + 3, 2 * fold + 4)
        role = np.select([np.isin(index, PERCEPIANO_TEST), np.isin(index, valid)], ["test", "valid"], "train")
        missing = {"train", "valid", "test"} - set(role)
        if missing:
            raise SplitImpossible(f"PercePiano's performer split: no clip is {sorted(missing)} in fold {fold}")
        yield Assignment(0, fold, None, role.astype(object))
