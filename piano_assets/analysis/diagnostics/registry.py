"""The diagnostics: what each shows, of which trials it can be asked, and its rows.

A new one is a function and a line here; its plot is a line in `report/probe_plots.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from piano_assets.analysis.panel import Units, units
from piano_assets.catalogue.trial import Encoder, Trial
from piano_assets.store.parts import Part, Store, read_part
from piano_assets.training.data import standing, way_of

if TYPE_CHECKING:
    from piano_assets.training.fitted import Fitted

SEED = 0
N_DRAWN = 4
"""Clips whose attention is drawn."""

Progress = Callable[[int, int], None]


class NotTrained(FileNotFoundError):
    """Predictions of a subject are wanted that nobody has made yet."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A subject that is asked: what of it is stored, and its models where a diagnostic needs them.

    settings: of the diagnostic, by name; what is not set has its default.
    """

    config: str
    trial: Trial
    store: Store
    device: str = "cpu"
    settings: Mapping[str, object] = field(default_factory=dict)
    progress: Progress = lambda done, total: None

    @cached_property
    def fitted(self) -> "Fitted":
        """Its models.

        Raises:
            NotFitted: none are kept here.
        """
        from piano_assets.training.fitted import fitted

        return fitted(self.store, self.config, self.trial, self.device)

    @cached_property
    def run(self) -> Part:
        """The `runs` part that vouches for what is stored: that of the kept models, where there are any.

        Raises:
            NotTrained: nothing stands.
        """
        from piano_assets.training.fitted import kept

        if (where := kept(self.store, self.config, self.trial, self.device)) is not None:
            return where[0]
        found = standing(self.trial, self.config, SEED, self.store, self.device.split(":")[0])
        if not found:
            raise NotTrained(f"{self.config}|{SEED} is not trained: piano sweep {self.config}")
        return found[0]

    def stored(self, table: str) -> pd.DataFrame:
        """A table of the run, outer level."""
        part = self.store.part(table, self.run.name, key=self.run.key)
        if part is None:
            raise NotTrained(f"{self.config}|{SEED} has no {table}: its parts were removed by hand")
        frame = read_part(part).to_pandas()
        return frame[frame["inner_fold"].isna()]

    @cached_property
    def known(self) -> Units:
        return units(self.store.read("clips", "all"), self.store.read("labels", self.trial.label_rule))

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(0)

    def drawn(self) -> list[str]:
        """A few test clips of people, of different music, one more of each cluster as more are asked for."""
        from piano_assets.analysis.robustness.curves import sample

        chosen = sample(self.fitted, self.known, 3 * N_DRAWN)
        rows = np.concatenate(list(chosen.values()))
        human = self.known.human[self.known.clip.get_indexer(self.fitted.data.clips[rows])]
        return [str(clip) for clip in self.fitted.data.clips[rows[human]][:N_DRAWN]]


@dataclass(frozen=True)
class Diagnostic:
    """What a diagnostic shows, why it cannot be asked of a trial (None: it can), and its rows."""

    description: str
    why_not: Callable[[Trial], str | None]
    rows: Callable[[Asked], pd.DataFrame]


def networks_only(trial: Trial) -> str | None:
    return None if trial.optimisation is not None else "it is no network"


def _always(trial: Trial) -> str | None:
    return None


def _attends(trial: Trial) -> str | None:
    from piano_assets.models.attention import PAIRS

    if not isinstance(trial.model, Encoder) or trial.inputs.sequence is None:
        return "it has no attention"
    kind = trial.model.attention
    return None if kind in PAIRS else f"attention {kind!r} gives no weights to single tokens"


def _reads_features(trial: Trial) -> str | None:
    return None if trial.inputs.features else "it reads no features"


def _learning_curves(asked: Asked) -> pd.DataFrame:
    from piano_assets.analysis.diagnostics.data_size import SHARES, data_size, epochs

    shares = asked.settings.get("shares", SHARES)
    frames = [epochs(asked.stored("history"))] if asked.trial.optimisation is not None else []
    if shares:
        frames.append(
            data_size(
                asked.trial,
                asked.config,
                asked.store,
                shares=shares,  # type: ignore[arg-type]
                device=asked.device,
                precision="float32" if asked.trial.optimisation is None else way_of(asked.run)[0],
                progress=asked.progress,
            )
        )
    return pd.concat(frames, ignore_index=True)


def _loss_landscape(asked: Asked) -> pd.DataFrame:
    from piano_assets.analysis.diagnostics.loss_landscape import loss_landscape

    return loss_landscape(asked.fitted, asked.rng)


def _gradients(asked: Asked) -> pd.DataFrame:
    from piano_assets.analysis.diagnostics.gradients import gradients

    return gradients(asked.fitted, asked.rng)


def _attention_rollout(asked: Asked) -> pd.DataFrame:
    from piano_assets.analysis.diagnostics.attention_rollout import attention_rollout

    return attention_rollout(asked.fitted, asked.drawn(), notes=asked.store.read("notes", "all"))


def _feature_importance(asked: Asked) -> pd.DataFrame:
    from piano_assets.analysis.diagnostics.feature_importance import feature_importance

    return feature_importance(asked.fitted, asked.known, asked.rng, progress=asked.progress)


def _error_analysis(asked: Asked) -> pd.DataFrame:
    from threadpoolctl import threadpool_limits

    from piano_assets.analysis.diagnostics.error_analysis import by_clip, error_analysis

    stored = asked.stored("predictions")
    pred = by_clip(stored[stored["tuning"] == stored["tuning"].max()])  # 'tuned' where there is such
    labels = asked.store.read("labels", asked.trial.label_rule)
    # Matrices of a hundred rows: threads would only wait for one another.
    with threadpool_limits(1):
        return error_analysis(pred, asked.store.read("clips", "all"), labels, progress=asked.progress)


DIAGNOSTICS: dict[str, Diagnostic] = {
    "learning_curves": Diagnostic(
        "How losses and scores go over the epochs, and over the number of clips learnt from.", _always, _learning_curves
    ),
    "loss_landscape": Diagnostic(
        "The loss around the kept network, along filter-normalised directions.", networks_only, _loss_landscape
    ),
    "gradients": Diagnostic(
        "How gradients flow through the layers, and how noisy they are.", networks_only, _gradients
    ),
    "attention_rollout": Diagnostic(
        "Where in a clip a network looks, laid over the notes.", _attends, _attention_rollout
    ),
    "feature_importance": Diagnostic(
        "What the score loses when a family of features is exchanged between clips.",
        _reads_features,
        _feature_importance,
    ),
    "error_analysis": Diagnostic(
        "Where a subject errs: music, performers, lengths, raters, dimensions, and its ten worst clips.",
        _always,
        _error_analysis,
    ),
}
