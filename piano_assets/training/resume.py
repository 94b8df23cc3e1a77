"""Finished folds of an unfinished run, kept on disk so that a killed run goes on where it stopped.

A fold's folder is renamed into place whole: it holds the fold's result or does not exist.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from piano_assets.store.checkpoints import RECORD, replaced, write_model
from piano_assets.training.folds import FoldResult

_ROWS, _PREDICTIONS = "fold.json", "predictions.parquet"


def keep_fold(folder: Path, result: FoldResult, record: dict[str, Any] | None) -> None:
    """Write a fold's result, with its model and `record` if there is one (else the model is let go)."""
    rows = {
        "members": result.members,
        "history": result.history,
        "search_point": result.search_point,
        "diverged": result.diverged,
        "n_params": result.n_params,
        "seconds": result.seconds,
    }
    with replaced(folder) as temporary:
        result.predictions.to_parquet(temporary / _PREDICTIONS, index=False)
        (temporary / _ROWS).write_text(json.dumps(rows))
        if record is not None:
            write_model(temporary, {**record, "search_point": result.search_point}, result.model)


def kept_fold(folder: Path) -> FoldResult | None:
    """Read a fold's result back, without its model; None where the fold was not finished."""
    if not folder.is_dir():
        return None
    rows = json.loads((folder / _ROWS).read_text())
    return FoldResult(predictions=pd.read_parquet(folder / _PREDICTIONS), model=None, **rows)


def copy_checkpoints(work: Path, folder: Path) -> int:
    """Publish the models of finished folds as `<folder>/fold<k>`, all at once. Returns how many there were."""
    kept = sorted(fold for fold in work.glob("fold*") if (fold / RECORD).is_file())
    if not kept:
        return 0
    with replaced(folder) as temporary:
        for fold in kept:
            (temporary / fold.name).mkdir()
            for name in (RECORD, json.loads((fold / RECORD).read_text())["file"]):
                shutil.copy(fold / name, temporary / fold.name / name)
    return len(kept)
