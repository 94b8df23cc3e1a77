"""The section on what tests are worth: its table, and the whole way from a corpus folder to the page."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from piano_assets.analysis.planted import SCENARIOS, Structure
from piano_assets.analysis.worth import Calibration, Power, Size
from piano_assets.report import calibration_doc
from piano_assets.report.calibration_doc import BEGIN, END, main, section
from piano_assets.report.sections import with_section
from piano_assets_tests.analysis import world


def one(name: str) -> Calibration:
    null = [Size(name, 0.0, "two_way_t", 0.055, 0.945, 4000), Size(name, 0.0, "sign_flip_cluster", 0.2, None, 4000)]
    return Calibration(name, null, Power(0.0213, 0.8, 0.781, (0.55, 0.96), 4000), 0.04, 4000)


def test_the_table_has_a_row_a_test_and_a_column_a_scenario():
    structure = Structure(np.repeat([0, 1, 2], [6, 3, 1]), np.arange(10) % 5, np.zeros(10, int))
    text = section("synthetic", structure, [one("cluster"), one("both")])
    assert "4,000 experiments a cell" in text
    assert "10 clips, 3 clusters (worth 2.2 of equal size) and 5 performers (worth 5.0 of equal size)" in text
    assert "| test | errors share: cluster | errors share: both |" in text
    cell = "5.5% [4.8, 6.3]; holds 94.5%"  # Wilson's interval of 220 of 4,000
    assert f"| `two_way_t` | {cell} | {cell} |" in text
    assert "| `sign_flip_cluster` | 20.0% [18.8, 21.3] | 20.0% [18.8, 21.3] |" in text
    assert "| difference in mean r that as many pilots announce at 80 % power | 0.021 | 0.021 |" in text
    assert "| planted and found | 80.0% [78.7, 81.2] | 80.0% [78.7, 81.2] |" in text  # Wilson's of 3,200 of 4,000
    assert "| announced for it by one pilot: mean (5 and 95 % quantile) | 78.1% (55%, 96%) |" in text
    assert "| Holm over 8 arms, none different: any rejected | 4.0% [3.4, 4.7] |" in text


def test_the_page_is_written_from_the_corpus(tmp_path, monkeypatch):
    clips = world.clips()
    labels, _ = world.labels(clips, np.random.default_rng(0))
    monkeypatch.setattr(calibration_doc, "open_store", lambda: Tables(clips, labels, world.splits(clips)))
    page = tmp_path / "statistics.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    main([str(page), "--experiments", "3"])
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}\n\n3 experiments a cell on the structure of `world`: 112 clips")
    assert text.endswith(f"|\n\n{END}\nafter\n")
    assert all(f"errors share: {s.name}" in text for s in SCENARIOS)
    main([str(page), "--experiments", "3", "--workers", "1"])
    assert page.read_text(encoding="utf-8") == text, "same seed, same page"


@dataclass
class Tables:
    """What the page reads of a store."""

    clips: pd.DataFrame
    labels: pd.DataFrame
    splits: pd.DataFrame
    corpus: str = "world"

    def read(self, table: str, name: str | None = None) -> pd.DataFrame:
        return getattr(self, table)


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="lacks the marks"):
        with_section(f"no {END}", BEGIN, END, "x")
