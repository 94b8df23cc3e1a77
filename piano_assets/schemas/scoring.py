"""The tables of recordings that people brought, of their scores, and of what both do over time."""

from piano_assets.schemas.columns import DIMENSION, Column, Table, flag, integer, number, text

_RECORDING = text("recording: the beginning of its content's hash, and its file's name")

TABLES = (
    Table(
        "recordings",
        "Recordings from the inbox: what each is, and whether it could be scored.",
        {
            "recording": _RECORDING,
            "file": text("name of the file"),
            "content_hash": text("SHA-256 of the file"),
            "kind": text("what it is; NULL where it could not be told", nullable=True, values=("midi", "audio")),
            "duration_s": number("seconds of music", 0, nullable=True),
            "n_notes": integer("notes, read or heard; NULL where none are known", 0, nullable=True),
            "transcriber": text("what heard the notes; NULL where nobody had to or could", nullable=True),
            "in_domain": flag("whether it is like what the champion has heard; false where it was not scored"),
            "beyond": text("aspects in which it is like nothing heard; `held sound`: no piano", nullable=True),
            "received_at": Column(type="time", description="when it was taken from the inbox"),
            "status": text("what came of it", values=("scored", "refused")),
            "reason": text("why it was refused, and what to do", nullable=True),
        },
        ("recording",),
    ),
    Table(
        "recording_scores",
        "Scores of recordings, overall and by window, on the 0..1 scale.",
        {
            "recording": _RECORDING,
            "champion": text("title of the champion that scored it"),
            "part_key": text("part key of that champion"),
            "window_start_s": number("where the window begins; NULL: the whole recording", 0, nullable=True),
            "dimension": DIMENSION,
            "value": number("score", 0, 1),
            "ci_low": number("lower end of the 90 % interval", 0, 1),
            "ci_high": number("upper end", 0, 1),
            "percentile": number(
                "people's performances of the corpus that score lower, in percent; NULL for windows",
                0,
                100,
                nullable=True,
            ),
        },
        ("recording", "champion", "part_key", "window_start_s", "dimension"),
    ),
    Table(
        "monitoring",
        "What was measured and scored in every window of every recording: what drift is looked for in.",
        {
            "recording": _RECORDING,
            "champion": text("title of the champion that scored it"),
            "part_key": text("part key of that champion"),
            "window_start_s": number("where the window begins", 0),
            "window_end_s": number("where it ends", 0),
            "kind": text("a feature that the champion reads, or a score", values=("feature", "score")),
            "name": text("the feature, or the dimension"),
            "value": number("its value; NULL where a feature is undefined", nullable=True),
        },
        ("recording", "champion", "part_key", "window_start_s", "kind", "name"),
    ),
    Table(
        "drift",
        "Recordings against people's performances that a champion learnt from, by feature and by score.",
        {
            "champion": text("title of the champion"),
            "part_key": text("part key of the champion"),
            "kind": text("a feature that the champion reads, or a score", values=("feature", "score")),
            "name": text("the feature, or the dimension"),
            "n_recordings": integer("recordings with a value, each by its longest window", 0),
            "n_training": integer("people's performances with a value", 0),
            "shift": number("median of recordings less that of training, in half widths of its middle 90 %"),
            "psi": number("population stability index by deciles of training", 0),
            "psi_by_chance": number("index that as many of the same kind exceed once in twenty times", 0),
            "ks": number("largest distance between the distribution functions", 0, 1),
            "p_value": number("of the Kolmogorov-Smirnov test", 0, 1),
            "p_holm": number("corrected for all features and scores of the champion (Holm)", 0, 1),
            "drifted": flag("p_holm is at most .05 and the index is over .25 and over chance"),
        },
        ("champion", "part_key", "kind", "name"),
    ),
    Table(
        "reference_scores",
        "A fixed set of performances, one of each cluster, as every champion that stands scores them.",
        {
            "champion": text("title of the champion"),
            "part_key": text("part key of the champion"),
            "is_current": flag("whether it scores recordings now"),
            "clip": text("the performance"),
            "dimension": DIMENSION,
            "value": number("its score by that champion, which learnt from it"),
            "out_of_fold": number("the same by members that had not learnt from it"),
            "label": number("what listeners said", 0, 1),
        },
        ("champion", "part_key", "clip", "dimension"),
    ),
)
