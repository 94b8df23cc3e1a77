"""Rows of the tables `recordings` and `recording_scores`, from what was told of a recording."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from piano_assets.schemas import TABLES

_LONGEST = 60
HELD = "held sound"
"""In the column `beyond`: what was recorded is no piano."""


def recording_id(name: str, content_hash: str) -> str:
    """`<beginning of the content's hash>.<name>`: the same music under one name is one recording."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:_LONGEST] or "recording"
    return f"{content_hash[:12]}.{plain}"


def recording_row(
    recording: str, file: str, content_hash: str, at: datetime, told: Mapping[str, Any] | None, reason: str | None
) -> pd.DataFrame:
    """One row. told: see `tell.as_json`; None for a recording that was refused, with the reason."""
    known = told or {}
    row = {
        "recording": recording,
        "file": file,
        "content_hash": content_hash,
        "received_at": at,
        "status": "refused" if told is None else "scored",
        "reason": reason,
        "in_domain": bool(known.get("in_domain", False)),
        "beyond": ", ".join([*([HELD] if known.get("held") else []), *known.get("beyond", ())]) or None,
        **{name: known.get(name) for name in ("kind", "duration_s", "n_notes", "transcriber")},
    }
    columns = TABLES["recordings"].columns
    return pd.DataFrame([row], columns=list(columns)).astype({"n_notes": "Int32", "duration_s": "Float64"})


def score_rows(recording: str, told: Mapping[str, Any] | None) -> pd.DataFrame:
    """A row for each dimension overall, by both champions where one scored beside, and for each dimension and window;
    none for a recording that was refused."""
    if told is None:
        return TABLES["recording_scores"].empty()
    rows = [_overall(s) | {"part_key": told["champion"]["part_key"]} for s in told["scores"]]
    if told["beside"] is not None:
        rows += [_overall(s) | {"part_key": told["beside"]["part_key"]} for s in told["beside"]["scores"]]
    half = {s["dimension"]: s["half_width"] for s in told["scores"]}
    rows += [
        {
            "window_start_s": window["start_s"],
            "dimension": dimension,
            "value": value,
            "ci_low": max(0.0, value - half[dimension]),
            "ci_high": min(1.0, value + half[dimension]),
            "percentile": np.nan,
            "part_key": told["champion"]["part_key"],
        }
        for window in told["windows"]
        for dimension, value in window["scores"].items()
    ]
    return pd.DataFrame(rows).assign(recording=recording, champion=told["champion"]["champion"])


def _overall(score: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "window_start_s": np.nan,
        "dimension": score["dimension"],
        "value": score["value"],
        "ci_low": score["low"],
        "ci_high": score["high"],
        "percentile": score["percentile"],
    }
