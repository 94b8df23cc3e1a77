"""The ratings file of the synthetic corpus: who answers what, and the dirt that PercePiano's file has too."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from piano_assets.corpus.synthetic.raters import Panel, answer
from piano_assets.dimensions import COLUMNS

HEADER = ("user", "dataID", "filename", *COLUMNS, "Question_9_2_1", "message")
DONT_KNOW = (0.0, 8.0)

SHARE_BLANK_ROWS = 0.006
SHARE_DONT_KNOW = 0.003
SHARE_DUPLICATE_ROWS = 0.05
SHARE_REPEATED_RATINGS = 0.01
SHARE_MESSAGES = 0.1

MESSAGES = (
    "차분하고 따뜻한 연주였다.",
    "조금 더 여유 있는 빠르기였으면 좋겠다.",
    "셈여림의 변화가 커서 인상적이었다.\n다만 끝부분이 조금 서두르는 느낌이었다.",
    'clear melody, "singing" tone',
)
REMARKS = ("틀린 음 하나", "음이 하나 빠짐")


@dataclass(frozen=True, eq=False)
class Answers:
    """All rows of the ratings file, in order, and what is known about who gave them.

    user, rating_id, clip: (n_rows,), clip as its place in the list of clips. values: (n_rows, 19), NaN where blank,
    0 and 8 for "don't know". duplicate: (n_rows,), exact repetitions of an earlier row. bias: (n_rows, 19) and
    noise_sd: (n_rows,) of the row's rater. message, remark: texts, empty for most.
    """

    user: np.ndarray
    rating_id: np.ndarray
    clip: np.ndarray
    values: np.ndarray
    duplicate: np.ndarray
    bias: np.ndarray
    noise_sd: np.ndarray
    message: list[str]
    remark: list[str]

    def for_noise(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(clips, raters, bias, noise_sd, valid) of the rows that count under the rule `clean`."""
        kept = ~self.duplicate
        valid = (self.values >= 1) & (self.values <= 7)
        return self.clip[kept], self.user[kept], self.bias[kept], self.noise_sd[kept], valid[kept]


def collect(
    impression: np.ndarray,
    first_round: np.ndarray,
    panels: Sequence[Panel],
    raters_per_clip: Sequence[tuple[int, int]],
    rng: np.random.Generator,
) -> Answers:
    """Let each round's panel answer its clips, then soil the rows as PercePiano's are.

    Args:
        impression: (n_clips, 19). first_round: (n_clips,) flags; the others belong to the second round.
        panels, raters_per_clip: one for each round.
    """
    parts = []
    for number, (panel, (least, most)) in enumerate(zip(panels, raters_per_clip, strict=True)):
        mine = np.flatnonzero(first_round if number == 0 else ~first_round)
        pairs = [
            (clip, rater)
            for clip in mine.tolist()
            for rater in rng.choice(len(panel.users), rng.integers(least, most + 1), replace=False).tolist()
        ]
        # now and then somebody meets a clip a second time
        pairs += [pairs[i] for i in _some(len(pairs), SHARE_REPEATED_RATINGS, rng)]
        order = rng.permutation(len(pairs))
        order = order[np.argsort(np.array(pairs)[order, 1], kind="stable")]
        clip, rater = np.array(pairs)[order].T
        ids = np.cumsum(rng.integers(1, 4, len(order))) + (2 if number == 0 else 83_000_000)
        values = answer(impression[clip], panel, rater, rng)
        parts.append((panel.users[rater], ids, clip, values, panel.bias[rater], panel.noise_sd[rater]))
    user, ids, clip, values, bias, noise_sd = (np.concatenate(p) for p in zip(*parts, strict=True))

    n = len(user)
    cells = _some(values.size, SHARE_DONT_KNOW, rng)
    values.flat[cells] = rng.choice(DONT_KNOW, len(cells))
    values[_some(n, SHARE_BLANK_ROWS, rng)] = np.nan
    values[rng.integers(n), rng.choice(values.shape[1], 3, replace=False)] = 9.0
    # each message at least once, in a file of any size
    texts = dict.fromkeys(_some(n, SHARE_MESSAGES, rng, least=len(MESSAGES)).tolist())
    message, remark = [""] * n, [""] * n
    for i, row in enumerate(texts):
        message[row] = MESSAGES[i % len(MESSAGES)]
    for i, row in enumerate(_some(n, SHARE_BLANK_ROWS, rng).tolist()):
        remark[row] = REMARKS[i % len(REMARKS)]
    rows = np.concatenate([np.arange(n), _some(n, SHARE_DUPLICATE_ROWS, rng)])
    return Answers(
        user=user[rows],
        rating_id=ids[rows],
        clip=clip[rows],
        values=values[rows],
        duplicate=np.arange(len(rows)) >= n,
        bias=bias[rows],
        noise_sd=noise_sd[rows],
        message=[message[i] for i in rows],
        remark=[remark[i] for i in rows],
    )


def _some(n: int, share: float, rng: np.random.Generator, least: int = 1) -> np.ndarray:
    """Places of a share of `n` things, in order; at least `least` of them, so that small files have dirt too."""
    return np.sort(rng.choice(n, min(n, max(least, round(share * n))), replace=False))


def write_answers(path: Path, stems: Sequence[str], answers: Answers) -> None:
    """Write PercePiano's ratings file: its columns, UTF-8, blanks for no answer, quoted multi-line messages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for user, rating, clip, values, message, remark in zip(
            answers.user.tolist(),
            answers.rating_id.tolist(),
            answers.clip.tolist(),
            answers.values.tolist(),
            answers.message,
            answers.remark,
            strict=True,
        ):
            cells = ["" if v != v else f"{v:.1f}" for v in values]
            writer.writerow([user, rating, f"{stems[clip]}.wav", *cells, remark, message])
