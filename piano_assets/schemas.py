"""Every table of the project: columns, types, ranges, keys and what they mean.

One declaration serves the Parquet parts, the DuckDB snapshot, the checks and the column descriptions in the UI.
`docs/data.md` is the reader's version. The column `corpus` is added when parts enter the snapshot.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from piano_assets.dimensions import NAMES

TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float64(),
    "float32": pa.float32(),
    "flag": pa.bool_(),
    "time": pa.timestamp("us", tz="UTC"),
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its type (a key of `TYPES`), its meaning, and what a legal value is."""

    type: str
    description: str
    nullable: bool = False
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] | None = None

    def broken(self, values: pd.Series) -> Iterator[tuple[str, pd.Series]]:
        """Each rule of the column in words, and where `values` break it. NULL breaks no range."""
        null = values.isna()
        if not self.nullable:
            yield "must not be NULL", null
        if self.low is not None:
            yield f"must be >= {self.low:g}", ~null & ~(values >= self.low).fillna(False).astype(bool)
        if self.high is not None:
            yield f"must be <= {self.high:g}", ~null & ~(values <= self.high).fillna(False).astype(bool)
        if self.values is not None:
            yield f"must be one of {', '.join(self.values)}", ~null & ~values.isin(self.values)


class TableError(ValueError):
    """A frame that breaks its table's declaration; the message names table, rule, value and row."""


