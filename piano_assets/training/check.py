"""Check a trial's names against the registries, before anything is planned or trained.

The catalogue checks ranges; it stands below the rooms whose names it uses. Planner, command line and the reader of
users' trials call this.
"""

from collections.abc import Iterable

from piano_assets.catalogue.trial import BUDGETS, Encoder, IllegalTrial, Tabular, Trial
from piano_assets.training.folds import search_points


def check(trial: Trial) -> None:
    """Refuse a trial that names what does not exist, in its own fields or at any point of its search.

    Raises:
        IllegalTrial: naming the field, the rule and the value.
    """
    from piano_assets.corpus.splits import SPLITS

    _named("split", trial.split, SPLITS)
    if trial.inputs.features:
        from piano_assets.features.sets import FEATURE_SETS

        _named("inputs.features", trial.inputs.features, FEATURE_SETS)
    if trial.inputs.spectrogram:
        from piano_assets.features.spectrograms import SPECTROGRAMS

        _named("inputs.spectrogram", trial.inputs.spectrogram, SPECTROGRAMS)
    for field, values in trial.search:
        if not values:
            raise IllegalTrial(f"search: {field} must have at least one value (has none)")
    for point in (trial, *search_points(trial).values()):
        _check_point(point)


def _check_point(trial: Trial) -> None:
    if isinstance(trial.model, Tabular):
        from piano_assets.models.tabular import check_settings

        try:
            check_settings(trial.model.regressor, dict(trial.model.settings))
        except ValueError as error:
            raise IllegalTrial(str(error)) from error
    if isinstance(trial.model, Encoder):
        from piano_assets.models.transformer import ATTENTION

        _named("model.attention", trial.model.attention, ATTENTION)
    if trial.optimisation is not None:
        from piano_assets.training.losses import LOSSES
        from piano_assets.training.schedules import SCHEDULES

        _named("optimisation.loss", trial.optimisation.loss, LOSSES)
        _named("optimisation.schedule", trial.optimisation.schedule, SCHEDULES)
    _named("budget", trial.budget, BUDGETS)


def _named(field: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise IllegalTrial(f"{field}={value!r} must be one of {tuple(known)}")
