"""What a trial consists of: model, inputs, optimisation, augmentation."""

from dataclasses import dataclass

from piano_assets.catalogue.rules import conform, require
from piano_assets.corpus.transcription import AS_HEARD, TRANSCRIBED
from piano_assets.dimensions import N_DIMENSIONS

Scalar = str | int | float | bool
Settings = tuple[tuple[str, Scalar], ...]


@dataclass(frozen=True, kw_only=True)
class Tabular:
    """A regressor on a table of features; `settings` override the registry's defaults.

    What it learns are the labels, or, of its training clips, what is asked for here; it is judged by the labels always.

    Attributes:
        label_rank: learn so many principal components of the standardised labels instead of all 19; 0 learns all.
        unbiased_labels: learn labels without the biases of the listeners, estimated among the training clips.
        error_weights: a clip counts by how sure its labels are.
    """

    regressor: str = "random_forest"
    settings: Settings = ()
    label_rank: int = 0
    unbiased_labels: bool = False
    error_weights: bool = False

    def __post_init__(self) -> None:
        conform(self, "model.")
        require(
            0 <= self.label_rank <= N_DIMENSIONS, f"model.label_rank={self.label_rank} must lie in 0..{N_DIMENSIONS}"
        )


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A transformer over the patches of a spectrogram or over note events, a branch over features, or both fused.

    `head_dim` is explicit, so that the inner width is heads x head_dim whatever `dim` is. `settings` override the
    defaults of the attention kind. `fusion` says how the two branches of a hybrid meet, and is empty elsewhere.
    """

    depth: int = 3
    dim: int = 256
    heads: int = 4
    head_dim: int = 64
    mlp_ratio: float = 2.0
    dropout: float = 0.4
    patch_size: int = 16
    attention: str = "vanilla"
    settings: Settings = ()
    fusion: str = ""
    stochastic_depth: float = 0.0
    spectral_norm: bool = False

    def __post_init__(self) -> None:
        conform(self, "model.")
        for name in ("depth", "dim", "heads", "head_dim", "patch_size"):
            value = getattr(self, name)
            require(value >= 1, f"model.{name}={value!r} must be an integer >= 1")
        require(self.dim % 2 == 0, f"model.dim={self.dim} must be even: positions are pairs of sine and cosine")
        hidden = round(self.dim * self.mlp_ratio)
        require(hidden >= 1, f"model.mlp_ratio={self.mlp_ratio} must leave a hidden layer of >= 1 (is {hidden})")
        for name in ("dropout", "stochastic_depth"):
            value = getattr(self, name)
            require(0 <= value < 1, f"model.{name}={value} must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a model hears of one rendering: a feature set, a spectrogram, note events, or features beside one of these.

    `top_k` keeps the k features that a forest finds most important in the training clips of each fold; 0 keeps all.
    `views`: predictions are means over the features of the clip transposed by up to so many semitones, and as it is.
    """

    features: str | None = None
    spectrogram: str | None = None
    notes: bool = False
    top_k: int = 0
    rendering: str = "modal"
    views: int = 0

    def __post_init__(self) -> None:
        conform(self, "inputs.")
        require(
            bool(self.features or self.spectrogram or self.notes),
            "inputs: name a feature set, a spectrogram or notes (all are empty)",
        )
        require(not (self.spectrogram and self.notes), f"inputs: notes beside spectrogram={self.spectrogram!r}")
        require(self.top_k >= 0, f"inputs.top_k={self.top_k} must be >= 0")
        require(
            not (self.rendering.startswith((TRANSCRIBED, AS_HEARD)) and self.sequence),
            f"inputs.rendering={self.rendering!r} has features only, no {self.sequence}",
        )
        require(not self.top_k or bool(self.features), f"inputs.top_k={self.top_k} selects features: name their set")
        require(0 <= self.views <= 12, f"inputs.views={self.views} must lie in [0, 12] semitones")

    @property
    def sequence(self) -> str | None:
        """What runs in time: a spectrogram's name, `note_events`, or None where there are features only."""
        return "note_events" if self.notes else self.spectrogram


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How a network is trained. Learning rate per AdamW step; warm-up as a share of all steps.

    `label_smoothing` moves every label by this share towards the training mean; `spread_smoothing` moves it by the
    share of its variance that is rater noise. `snapshots`: that many cycles of the schedule `cyclic_cosine`, each of
    which leaves a network at its end; predictions are their mean, and nothing stops early (Huang et al. 2017).
    """

    loss: str = "mse"
    schedule: str = "warmup_cosine"
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    warmup: float = 0.1
    batch_size: int = 32
    label_smoothing: float = 0.0
    spread_smoothing: bool = False
    snapshots: int = 0

    def __post_init__(self) -> None:
        conform(self, "optimisation.")
        require(self.learning_rate > 0, f"optimisation.learning_rate={self.learning_rate} must be > 0")
        require(self.weight_decay >= 0, f"optimisation.weight_decay={self.weight_decay} must be >= 0")
        require(0 <= self.warmup < 1, f"optimisation.warmup={self.warmup} must lie in [0, 1)")
        require(self.batch_size >= 1, f"optimisation.batch_size={self.batch_size} must be >= 1")
        require(
            self.snapshots == 0 or (self.snapshots >= 2 and self.schedule == "cyclic_cosine"),
            f"optimisation.snapshots={self.snapshots} must be 0, or >= 2 with schedule 'cyclic_cosine' "
            f"(is {self.schedule!r})",
        )
        require(
            0 <= self.label_smoothing < 1, f"optimisation.label_smoothing={self.label_smoothing} must lie in [0, 1)"
        )


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What happens to training crops; everything off by default.

    Attributes:
        spec_augment, mixup, c_mixup, cutmix: probability, per crop, of each. Mixtures exclude one another.
        time_stretch: largest relative change of tempo; 0.2 draws tempo ratios from 0.8 to 1.2.
        pitch_shift: largest shift in semitones.
        rerender: stretch and shift the notes and render them again, instead of the sound; where only features of
            notes are heard, compute these again.
        factor: number of fixed versions of each clip, the untouched one among them; 0 draws afresh every time.
        longer: with a factor, an epoch passes over all versions, which multiplies the steps; else steps stay equal.
    """

    spec_augment: float = 0.0
    mixup: float = 0.0
    c_mixup: float = 0.0
    cutmix: float = 0.0
    time_stretch: float = 0.0
    pitch_shift: int = 0
    rerender: bool = False
    factor: int = 0
    longer: bool = False

    def __post_init__(self) -> None:
        conform(self, "augmentation.")
        for name in ("spec_augment", "mixup", "c_mixup", "cutmix"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"augmentation.{name}={value} must lie in [0, 1]")
        mixed = self.mixup + self.c_mixup + self.cutmix
        require(mixed <= 1, f"augmentation: mixup + c_mixup + cutmix = {mixed:g} must be <= 1")
        require(0 <= self.time_stretch <= 0.5, f"augmentation.time_stretch={self.time_stretch} must lie in [0, 0.5]")
        require(0 <= self.pitch_shift <= 12, f"augmentation.pitch_shift={self.pitch_shift} must lie in [0, 12]")
        require(self.factor == 0 or self.factor >= 2, f"augmentation.factor={self.factor} must be 0 or >= 2")
        require(not self.longer or self.factor > 0, "augmentation.longer=True needs a factor (is 0)")
        require(
            not self.rerender or self.bends_sound,
            "augmentation.rerender=True needs time_stretch or pitch_shift (are 0)",
        )

    @property
    def bends_sound(self) -> bool:
        """Whether tempo or pitch change."""
        return bool(self.time_stretch or self.pitch_shift)