@dataclass(frozen=True)
class Table:
    """One table: its columns in order and the key whose values may not repeat."""

    name: str
    description: str
    columns: dict[str, Column]
    key: tuple[str, ...] = ()

    @property
    def arrow_schema(self) -> pa.Schema:
        return pa.schema([pa.field(n, TYPES[c.type], nullable=c.nullable) for n, c in self.columns.items()])

    def empty(self) -> pd.DataFrame:
        return self.arrow_schema.empty_table().to_pandas()

    def conform(self, frame: pd.DataFrame) -> pa.Table:
        """Return `frame` as an Arrow table in this table's column order and types.

        Raises:
            TableError: a column is missing or unknown, a value has the wrong type, lies outside its range, is null
                where it may not be, or a key repeats.
        """
        wrong = [f"missing column {c!r}" for c in self.columns if c not in frame.columns]
        wrong += [f"unknown column {c!r}" for c in frame.columns if c not in self.columns]
        if wrong:
            raise TableError(f"table {self.name!r}: {'; '.join(wrong)}")
        try:
            table = pa.Table.from_pandas(frame[list(self.columns)], schema=self.arrow_schema, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
            raise TableError(f"table {self.name!r}: {error}") from error
        problems = self.violations(frame)
        if problems:
            raise TableError(f"table {self.name!r}: {'; '.join(problems[:5])}")
        return table.replace_schema_metadata(None)

    def violations(self, frame: pd.DataFrame) -> list[str]:
        """Say, one sentence each, which rules `frame` breaks; an empty list when it breaks none."""
        found = []
        for name, column in self.columns.items():
            values = frame[name]
            for rule, broken in column.broken(values):
                if broken.any():
                    first = values[broken].iloc[0]
                    found.append(f"column {name!r}: {rule}, broken by {int(broken.sum())} value(s), first {first!r}")
        repeated = frame.duplicated(list(self.key)) if self.key else pd.Series(False, index=frame.index)
        if repeated.any():
            first_key = frame.loc[repeated, list(self.key)].iloc[0].to_dict()
            found.append(f"key {self.key}: must be unique, broken by {int(repeated.sum())} row(s), first {first_key}")
        return found


def text(description: str, *, nullable: bool = False, values: tuple[str, ...] | None = None) -> Column:
    return Column(type="text", description=description, nullable=nullable, values=values)


def integer(description: str, low: float | None = None, high: float | None = None, nullable: bool = False) -> Column:
    return Column(type="integer", description=description, low=low, high=high, nullable=nullable)


def number(description: str, low: float | None = None, high: float | None = None, nullable: bool = False) -> Column:
    return Column(type="float", description=description, low=low, high=high, nullable=nullable)


def flag(description: str) -> Column:
    return Column(type="flag", description=description)


RULES = ("clean", "published")
ROLES = ("train", "valid", "test", "unused")
POPULATIONS = ("all", "humans")
LEVELS = ("global", "within_excerpt")
SUBJECT_KINDS = ("trial", "arm", "ensemble", "lookup", "published")
TUNINGS = ("tuned", "fixed")
VERDICTS = ("better", "worse", "equivalent", "inconclusive")

_CLIP = text("file stem of one performance of one excerpt")
_DIMENSION = text("one of the 19 rated dimensions", values=NAMES)
_DIMENSION_OR_MEAN = text("one of the 19 dimensions, or their mean", values=(*NAMES, "mean"))
_RULE = text("rule by which ratings became labels", values=RULES)
_POPULATION = text("all clips, or those played by people", values=POPULATIONS)
_LEVEL = text("as they are, or centred within excerpts of at least 5 clips", values=LEVELS)
_SPLIT = text("name of the split")
_REPEAT = integer("repeat of the fold assignment", 0)
_FOLD = integer("outer fold", 0)
_INNER_FOLD = integer("inner fold; NULL in the outer level", 0, nullable=True)
_TRIAL = text("trial key: hash of what decides the result, without the seed")
_SEED = integer("seed of initialisation, data order and repeat", 0)
_SUBJECT = text("whatever has predictions: a trial with a seed, an arm, an ensemble, a lookup, a published result")
_CI = {
    "ci_low": number("lower end of the 95 % interval", nullable=True),
    "ci_high": number("upper end of the 95 % interval", nullable=True),
}


def _declare(*tables: Table) -> dict[str, Table]:
    return {t.name: t for t in tables}


TABLES: dict[str, Table] = _declare(
    Table(
        "clips",
        "One row per performance of an excerpt.",
        {
            "clip": _CLIP,
            "composer": text("composer"),
            "work": text("work, as the file names write it"),
            "movement": text("movement or variation", nullable=True),
            "bars": integer("length of the excerpt in bars", 1),
            "segment": integer("number of the excerpt within work and length", 0),
            "excerpt": text("work, movement, bars and segment: the music that is played"),
            "cluster": text("excerpts that share music; the unit of the leak-free split"),
            "player": text("player id as the file name gives it"),
            "performer": text("work and player: a person (or deadpan rendition)"),
            "deadpan": flag("a rendition by notation software, not by a person"),
            "duration_s": number("first onset to last note-off", 0),
            "n_notes": integer("number of notes", 1),
            "content_hash": text("SHA-256 of the notes and controls"),
        },
        ("clip",),
    ),
    Table(
        "quarantine",
        "What was set aside, by which rule, and the offending value. Nothing is dropped silently.",
        {
            "source": text("file or table that the item came from"),
            "item": text("file name, row or clip"),
            "rule": text("rule that was broken"),
            "value": text("value that broke it", nullable=True),
        },
    ),
    Table(
        "notes",
        "Every note of every clip, in seconds from the clip's first onset.",
        {
            "clip": _CLIP,
            "onset_s": number("onset", 0),
            "offset_s": number("note-off (key released)", 0),
            "pitch": integer("MIDI pitch", 0, 127),
            "velocity": integer("MIDI velocity", 1, 127),
        },
    ),
    Table(
        "controls",
        "Pedal movements of every clip, in seconds from the clip's first onset; the state before it stands at 0.",
        {
            "clip": _CLIP,
            "time_s": number("time of the movement", 0),
            "controller": integer("64 sustain, 66 sostenuto, 67 soft", 0, 127),
            "value": integer("position", 0, 127),
        },
    ),
    Table(
        "ratings",
        "Every single answer of every listener.",
        {
            "row": integer("row of the ratings file, from 0", 0),
            "rating_id": integer("dataID: one listener's answers to one clip", 0),
            "clip": _CLIP,
            "rater": text("listener"),
            "round": text("round of the rating campaign"),
            "dimension": _DIMENSION,
            "raw": number("answer as stored, 0..9 or NULL", 0, 9, nullable=True),
            "value": number("answer, 1..7, or NULL where it is none (blank, 0, 8, 9)", 1, 7, nullable=True),
            "duplicate": flag("an exact repetition of an earlier row"),
        },
        ("row", "dimension"),
    ),
    Table(
        "labels",
        "A clip's ratings on a dimension, aggregated by a rule and divided by 7.",
        {
            "clip": _CLIP,
            "dimension": _DIMENSION,
            "rule": _RULE,
            "value": number("mean rating / 7", 0, 1),
            "standard_error": number("standard error of the value; NULL with one rater", 0, nullable=True),
            "n_raters": integer("ratings that entered", 1),
        },
        ("clip", "dimension", "rule"),
    ),
    Table(
        "noise_ceiling",
        "How well listeners agree, and so how well any model can do.",
        {
            "method": text("estimator", values=("split_half", "anova_icc")),
            "rule": _RULE,
            "population": _POPULATION,
            "level": _LEVEL,
            "dimension": _DIMENSION_OR_MEAN,
            "reliability": number("reliability of the mean rating"),
            **_CI,
            "max_r": number("highest reachable correlation: the root of the reliability", nullable=True),
            "max_r2": number("highest reachable R2: the reliability", nullable=True),
        },
        ("method", "rule", "population", "level", "dimension"),
    ),
    Table(
        "clusters",
        "Excerpts that share music, directly or through others: the unit of the leak-free split.",
        {
            "excerpt": text("work, movement, bars and segment"),
            "cluster": text("name of its cluster: the first of its excerpts"),
            "n_clips": integer("performances of the excerpt", 1),
        },
        ("excerpt",),
    ),
    Table(
        "splits",
        "Which role each clip plays in each fold.",
        {
            "split": _SPLIT,
            "repeat": _REPEAT,
            "fold": _FOLD,
            "inner_fold": _INNER_FOLD,
            "clip": _CLIP,
            "role": text("role", values=ROLES),
            "split_hash": text("hash of the whole assignment"),
        },
        ("split", "repeat", "fold", "inner_fold", "clip"),
    ),
    Table(
        "leaks",
        "Share of a fold's test clips that have a relative in training, by kind of kinship.",
        {
            "split": _SPLIT,
            "repeat": _REPEAT,
            "fold": _FOLD,
            "kind": text("kinship", values=("cluster", "excerpt", "performer", "identical_notes")),
            "share": number("share of test clips", 0, 1),
            "promised_zero": flag("the split promises that this share is 0"),
        },
        ("split", "repeat", "fold", "kind"),
    ),
    Table(
        "audio",
        "One row per clip and rendering: the sound that audio features and spectrograms read.",
        {
            "clip": _CLIP,
            "rendering": text("modal, fluidsynth, or recorded where a real recording was found"),
            "path": text("file, relative to the corpus folder"),
            "sample_rate": integer("in Hz", 1),
            "duration_s": number("length", 0),
            "content_hash": text("SHA-256 of the samples"),
        },
        ("clip", "rendering"),
    ),
    Table(
        "features",
        "Every feature of every clip in long form.",
        {
            "clip": _CLIP,
            "rendering": text("rendering it was computed from; 'midi' for symbolic features"),
            "feature": text("name"),
            "value": number("value; NULL where undefined", nullable=True),
            "source": text("what it was computed from", values=("audio", "symbolic")),
        },
        ("clip", "rendering", "feature"),
    ),
    Table(
        "spectrograms",
        "Where each clip's frames lie in the memory-mapped spectrogram.",
        {
            "clip": _CLIP,
            "spectrogram": text("name of the spectrogram"),
            "rendering": text("rendering it was computed from"),
            "start": Column(type="long", description="first frame", low=0),
            "n_frames": integer("number of frames", 1),
        },
        ("clip", "spectrogram", "rendering"),
    ),
    Table(
        "subjects",
        "Whatever has predictions.",
        {
            "subject": _SUBJECT,
            "kind": text("kind", values=SUBJECT_KINDS),
            "family": text("family of the model"),
            "config": text("partition key of the trial", nullable=True),
            "seed": integer("seed; NULL over seeds", 0, nullable=True),
            "trial": text("trial key", nullable=True),
        },
        ("subject",),
    ),
    Table(
        "trials",
        "Every trial: all that decides a result.",
        {
            "trial": _TRIAL,
            "config": text("partition key"),
            "family": text("family of the model"),
            "trial_json": text("the trial, as JSON"),
            "n_params": Column(type="long", description="measured number of parameters", nullable=True, low=0),
            "budget": text("budget", values=("full", "reduced", "smoke")),
        },
        ("config",),
    ),
    Table(
        "comparisons",
        "Hypotheses.",
        {
            "comparison": text("name"),
            "hypothesis": text("what is claimed"),
            "reference": text("config of the reference"),
            "search": text("hyperparameter search that each arm gets, as JSON"),
            "margin": number("equivalence margin in mean r", 0),
        },
        ("comparison",),
    ),
    Table(
        "arms",
        "The named differences of each comparison.",
        {
            "comparison": text("name of the comparison"),
            "arm": text("name of the arm"),
            "config": text("partition key of its trial"),
            "trial": _TRIAL,
            "is_reference": flag("the arm is the reference itself"),
            "changed_fields": text("fields that differ from the reference, as JSON"),
            "label_changing": flag("the arm changes what some labels describe"),
        },
        ("comparison", "arm"),
    ),
    Table(
        "runs",
        "What was run, where, on what, and what it cost.",
        {
            "trial": _TRIAL,
            "config": text("partition key"),
            "seed": _SEED,
            "part_key": text("part key: trial, seed, data, code, precision and device class"),
            "seconds": number("wall time", 0),
            "device": text("device"),
            "precision": text("precision"),
            "peak_memory_mb": number("peak memory of the process", 0),
            "code_version": integer("code version of the family", 0),
            "data_version": text("hash of the data that entered"),
            "environment": text("versions, as JSON"),
            "hardware": text("processor and accelerator"),
            "git_commit": text("commit", nullable=True),
            "git_dirty": Column(type="flag", description="uncommitted changes", nullable=True),
            "finished_at": Column(type="time", description="when it finished"),
            "status": text("status", values=("finished", "failed", "diverged")),
        },
        ("part_key",),
    ),
    Table(
        "members",
        "One row per fitted model inside a run.",
        {
            "trial": _TRIAL,
            "seed": _SEED,
            "fold": _FOLD,
            "inner_fold": _INNER_FOLD,
            "search_point": text("point of the search grid; 'fixed' where nothing was searched"),
            "status": text("status", values=("finished", "stopped_early", "diverged")),
            "epoch": integer("epoch that was kept; NULL for models without epochs", 0, nullable=True),
            "reason": text("why it ended", nullable=True),
        },
        ("trial", "seed", "fold", "inner_fold", "search_point"),
    ),
    Table(
        "history",
        "Learning curves, one row per epoch.",
        {
            "trial": _TRIAL,
            "seed": _SEED,
            "fold": _FOLD,
            "inner_fold": _INNER_FOLD,
            "search_point": text("point of the search grid"),
            "epoch": integer("epoch, from 0", 0),
            "train_loss": number("mean training loss", nullable=True),
            "valid_loss": number("validation loss", nullable=True),
            "valid_r": number("mean correlation on validation clips", nullable=True),
            "learning_rate": number("learning rate at the epoch's end", 0, nullable=True),
            "gradient_norm": number("mean gradient norm", 0, nullable=True),
        },
        ("trial", "seed", "fold", "inner_fold", "search_point", "epoch"),
    ),
    Table(
        "predictions",
        "Per-clip predictions of every subject: the truth that everything else is computed from.",
        {
            "subject": _SUBJECT,
            "split": _SPLIT,
            "repeat": _REPEAT,
            "fold": _FOLD,
            "inner_fold": _INNER_FOLD,
            "clip": _CLIP,
            "dimension": _DIMENSION,
            "role": text("role of the clip in the fold", values=ROLES),
            "condition": text("'clean' or a robustness condition"),
            "tuning": text("'tuned' by search on inner validation, or 'fixed'", values=TUNINGS),
            "value": Column(type="float32", description="prediction on the 0..1 scale"),
            "std": Column(type="float32", description="predictive standard deviation", nullable=True, low=0),
        },
        ("subject", "split", "repeat", "fold", "inner_fold", "clip", "dimension", "role", "condition", "tuning"),
    ),
    Table(
        "ensemble_weights",
        "How an ensemble weighs its members.",
        {
            "ensemble": text("name of the recipe"),
            "split": _SPLIT,
            "repeat": _REPEAT,
            "fold": _FOLD,
            "member": text("subject that is a member"),
            "dimension": _DIMENSION_OR_MEAN,
            "weight": number("weight"),
        },
        ("ensemble", "split", "repeat", "fold", "member", "dimension"),
    ),
    Table(
        "scores",
        "Every metric of every subject, with its interval and its share of the ceiling.",
        {
            "subject": _SUBJECT,
            "split": _SPLIT,
            "rule": _RULE,
            "population": _POPULATION,
            "level": _LEVEL,
            "metric": text("metric"),
            "dimension": _DIMENSION_OR_MEAN,
            "value": number("mean over repeats", nullable=True),
            **_CI,
            "share_of_ceiling": number("value over the ceiling; NULL where undefined", nullable=True),
            "tuning": text("'tuned' by search on inner validation, or 'fixed'", values=TUNINGS),
            "n_seeds": integer("seeds (repeats) that entered", 0),
            "seed_sd": number("standard deviation over seeds; NULL with one", 0, nullable=True),
        },
        ("subject", "split", "rule", "population", "level", "metric", "dimension", "tuning"),
    ),
    Table(
        "tests",
        "Every test of an arm against its reference.",
        {
            "comparison": text("comparison"),
            "arm": text("arm"),
            "reference": text("reference"),
            "split": _SPLIT,
            "rule": _RULE,
            "population": _POPULATION,
            "level": _LEVEL,
            "metric": text("metric"),
            "dimension": _DIMENSION_OR_MEAN,
            "tuning": text("tuned where both sides are, else fixed", values=TUNINGS),
            "estimate": number("arm minus reference"),
            **_CI,
            "test": text("name of the test"),
            "is_primary": flag("the test that decides the verdict"),
            "p": number("p value", 0, 1),
            "p_holm": number("Holm within the comparison", 0, 1),
            "p_bonferroni": number("Bonferroni", 0, 1),
            "p_bh": number("Benjamini-Hochberg", 0, 1),
            "p_tost": number("equivalence test", 0, 1, nullable=True),
            "margin": number("equivalence margin", 0),
            "effect_size": number("effect size", nullable=True),
            "effect_name": text("which effect size", nullable=True),
            "n_units": number("number of units", 0),
            "unit": text("what was counted"),
            "n_seeds": integer("seeds (repeats) that both sides share", 1),
            "mde": number("minimal detectable effect at 80 % power", 0, nullable=True),
            "verdict": text("verdict", values=VERDICTS),
        },
        ("comparison", "arm", "split", "rule", "population", "level", "metric", "dimension", "test"),
    ),
    Table(
        "leaderboard_trials",
        "One row per subject, split and rule; the view `leaderboard` leaves out single seeds. "
        "No score stands here without its protocol, interval, lookup score and ceiling.",
        {
            "split": _SPLIT,
            "rule": _RULE,
            "aggregation": text("how the split aggregates folds", values=("pooled", "mean_of_folds")),
            "rank": integer("rank by the split's own R2; NULL where it may not be ranked", 1, nullable=True),
            "subject": _SUBJECT,
            "kind": text("kind", values=SUBJECT_KINDS),
            "family": text("family of the model"),
            "budget": text("training budget; NULL for what was not trained here", nullable=True),
            "tuning": text("'tuned' by search on inner validation, or 'fixed'", values=TUNINGS),
            "r2_pooled": number("R2 over pooled test clips, mean over dimensions", nullable=True),
            "r2_pooled_low": number("lower end of its 95 % interval", nullable=True),
            "r2_pooled_high": number("upper end of its 95 % interval", nullable=True),
            "pearson_mean": number("correlation, mean over dimensions", nullable=True),
            "pearson_mean_low": number("lower end of its 95 % interval", nullable=True),
            "pearson_mean_high": number("upper end of its 95 % interval", nullable=True),
            "r2_fold_mean": number("R2 per fold, mean over folds and dimensions: the literature's", nullable=True),
            "r2_fold_mean_low": number("lower end of its 95 % interval", nullable=True),
            "r2_fold_mean_high": number("upper end of its 95 % interval", nullable=True),
            "pearson_flat_z": number("correlation over 19 z-scored dimensions flattened", nullable=True),
            "pearson_flat_z_low": number("lower end of its 95 % interval", nullable=True),
            "pearson_flat_z_high": number("upper end of its 95 % interval", nullable=True),
            "humans_r2": number("r2_pooled on clips played by people", nullable=True),
            "humans_r2_low": number("lower end of its 95 % interval", nullable=True),
            "humans_r2_high": number("upper end of its 95 % interval", nullable=True),
            "within_excerpt_r": number("pearson_mean within excerpts, humans only", nullable=True),
            "within_excerpt_r_low": number("lower end of its 95 % interval", nullable=True),
            "within_excerpt_r_high": number("upper end of its 95 % interval", nullable=True),
            "lookup": text("the best lookup of the same split and rule", nullable=True),
            "lookup_r2": number("its R2, of the kind the split ranks by", nullable=True),
            "lookup_r": number("its pearson_mean", nullable=True),
            "lookup_flat_z": number("its pearson_flat_z", nullable=True),
            "ceiling_r2": number("highest reachable R2: what the raters' agreement allows", nullable=True),
            "ceiling_r": number("highest reachable mean correlation", nullable=True),
            "n_seeds": integer("seeds (repeats) that entered", 0),
            "complete": flag("predictions stand for every test clip of the split"),
            "caveat": text("what to know before quoting the number", nullable=True),
        },
        ("subject", "split", "rule", "tuning"),
    ),
    Table(
        "published",
        "Results of the literature, with their protocol and what is wrong with them.",
        {
            "subject": _SUBJECT,
            "source": text("paper"),
            "split": _SPLIT,
            "rule": _RULE,
            "metric": text("metric"),
            "value": number("value as published"),
            **_CI,
            "caveat": text("what is wrong with it", nullable=True),
        },
        ("subject", "split", "metric"),
    ),
)

MARGINS: dict[str, float] = {"pearson_mean": 0.02, "r2_pooled": 0.03}
"""Equivalence margins in mean r and in R2, fixed before any result was seen."""
