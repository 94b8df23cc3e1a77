"""A champion on disk: one folder, whole or absent, with a record and a checkpoint for each member. No pickle."""

import json
from pathlib import Path
from typing import Any

from piano_assets.catalogue.trial import as_dict
from piano_assets.ensembles.champion import LEVEL, Champion, half_widths
from piano_assets.store.checkpoints import RECORD, replaced, write_model
from piano_assets.store.parts import checked_name, write_file


def champion_folder(root: Path, name: str) -> Path:
    """Where the champion of a title lies."""
    return root / "champions" / checked_name(name)


def save_champion(folder: Path, champion: Champion, record: dict[str, Any]) -> dict[str, Any]:
    """Write a champion, in place of what is there; returns its record.

    Args:
        record: JSON-able; what it consists of and how sure it is are added.
    """
    members = [
        {
            "config": m.config,
            "search_point": m.point,
            "weights": m.weight.tolist(),
            "trial": as_dict(m.trial),
            "features": list(m.feature_names),
        }
        for m in champion.members
    ]
    written = {
        **record,
        "procedure": champion.procedure,
        "n_clips": len(champion.clips),
        "level": LEVEL,
        "half_widths": half_widths(champion).tolist(),
        "members": members,
    }
    with replaced(folder) as temporary:
        for number, (member, told) in enumerate(zip(champion.members, members, strict=True)):
            place = temporary / f"member{number}"
            place.mkdir()
            write_model(place, told, member.model)
        (temporary / RECORD).write_bytes(_json(written))
    return written


def retell(folder: Path, **said: Any) -> dict[str, Any]:
    """Say anew in a champion's record what has become known since it was fitted; returns the record."""
    record = json.loads((folder / RECORD).read_text())
    if any(record.get(name) != value for name, value in said.items()):
        record |= said
        write_file(folder / RECORD, _json(record))
    return dict(record)


def _json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, indent=1, allow_nan=False).encode()
