"""The tables of recordings that people brought, and of their scores."""

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
            "beyond": text("aspects in which it is like nothing heard, with commas", nullable=True),
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
)
