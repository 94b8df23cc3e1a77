"""Check a trial's names against the registries, before anything is planned or trained.

The catalogue checks ranges; it stands below the rooms whose names it uses. Planner, command line and the reader of
users' trials call this.
"""

from collections.abc import Iterable

from piano_assets.catalogue.trial import BUDGETS, Encoder, IllegalTrial, Tabular, Trial
from piano_assets.training.data import WAVEFORM, feature_variants
from piano_assets.training.members import search_points
from piano_assets.training.stacks import stack_key


def check(trial: Trial) -> None:
    """Refuse a trial that names what does not exist or asks for what does not fit, at any point of its search.

    Raises:
        IllegalTrial: naming the field, the rule and the value.
    """
    from piano_assets.corpus.splits import SPLITS

    _named("split", trial.split, SPLITS)
    _named("budget", trial.budget, BUDGETS)
    if trial.inputs.features:
        from piano_assets.features.sets import FEATURE_SETS

        _named("inputs.features", trial.inputs.features, FEATURE_SETS)
    if trial.inputs.spectrogram:
        from piano_assets.features.spectrogram_specs import SPECTROGRAMS

        _named("inputs.spectrogram", trial.inputs.spectrogram, [s for s in SPECTROGRAMS if s != WAVEFORM])
    _check_views(trial)
    from piano_assets.corpus.rendering.registry import RENDERERS
    from piano_assets.corpus.transcription import AS_HEARD, TRANSCRIBED

    heard = (prefix + name for prefix in (TRANSCRIBED, AS_HEARD) for name in RENDERERS)
    _named("inputs.rendering", trial.inputs.rendering, [*RENDERERS, *heard])
    for field, values in trial.search:
        if not values:
            raise IllegalTrial(f"search: {field} must have at least one value (has none)")
    for point in (trial, *search_points(trial).values()):
        if isinstance(point.model, Tabular):
            _check_tabular(point.model)
        else:
            _check_network(point, point.model)
            if stack_key(point) != stack_key(trial):
                raise IllegalTrial(
                    f"search: {[f for f, _ in trial.search]} must leave shapes and steps alone: search points of a "
                    "network train as one stack"
                )


def _check_tabular(model: Tabular) -> None:
    from piano_assets.models.tabular import check_settings

    try:
        check_settings(model.regressor, dict(model.settings))
    except ValueError as error:
        raise IllegalTrial(str(error)) from error


def _check_network(trial: Trial, model: Encoder) -> None:
    from piano_assets.models.fusion import FUSIONS
    from piano_assets.training.losses import LOSSES
    from piano_assets.training.schedules import SCHEDULES

    assert trial.optimisation is not None
    if model.fusion:
        _named("model.fusion", model.fusion, FUSIONS)
    _named("optimisation.loss", trial.optimisation.loss, LOSSES)
    _named("optimisation.schedule", trial.optimisation.schedule, SCHEDULES)
    _check_patches(trial, model)
    _check_attention(trial, model)
    _check_augmentation(trial)


def _check_patches(trial: Trial, model: Encoder) -> None:
    from piano_assets.features.spectrogram_specs import SPECTROGRAMS

    if trial.inputs.spectrogram and model.patch_size > SPECTROGRAMS[trial.inputs.spectrogram].n_bands:
        raise IllegalTrial(
            f"model.patch_size={model.patch_size} must be at most the bands of {trial.inputs.spectrogram} "
            f"({SPECTROGRAMS[trial.inputs.spectrogram].n_bands})"
        )


def _check_attention(trial: Trial, model: Encoder) -> None:
    from piano_assets.models.attention import check_settings
    from piano_assets.models.network import KINDS, MULTI_SCALE

    _named("model.attention", model.attention, KINDS)
    if model.attention == MULTI_SCALE:
        if not trial.inputs.spectrogram:
            raise IllegalTrial(f"model.attention={MULTI_SCALE!r} needs patches of a spectrogram (is None)")
        if model.settings:
            raise IllegalTrial(f"model.settings={model.settings!r}: {MULTI_SCALE} has none")
        return
    try:
        check_settings(model.attention, dict(model.settings))
    except ValueError as error:
        raise IllegalTrial(str(error)) from error


def _check_augmentation(trial: Trial) -> None:
    bent = trial.augmentation
    spectrogram = trial.inputs.spectrogram
    for name in ("spec_augment", "cutmix", "time_stretch", "pitch_shift"):
        again = bent.rerender and trial.inputs.sequence is None and name in ("time_stretch", "pitch_shift")
        if getattr(bent, name) and not (spectrogram or again):
            raise IllegalTrial(f"augmentation.{name}={getattr(bent, name)} needs a spectrogram (is None)")
    for name in ("mixup", "c_mixup"):
        if getattr(bent, name) and trial.inputs.features:
            raise IllegalTrial(f"augmentation.{name}={getattr(bent, name)} mixes sequences, not features")
    if bent.bends_sound and not bent.rerender:
        from piano_assets.features.spectrogram_specs import SPECTROGRAMS

        transform = SPECTROGRAMS[str(spectrogram)].transform
        if transform != "mel":
            raise IllegalTrial(
                f"augmentation: sound is bent on the way to a mel spectrogram; inputs.spectrogram={spectrogram!r} is "
                f"{transform!r}: rerender=True alters the notes instead"
            )
    if bent.c_mixup and bent.mixup:
        raise IllegalTrial(f"augmentation: mixup={bent.mixup} and c_mixup={bent.c_mixup} choose partners differently")


def _check_views(trial: Trial) -> None:
    """Features of altered clips are those of notes: nothing else may be heard."""
    from piano_assets.features.sets import SOURCES

    variants = feature_variants(trial)
    sources = SOURCES.get(str(trial.inputs.features), ("audio",))
    if variants and (trial.inputs.sequence or sources != ("symbolic",)):
        heard = trial.inputs.sequence or trial.inputs.features
        raise IllegalTrial(
            f"features are computed again of {', '.join(variants)} where nothing but features of notes is heard, "
            f"not {heard!r} (inputs.views={trial.inputs.views}, augmentation.rerender={trial.augmentation.rerender})"
        )


def _named(field: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise IllegalTrial(f"{field}={value!r} must be one of {tuple(known)}")
