"""Champions on disk. No pickle.

`champions/<title>/<part key>/` holds one champion, whole or absent: a record, a checkpoint for each member, and
`reference.npz`, what it learnt from. `champions/<title>/current.json` says which of them scores recordings, and which
did before.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from piano_assets.catalogue.trial import as_dict
from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.ensembles.coverage import LEVEL, half_widths
from piano_assets.store.checkpoints import RECORD, load_checkpoint, read_record, replaced, write_model
from piano_assets.store.parts import checked_name, file_sha256, write_file

if TYPE_CHECKING:  # nobody who reads a champion needs what fits one
    from piano_assets.ensembles.champion import Champion

CURRENT, REFERENCE = "current.json", "reference.npz"


class NoChampion(FileNotFoundError):
    """Nobody holds a title here; the message says how one is made."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Learnt:
    """What a champion learnt from, and what it is, without its models.

    record: what it is. clips: (n,) what it learnt from, with excerpts, clusters, duration_s, and human: True for a
    person's playing. features: (n, d) what it read of them, by feature_names; out_of_fold, target: (n, 19), see
    `Champion`.
    """

    record: dict[str, Any]
    clips: np.ndarray
    excerpts: np.ndarray
    clusters: np.ndarray
    human: np.ndarray
    duration_s: np.ndarray
    features: np.ndarray
    feature_names: tuple[str, ...]
    out_of_fold: np.ndarray
    target: np.ndarray

    @property
    def feature_set(self) -> str:
        """The named set that it reads."""
        return str(self.record["members"][0]["trial"]["inputs"]["features"])

    @property
    def rendering(self) -> str:
        """Whose sound it learnt from."""
        return str(self.record["members"][0]["trial"]["inputs"]["rendering"])

    @property
    def half_widths(self) -> np.ndarray:
        """(19,) half widths of its intervals."""
        return np.array(self.record["half_widths"], np.float64)

    @property
    def weights(self) -> np.ndarray:
        """(n_members, 19)."""
        return np.array([m["weights"] for m in self.record["members"]], np.float64).reshape(-1, N_DIMENSIONS)


