"""What each probe and diagnostic looks like: name -> figures from its rows in `robustness` or `diagnostics`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from piano_assets.report.error_plots import error_figure, importance_figure, size_figure
from piano_assets.report.network_plots import attention_over_notes, gradient_flow, loss_landscape
from piano_assets.report.robustness_plots import robustness_curves
from piano_assets.schemas.probes import DIAGNOSTICS, ROBUSTNESS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Tables = Mapping[str, pd.DataFrame]
Draw = Callable[[pd.DataFrame, Tables, str], "Figure"]


class Words(NamedTuple):
    """What a figure is called, and what it shows."""

    title: str
    note: str


WORDS: dict[str, Words] = {
    "noise": Words(
        "Noise",
        "Mean r on a sample of test clips with noise added; bands are 95 % intervals, clustered by music "
        "and performer.",
    ),
    "tempo": Words(
        "Tempo",
        "Notes played at another tempo and rendered again, and sound stretched at one pitch. Labels "
        "describe pace, so predictions should move; the scores are against the labels of the clip as it "
        "was played.",
    ),
    "cross_composer": Words(
        "Composers that were not heard in training",
        "The same trial trained without these composers, beside the trial on its own split, on the same clips.",
    ),
    "cross_performer": Words(
        "Performers that were not heard in training",
        "The same trial trained without these performers, beside the trial on its own split.",
    ),
    "recording_quality": Words(
        "Recording quality",
        "Mean r on clips of another piano, of narrow bands, rooms, codecs and levels.",
    ),
    "adversarial": Words(
        "Adversaries",
        "Inputs changed by at most epsilon (in standard deviations of the training clips) against the "
        "network, beside random changes of that size.",
    ),
    "transcribed": Words(
        "Notes heard instead of read",
        "Mean r on clips whose notes were transcribed from their sound, beside the same clips with their true notes.",
    ),
    "learning_curves": Words(
        "Learning curves",
        "Left: losses and validation r over epochs. Right: scores over the number of clips learnt from, "
        "with the inverse power law that they follow.",
    ),
    "loss_landscape": Words(
        "Loss landscape",
        "The loss around the network, one step being as long as the weights of each filter (Li et al. 2018).",
    ),
    "gradients": Words(
        "Gradient flow and noise",
        "How large each layer's gradient is beside its weights, and how many clips it takes until the "
        "gradient is more than noise (McCandlish et al. 2018).",
    ),
    "attention_rollout": Words(
        "Where a network looks",
        "Attention rolled out through all layers (Abnar & Zuidema 2020). Where a network looks is not why it judges.",
    ),
    "feature_importance": Words(
        "What features are needed for",
        "What mean r loses when a family of features is exchanged between test clips.",
    ),
    "error_analysis": Words(
        "Where it errs",
        "A linear mixed model of a clip's error and of signed residuals, with excerpts and performers as "
        "random effects.",
    ),
}

FIGURES: dict[str, Draw] = {
    "learning_curves": lambda rows, tables, title: size_figure(rows, title),
    "loss_landscape": lambda rows, tables, title: loss_landscape(rows, title),
    "gradients": lambda rows, tables, title: gradient_flow(rows, title),
    "attention_rollout": lambda rows, tables, title: attention_over_notes(rows, tables["notes"], title),
    "feature_importance": lambda rows, tables, title: importance_figure(rows, title),
    "error_analysis": lambda rows, tables, title: error_figure(rows, title),
}
"""Diagnostics one subject at a time; the tables of clips and notes stand by."""


@dataclass(frozen=True)
class ProbePlot:
    """A figure of a probe: its name, what it shows, of whom."""

    probe: str
    subject: str
    title: str
    figure: "Figure"


def probe_plots(robustness: pd.DataFrame, diagnostics: pd.DataFrame, tables: Tables) -> Iterator[ProbePlot]:
    """A figure for each probe of robustness with all its subjects, and one for each diagnostic and subject.

    tables: `notes`, for those that draw over them.
    """
    for probe in ROBUSTNESS:
        rows = robustness[robustness["probe"] == probe]
        if len(rows):
            yield ProbePlot(probe, "", WORDS[probe].title, robustness_figure(rows))
    for probe in DIAGNOSTICS:
        for subject, rows in diagnostics[diagnostics["probe"] == probe].groupby("subject", sort=True):
            yield ProbePlot(probe, str(subject), f"{WORDS[probe].title}: {subject}", diagnostic_figure(rows, tables))


def robustness_figure(rows: pd.DataFrame) -> "Figure":
    """Mean r of one probe's subjects over the strength of what was done to the clips."""
    probe = str(rows["probe"].iloc[0])
    protocol = ", ".join(sorted({f"split {r.split}, {r.rule} labels" for r in rows.itertuples()}))
    return robustness_curves(rows, probe, f"{WORDS[probe].title.lower()}: mean r, {protocol}")


def diagnostic_figure(rows: pd.DataFrame, tables: Tables) -> "Figure":
    """One diagnostic of one subject."""
    first = rows.iloc[0]
    title = f"{first['subject']}: {WORDS[first['probe']].title.lower()}, split {first['split']}, {first['rule']} labels"
    return FIGURES[first["probe"]](rows, tables, title)
