"""Small champions of synthetic performances, fitted and kept."""

from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.catalogue.trial import Inputs, Tabular, Trial
from piano_assets.corpus.midi import read_midi
from piano_assets.ensembles.champion import Champion, Member
from piano_assets.ensembles.champion_files import champion_home, promote, save_champion
from piano_assets.models.tabular import build
from piano_assets.scoring.heard import Window, features_of

SET = "all_music_absolute"
TITLES = (
    ("performance", SET, "modal"),
    ("recording", "transcribable", "as_heard.modal"),
    ("sound", "audio_rich", "modal"),
)
"""Title, feature set and rendering of its holder."""


def fit_champions(root: Path, midi_files: list[Path]) -> None:
    """Fit holders of the titles by which recordings are scored to what is played, and keep them."""
    played = [read_midi(path) for path in midi_files]
    windows = [Window(0.0, p.duration_s, p, None) for p in played]
    n = len(windows)
    clips = pd.DataFrame(
        {
            "clip": [path.stem for path in midi_files],
            "excerpt": [f"e{k % 9}" for k in range(n)],
            "cluster": [f"c{k % 3}" for k in range(n)],
            "deadpan": [k % 6 == 0 for k in range(n)],
            "duration_s": [p.duration_s for p in played],
        }
    )
    rng = np.random.default_rng(0)
    for title, features, rendering in TITLES:
        x, names = features_of(windows, features, rendering)
        # Soft and slow playing is heard: the first two dimensions follow loudness and length, the others nothing.
        target = 0.5 + 0.05 * rng.normal(size=(n, 19))
        target[:, 0] = 0.3 + 0.4 * pd.Series([p.velocity.mean() for p in played]).rank(pct=True)
        target[:, 1] = 0.3 + 0.4 * clips["duration_s"].rank(pct=True)
        trial = Trial(
            model=Tabular(regressor="ridge"), inputs=Inputs(features=features, rendering=rendering), split="nested"
        )
        members = tuple(
            Member(f"candidate_{title}.{name}", trial, "fixed", np.full(19, 0.5), build(name, {}, 0).fit(x, target))
            for name in ("ridge", "kernel_ridge")
        )
        said = sum(m.weight * m.model.predict(x) for m in members)
        fitted = Champion(f"{title}_listener", members, clips["clip"].to_numpy(), said, target, x, names)
        score = {"pearson_mean": {"value": 0.7, "ci_low": 0.6, "ci_high": 0.8}}
        record = {"champion": title, "hears": "music", "part_key": "k1", "fitted_at": "2026-01-01", "nested": score}
        home = champion_home(root, title)
        save_champion(home / "k1", fitted, clips, record)
        promote(home, "k1")