@dataclass(frozen=True, eq=False, kw_only=True)
class Holder(Learnt):
    """A champion as it was kept. models: a fitted pipeline for each member."""

    models: tuple[Any, ...]

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Scores (n, 19) of recordings by their features (n, d), columns as `feature_names`."""
        return sum(w * m.predict(features) for w, m in zip(self.weights, self.models, strict=True))


def champion_home(root: Path, title: str) -> Path:
    """Where the champions of a title lie."""
    return root / "champions" / checked_name(title)


def save_champion(folder: Path, champion: "Champion", clips: pd.DataFrame, record: dict[str, Any]) -> None:
    """Write a champion, in place of what is there.

    Args:
        clips: rows of the table `clips`, those that it learnt from among them.
        record: JSON-able; what it consists of and how sure it is are added.
    """
    members = [
        {"config": m.config, "search_point": m.point, "weights": m.weight.tolist(), "trial": as_dict(m.trial)}
        for m in champion.members
    ]
    known = clips.set_index("clip").loc[champion.clips]
    with replaced(folder) as temporary:
        for number, (member, told) in enumerate(zip(champion.members, members, strict=True)):
            place = temporary / f"member{number}"
            place.mkdir()
            write_model(place, told, member.model)
        np.savez_compressed(
            temporary / REFERENCE,
            clips=_text(champion.clips),
            excerpts=_text(known["excerpt"]),
            clusters=_text(known["cluster"]),
            human=~known["deadpan"].to_numpy(bool),
            duration_s=known["duration_s"].to_numpy(np.float64),
            features=champion.features,
            feature_names=_text(champion.feature_names),
            out_of_fold=champion.out_of_fold,
            target=champion.target,
        )
        written = {
            **record,
            "procedure": champion.procedure,
            "n_clips": len(champion.clips),
            "level": LEVEL,
            "half_widths": half_widths(champion.residual).tolist(),
            "members": members,
            "reference_sha256": file_sha256(temporary / REFERENCE),
        }
        (temporary / RECORD).write_bytes(_json(written))


def load_champion(folder: Path) -> Holder:
    """Read a champion.

    Raises:
        CheckpointError: a member that was changed or cut short, or holds a type that is not trusted.
        FileNotFoundError, ValueError: see `load_learnt`.
    """
    learnt = load_learnt(folder)
    members = enumerate(learnt.record["members"])
    models = tuple(load_checkpoint(folder / f"member{k}", config=m["config"])[1] for k, m in members)
    return Holder(**vars(learnt), models=models)


def load_learnt(folder: Path) -> Learnt:
    """Read what a champion learnt from, and its record: hundredths of a second, where its models take seconds.

    Raises:
        FileNotFoundError: there is no champion in the folder.
        ValueError: what it learnt from was changed or cut short.
    """
    record = read_record(folder)
    path = folder / REFERENCE
    found = file_sha256(path)
    if found != record["reference_sha256"]:
        raise ValueError(f"{path}: sha256 is {found}, expected {record['reference_sha256']}: it was changed or cut")
    with np.load(path, allow_pickle=False) as arrays:
        names = tuple(arrays["feature_names"].tolist())
        others = {name: arrays[name] for name in arrays.files if name != "feature_names"}
    return Learnt(record=record, feature_names=names, **others)


def current_key(home: Path) -> str | None:
    """Part key of the champion that scores recordings; None where nobody holds the title."""
    return _current(home).get("part_key")


def current_champion(root: Path, title: str) -> Path:
    """The folder of the champion that holds a title.

    Raises:
        NoChampion: nobody does.
    """
    home = champion_home(root, title)
    key = current_key(home)
    if key is None or not (home / checked_name(key) / RECORD).is_file():
        raise NoChampion(f"no champion {title!r} in {home}: `piano champion {title}` fits one")
    return home / key


def standing(home: Path) -> list[str]:
    """Part keys of the champions of a title that can score, the one that does first, then those before it."""
    now = _current(home)
    keys = [now["part_key"], *now["before"]] if now else []
    return [key for key in keys if (home / checked_name(key) / RECORD).is_file()]


def beside_champion(root: Path, title: str) -> Path | None:
    """The folder of the champion that was asked to score beside the holder of a title; None where none was."""
    home = champion_home(root, title)
    key = _current(home).get("beside")
    return home / key if key in standing(home)[1:] else None


def set_beside(home: Path, wanted: bool) -> str | None:
    """Let the champion before the present one score beside it, or no longer; returns its part key.

    Raises:
        NoChampion: there was none before.
    """
    keys = standing(home)
    if wanted and len(keys) < 2:
        raise NoChampion(f"{home}: nobody held the title before {keys[0] if keys else 'anybody'}")
    beside = keys[1] if wanted else None
    if keys:
        write_file(home / CURRENT, _json(_current(home) | {"beside": beside}))
    return beside


def promote(home: Path, part_key: str) -> bool:
    """Let a champion that stands score recordings from now on, unless a rollback holds the title; says whether it does.

    Who scored before stays named, latest first.
    """
    now = _current(home)
    if now.get("held"):
        return now["part_key"] == part_key
    if now.get("part_key") != part_key:
        _put(home, part_key, [now["part_key"], *now["before"]] if now else [], held=False)
    return True


def roll_back(home: Path) -> str:
    """Let the champion before the present one score, and hold the title for it; returns its part key.

    Raises:
        NoChampion: there was none before.
    """
    now = _current(home)
    earlier = [key for key in standing(home) if key != now["part_key"]]
    if not earlier:
        raise NoChampion(f"{home}: nobody held the title before {now.get('part_key', 'anybody')}")
    _put(home, earlier[0], [now["part_key"], *now["before"]], held=True)
    return earlier[0]


def release(home: Path) -> None:
    """Let the next champion that is fitted take the title again."""
    now = _current(home)
    if now.get("held"):
        _put(home, now["part_key"], now["before"], held=False)


def _current(home: Path) -> dict[str, Any]:
    path = home / CURRENT
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def _put(home: Path, part_key: str, before: list[str], held: bool) -> None:
    earlier = list(dict.fromkeys(key for key in before if key != part_key))
    beside = _current(home).get("beside")
    told = {"part_key": part_key, "before": earlier, "held": held, "beside": beside if beside in earlier else None}
    write_file(home / CURRENT, _json(told))


def retell(folder: Path, **said: Any) -> dict[str, Any]:
    """Say anew in a champion's record what has become known since it was fitted; returns the record."""
    record = read_record(folder)
    if any(record.get(name) != value for name, value in said.items()):
        record |= said
        write_file(folder / RECORD, _json(record))
    return record


def _text(values: Any) -> np.ndarray:
    return np.array([str(value) for value in values])


def _json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, indent=1, allow_nan=False).encode()
