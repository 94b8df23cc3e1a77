"""Scores in words and numbers: what a program reads, and the sentences that a person reads first."""

from typing import Any

import numpy as np

from piano_assets.dimensions import DIMENSIONS, NAMES, Dimension
from piano_assets.features.families import aspect_of
from piano_assets.scoring.compare import Difference
from piano_assets.scoring.score import Scores

MOST_EFFECTS = 5
"""Features that are named for each dimension."""
_DIGITS = 4
_STRANGE = {"timbre", "texture"}
"""Aspects by which something else than a piano stands out."""


def as_json(scores: Scores, beside: Scores | None = None) -> dict[str, Any]:
    """All that was found of a recording, JSON-able. Scores are on the 0..1 scale (rating / 7).

    beside: what another champion says of it.
    """
    recording, champion = scores.recording, scores.champion
    return {
        "recording": recording.name,
        "content_hash": recording.content_hash,
        "kind": recording.kind,
        "duration_s": round(recording.duration_s, 3),
        "lead_s": round(recording.lead_s, 3),
        "n_notes": None if recording.performance is None else recording.performance.n_notes,
        "transcriber": recording.transcriber,
        "in_domain": scores.in_domain,
        "beyond": list(scores.beyond),
        "held": scores.held,
        "warnings": warnings(scores),
        "champion": {
            name: champion.get(name)
            for name in ("champion", "procedure", "hears", "part_key", "level", "nested", "coverage")
        },
        "scores": [
            {
                **score,
                "moved_by": {
                    aspect: round(float(v), _DIGITS)
                    for aspect, v in zip(scores.aspects, scores.moved[:, k], strict=True)
                },
                "features": strongest(scores, k),
            }
            for k, score in enumerate(_scored(scores))
        ],
        "beside": None if beside is None else {"part_key": beside.champion["part_key"], "scores": _scored(beside)},
        "windows": [
            {
                "start_s": round(window.start_s, 3),
                "end_s": round(window.end_s, 3),
                "scores": _by_dimension(row),
                "features": {
                    name: None if np.isnan(value) else float(value)
                    for name, value in zip(scores.feature_names, read, strict=True)
                },
            }
            for window, row, read in zip(scores.windows, scores.by_window, scores.features, strict=True)
        ],
        "passages": [
            {"start_s": round(p.start_s, 3), "end_s": round(p.end_s, 3), "moved": _by_dimension(row)}
            for p, row in zip(scores.passages, scores.by_passage, strict=True)
        ],
    }


def _scored(scores: Scores) -> list[dict[str, Any]]:
    return [
        {
            **_poles(of),
            "value": round(float(scores.value[k]), _DIGITS),
            "low": round(float(scores.low[k]), _DIGITS),
            "high": round(float(scores.high[k]), _DIGITS),
            "half_width": round(float(scores.champion["half_widths"][k]), _DIGITS),
            "percentile": round(float(scores.percentile[k]), 1),
        }
        for k, of in enumerate(DIMENSIONS)
    ]


def _poles(of: Dimension) -> dict[str, str]:
    return {"dimension": of.name, "low_pole": of.low, "high_pole": of.high}


def _by_dimension(values: np.ndarray) -> dict[str, float]:
    return {name: round(float(v), _DIGITS) for name, v in zip(NAMES, values, strict=True)}


def strongest(scores: Scores, dimension: int, aspect: str | None = None) -> list[dict[str, Any]]:
    """The features (of an aspect) whose change alone would move a score most, the strongest first."""
    effect = scores.effects[:, dimension]
    names = scores.feature_names
    moving = [k for k in range(len(names)) if effect[k] and aspect in (None, aspect_of(names[k]))]
    return [
        {"feature": names[k], "aspect": aspect_of(names[k]), "moved": round(float(effect[k]), _DIGITS)}
        for k in sorted(moving, key=lambda k: -abs(effect[k]))[:MOST_EFFECTS]
    ]


def warnings(scores: Scores) -> list[str]:
    """What must be known before a score is believed."""
    found = []
    if scores.held:
        found.append(
            "This does not sound like a piano: what was heard is held, and does not die away as struck strings do. It "
            "may be bowed, blown or sung, or an organ. Its scores mean nothing: bring a recording of a piano alone."
        )
    if scores.beyond:
        sounded = scores.recording.samples is not None
        strange = sounded and _STRANGE & set(scores.beyond)
        found.append(
            f"Out of domain: in {_words(scores.beyond)} this recording is further from everything that the model has "
            "heard than any of its clips is from other music. Its scores are guesses."
            + (" Is it a piano alone? Speech, noise, other instruments and bands sound so." if strange else "")
            + (" Bring a recording of a piano alone, or MIDI." if sounded else "")
        )
    if scores.recording.performance is None:
        found.append(
            "Scored from the sound alone: it is heard better by its notes (pip install 'piano_assets[transcribe]' has "
            "them transcribed), and best as MIDI."
        )
    elif scores.recording.transcriber is not None:
        found.append(
            f"Scored from the notes and pedals that {scores.recording.transcriber} heard in the sound; half pedal and "
            "how long keys were held cannot be told from it. MIDI of the same playing is heard better."
        )
    if scores.champion.get("nested") is None:
        found.append("The procedure of this champion has not been scored: `piano champion --nested 1` does it.")
    return found


def difference_as_json(difference: Difference) -> dict[str, Any]:
    """All that was found of two recordings side by side, JSON-able."""
    first, second = difference.first, difference.second
    rows = []
    for k, of in enumerate(DIMENSIONS):
        moved = dict(zip(first.aspects, (round(float(v), _DIGITS) for v in difference.moved[:, k]), strict=True))
        rows.append(
            {
                **_poles(of),
                "first": round(float(first.value[k]), _DIGITS),
                "second": round(float(second.value[k]), _DIGITS),
                "value": round(float(difference.value[k]), _DIGITS),
                "low": round(float(difference.low[k]), _DIGITS),
                "high": round(float(difference.high[k]), _DIGITS),
                "told_apart": bool(difference.told_apart[k]),
                "moved_by": moved,
                "mostly_by": max(moved, key=lambda aspect: abs(moved[aspect])),
            }
        )
    said = [f"{s.recording.name}: {warning}" for s in (first, second) for warning in warnings(s)]
    if difference.same_piece is False:
        said.insert(0, f"Only {100 * (difference.matched or 0):.0f} % of the notes match: is it the same piece?")
    return {
        "first": as_json(first),
        "second": as_json(second),
        "matched": difference.matched,
        "level": first.champion["level"],
        "warnings": said,
        "differences": rows,
    }


def about_champion(scores: Scores) -> str:
    """The champion in one line: its name, protocol and score."""
    champion, nested = scores.champion, scores.champion.get("nested") or {}
    parts = [f"champion `{champion['champion']}` ({champion['procedure']}; {champion['hears']})"]
    for metric, name in (("pearson_mean", "mean r"), ("r2_pooled", "R2")):
        if metric in nested:
            s = nested[metric]
            parts.append(f"{name} {s['value']:.3f} [{s['ci_low']:.3f}, {s['ci_high']:.3f}]")
    if nested:
        parts.append("by nested cross-validation over music that was not learnt from (split `nested`)")
    if champion.get("coverage"):
        held = 100 * champion["coverage"]["mean"]
        parts.append(f"whose labels its {100 * champion['level']:.0f} % intervals held in {held:.1f} % of cases")
    return ", ".join(parts)


def _words(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
