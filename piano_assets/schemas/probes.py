"""The tables of what trained models are asked afterwards: probes, diagnostics, looks at the truth; champions."""

from piano_assets.schemas.columns import (
    CI,
    DIMENSION,
    DIMENSION_OR_MEAN,
    LEVEL,
    POPULATION,
    RULE,
    SPLIT,
    SUBJECT,
    TUNINGS,
    Column,
    Table,
    integer,
    number,
    text,
)

ADVERSARIAL, TRANSCRIBED = "adversarial", "transcribed"
ROBUSTNESS = ("noise", "tempo", "cross_composer", "cross_performer", "recording_quality", ADVERSARIAL, TRANSCRIBED)
DIAGNOSTICS = (
    *("learning_curves", "loss_landscape", "gradients", "attention_rollout", "feature_importance", "error_analysis"),
)


def _probed(probes: tuple[str, ...], condition: str, step: str) -> dict[str, Column]:
    """The columns that both tables share."""
    return {
        "subject": SUBJECT,
        "split": SPLIT,
        "rule": RULE,
        "tuning": text("'tuned' by search on inner validation, or 'fixed'", values=TUNINGS),
        "probe": text("probe", values=probes),
        "condition": text(condition),
        "step": number(step, nullable=True),
        "population": POPULATION,
        "dimension": DIMENSION_OR_MEAN,
        "metric": text("metric"),
        "value": number("value", nullable=True),
        **CI,
    }


KEY = ("subject", "split", "rule", "tuning", "probe", "condition", "step", "population", "dimension", "metric")

TABLES: tuple[Table, ...] = (
    Table(
        "robustness",
        "What becomes of a subject's score when its clips, or what it learnt from, are changed by more and more.",
        _probed(ROBUSTNESS, "what was done to the clips; 'clean' where nothing was", "how much of it; NULL for clean"),
        KEY,
    ),
    Table(
        "diagnostics",
        "What goes on inside a trained model, and where it errs.",
        _probed(DIAGNOSTICS, "what the row is about: a layer, a group of features, a clip, ...", "place on its axis"),
        KEY,
    ),
    Table(
        "adaptation_curves",
        "What adapting brings over the number of rated clips, and what is forgotten where dimensions come in groups.",
        {
            "subject": SUBJECT,
            "split": SPLIT,
            "rule": RULE,
            "curve": text("what the steps are", values=("support", "sequence")),
            "group": text("group of dimensions, or all of them"),
            "step": integer("rated clips of the performer; groups of dimensions learnt so far", 0),
            "population": POPULATION,
            "level": LEVEL,
            "metric": text("metric; with '_change' less that of the unadapted, paired"),
            "value": number("value", nullable=True),
            **CI,
        },
        ("subject", "split", "rule", "curve", "group", "step", "population", "level", "metric"),
    ),
    Table(
        "evaluation_ledger",
        "Every look at an outer score by a procedure that chooses: what was looked at, when and why.",
        {
            "at": Column(type="time", description="when it was looked at"),
            "procedure": text("what was scored, with its choices inside"),
            "split": SPLIT,
            "metric": text("metric"),
            "value": number("value"),
            **CI,
            "part_key": text("part key of the predictions that were scored"),
            "git_commit": text("commit", nullable=True),
            "reason": text("why it was looked at"),
        },
        ("at", "procedure", "split", "metric"),
    ),
    Table(
        "champions",
        "The champions, fitted on all clips: by which procedure, and how sure their scores are.",
        {
            "champion": text("what it hears"),
            "procedure": text("the procedure that was applied to all clips"),
            "dimension": DIMENSION,
            "half_width": number("half the width of an interval around a score, 0..1 scale", 0),
            "level": number("share of labels of unheard clips that such intervals hold", 0, 1),
            "inner_r": number("correlation over the clips, each predicted by members that had not learnt from it"),
            "n_clips": integer("clips that it learnt from", 1),
            "part_key": text("part key of the champion"),
            "git_commit": text("commit", nullable=True),
            "fitted_at": Column(type="time", description="when it was fitted"),
        },
        ("champion", "dimension"),
    ),
)
