"""The page of experiments says what the tables say: every arm once, no number alone, verdicts by rule."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from piano_assets.catalogue.comparisons import built_in
from piano_assets.report.experiments import PLOTS, experiments_markdown, read_tables, write_page
from piano_assets.report.outcomes import READ
from piano_assets.schemas import VERDICTS
from piano_assets.store.parts import Store
from piano_assets.store.warehouse import all_parts, build_snapshot
from piano_assets_tests.report.experiment_tables import (
    LOOKUP,
    arm,
    comparison,
    experiment_tables,
    primary,
    rows,
    scores,
)

PAGE = Path(__file__).parents[2] / "docs" / "experiments.md"


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return experiment_tables()


@pytest.fixture(scope="module")
def page(tables) -> str:
    return experiments_markdown(tables, snapshot="abc")


def section(page: str, name: str) -> str:
    return re.split(r"^## ", page.partition(f"\n## {name}\n")[2], flags=re.M)[0]


def table_of(text: str, first: str = "arm") -> list[dict[str, str]]:
    """The rows of the table whose first column is `first`, by its head."""
    lines = [re.split(r"(?<!\\)\|", line.strip("|")) for line in text.splitlines() if line.startswith("|")]
    cells = [[c.strip() for c in line] for line in lines]
    start = next(i for i, c in enumerate(cells) if c[0] == first)
    body = []
    for c in cells[start + 2 :]:
        if len(c) != len(cells[start]):
            break
        body.append(dict(zip(cells[start], c, strict=True)))
    return body


def row_of(page: str, name: str, arm: str) -> dict[str, str]:
    return next(r for r in table_of(section(page, name)) if r["arm"] == f"`{arm}`")


def test_every_arm_of_every_comparison_appears_exactly_once(page, tables):
    """In the table, or else in a line `Not run`; of a comparison that waits, in the closing section."""
    for name, its in tables["arms"].groupby("comparison"):
        if name == "waiting":
            assert table_of(section(page, "Not run yet"), "comparison")[0]["arms"] == "`first`, `second`"
            continue
        text = section(page, name)
        shown = [r["arm"].strip("`") for r in table_of(text)] + re.findall(
            r"`(\w+)`", "".join(re.findall(r"^- Not run.*?: (.*)$", text, re.M))
        )
        for wanted in its["arm"]:
            assert shown.count(wanted) == 1, (name, wanted)


def test_arms_stand_in_their_order_and_losses_between_gains(page):
    shown = [r["arm"].strip("`") for r in table_of(section(page, "dropout"))[:-2]]
    assert shown == ["light", "heavy", "worse", "same", "unclear", "constant", "half", "stopped"]


def test_a_row_says_what_the_tables_say(page):
    assert row_of(page, "dropout", "unclear") == {
        "arm": "`unclear`",
        "change": "rerender",
        "claimed": "5M",
        "parameters": "1.65M",
        "seeds": "5, fixed",
        "R2": ".400 [.35, .45]",
        "r": ".600 [.55, .65]",
        "p (Holm)": ".400",
        "against the reference": "**inconclusive**: +.015 mean r [-.010, .040] holds both no difference and the "
        "margin, .020; minimal detectable effect .030",
    }
    assert row_of(page, "dropout", "worse")["p (Holm)"] == "< .001"
    assert row_of(page, "dropout", "worse")["change"] == "depth 4 (3), loss a\\|b (mse)"
    assert row_of(page, "dropout", "light")["against the reference"] == "reference"
    assert row_of(page, "dropout", "half")["seeds"] == "3 of 5, fixed"


def test_a_score_stands_at_the_tuning_of_its_test_and_fixed_beside_tuned(tables):
    assert row_of(experiments_markdown(tables), "dropout", "heavy")["seeds"] == "5, fixed"
    tests = tables["tests"].assign(tuning=np.where(tables["tests"]["arm"] == "heavy", "tuned", "fixed"))
    text = experiments_markdown(tables | {"tests": tests})
    row = row_of(text, "dropout", "heavy")
    assert (row["seeds"], row["r"], row["r, fixed"]) == ("5, tuned", ".610 [.56, .66]", ".600 [.55, .65]")
    assert row_of(text, "dropout", "same")["r, fixed"] == ""


def test_lookup_and_ceiling_stand_in_each_table(page, tables):
    for name in ("dropout", "user"):
        lookup, ceiling = table_of(section(page, name))[-2:]
        assert (lookup["arm"], lookup["R2"], lookup["r"]) == (
            f"*best lookup: `{LOOKUP}`*",
            ".200 [.15, .25]",
            ".400 [.35, .45]",
        )
        assert (ceiling["arm"], ceiling["R2"], ceiling["r"]) == ("*ceiling*", ".760 [.74, .78]", ".870")
    # R2 of a protocol that averages folds is that of folds, the lookup's as well.
    row = row_of(page, "protocols", "random")
    assert (row["R2"], row["best lookup R2 / r"]) == (".500 [.45, .55]", ".400 / .700")
    assert row["ceiling R2 / r"] == ".760 / .870"
    unknown = experiments_markdown(tables | {t: tables[t][:0] for t in ("noise_ceiling", "leaderboard_trials")})
    assert [r["r"] for r in table_of(section(unknown, "dropout"))[-2:]] == ["unknown", "unknown"]


def test_protocols_are_not_tested_but_show_their_leak_and_what_was_published(page):
    text = section(page, "protocols")
    (leak,) = (c for c in row_of(page, "protocols", "random") if c.startswith("in training"))
    assert row_of(page, "protocols", "random")[leak] == "50 / 50 / 50 / 50 %"
    assert row_of(page, "protocols", "cluster")[leak] == "0 / 0 / 0 / 0 %"
    assert "r of the models runs from .500 (`cluster`) to .800 (`random`)" in text
    assert "r of the best lookups runs from .400 (`cluster`) to .700 (`random`)" in text
    (paper,) = table_of(text, "published")
    assert (paper["value"], paper["best arm here"], paper["best lookup"]) == (
        ".285",
        ".500 [.45, .55] `random`",
        ".400 [.35, .45]",
    )
    assert not any(f"**{v}**" in text for v in VERDICTS)


def test_what_is_missing_is_told_with_its_reason(page):
    text = section(page, "dropout")
    assert "- Not run: `absent`." in text
    assert "- Not run (incomplete predictions): `partial`." in text
    assert "- Not run (a run has diverged): `broken`." in text
    assert "- Not on every seed (incomplete predictions of a seed, left out): `half`." in text
    assert (
        "- Not on every seed (stopped after 1 seed: r .310 on inner validation clips, of the worst kept .350): `stop"
        in text
    )
    assert "- **Stopped** arms: the worse half stops." in page
    assert row_of(page, "dropout", "constant")["r"] == "undefined"
    assert row_of(page, "dropout", "constant")["against the reference"] == "not tested: r is undefined"


def test_without_the_reference_nothing_is_tested_and_it_is_told(tables):
    left = tables["scores"][tables["scores"]["subject"] != "ast.reference"]
    text = experiments_markdown(tables | {"scores": left, "tests": tables["tests"][:0]})
    assert "- Not run: `light`, `absent`." in section(text, "dropout")
    assert row_of(text, "dropout", "heavy")["against the reference"] == "not tested: the reference has no score"


def test_a_reference_that_is_no_arm_stands_first(page):
    first, mine = table_of(section(page, "user"))[:2]
    assert (first["arm"], first["against the reference"]) == ("`ast.reference`", "reference")
    assert mine["against the reference"].startswith("not tested: no seed that both have")


def test_an_arm_on_another_protocol_is_shown_beside_its_own_lookup(tables):
    moved = tables["trials"].assign(
        trial_json=[
            json.dumps({"split": "random", "label_rule": "clean"}) if c == "user.mine" else j
            for c, j in zip(tables["trials"]["config"], tables["trials"]["trial_json"], strict=True)
        ]
    )
    added = rows("scores", *scores("user.mine", 0.9, "random"))
    text = section(
        experiments_markdown(tables | {"trials": moved, "scores": pd.concat([tables["scores"], added])}), "user"
    )
    assert [r["best lookup R2 / r"] for r in table_of(text)] == [".200 / .400", ".400 / .700"]


def test_nothing_missing_is_printed_and_every_table_is_rectangular(page):
    assert not re.search(r"\b[Nn]a[Nn]\b|\bNone\b|<NA>|\bNaT\b|\binf\b", page)
    width = 0
    for line in page.splitlines():
        n = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not width or not n or n == width, line
        width = n


def test_no_text_of_the_catalogue_becomes_a_tag(page):
    assert "x&lt;n> takes" in page
    assert "<n>" not in page


def test_the_page_depends_on_nothing_but_the_tables(page, tables):
    assert experiments_markdown(tables, snapshot="abc") == page
    rng = np.random.default_rng(0)
    ordered = ("comparisons", "arms", "published")
    shuffled = {t: f if t in ordered else f.sample(frac=1, random_state=rng) for t, f in tables.items()}
    assert experiments_markdown(shuffled, snapshot="abc") == page
    assert "snapshot `abc`" in page


def test_without_results_every_comparison_waits(tables):
    empty = {t: f if t in ("comparisons", "arms", "trials") else f[:0] for t, f in tables.items()}
    text = experiments_markdown(empty)
    assert [r["comparison"] for r in table_of(text, "comparison")] == [
        f"`{c}`" for c in ("dropout", "protocols", "waiting", "user")
    ]
    assert "## Overview" not in text


def test_the_overview_counts_verdicts_and_links_to_headings(page):
    found = {r["comparison"]: r for r in table_of(section(page, "Overview"), "comparison")}
    assert list(found) == ["[dropout](#dropout)", "[protocols](#protocols)", "[user](#user)"]
    row = found["[dropout](#dropout)"]
    assert [row[v] for v in ("arms scored", *VERDICTS)] == ["8 of 11", "1", "1", "1", "3"]
    assert "Better: `heavy`. Worse: `worse`. Equivalent: `same`. Inconclusive: `unclear`, `half`, `stopped`." in page


def test_the_page_and_its_plots_are_written_from_a_snapshot(tables, page, tmp_path):
    store = Store(tmp_path / "data" / "percepiano")
    for table in READ:
        store.write(table, tables[table], key="1")
    snapshot = build_snapshot(store, all_parts(store))
    old = tmp_path / "docs" / PLOTS / "gone.png"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"")
    written = write_page(tmp_path / "docs" / "experiments.md", store)
    assert written[0].read_text() == page.replace("`abc`", f"`{snapshot.hash}`")
    assert [p.name for p in written[1:]] == ["dropout.png"] == [p.name for p in old.parent.glob("*.png")]
    assert written[1].stat().st_size < 40_000
    assert f"({PLOTS}/dropout.png)" in page
    assert list(read_tables(store)["arms"]["arm"]) == list(tables["arms"]["arm"])


def test_the_page_in_the_repository_names_every_comparison_and_arm():
    """After a change of the catalogue: python -m piano_assets.report.experiments docs/experiments.md"""
    text, known = PAGE.read_text(encoding="utf-8"), built_in()
    for name, of, budget in known.views():
        assert f"`{name}`" in text or f"\n## {name}\n" in text, name
        for wanted in known.arms(of, budget):
            assert f"`{wanted}`" in text, (name, wanted)


def test_what_is_made_from_trials_stands_with_its_recipe_protocol_and_verdict(tables):
    made = tables | {
        "comparisons": rows(
            "comparisons",
            comparison("mixture", "ast.reference") | {"split": "cluster", "rule": "clean"},
        ),
        "arms": rows(
            "arms",
            arm("mixture", "single", "ast.reference", {}, reference=True) | {"trial": None},
            arm("mixture", "both", "ensemble.both", {"members": [["a", "b"], None], "n_rounds": [4, None]})
            | {"trial": None},
            arm("mixture", "absent", "ensemble.absent", {"combine": ["mean", None]}) | {"trial": None},
        ),
        "scores": pd.concat([tables["scores"], rows("scores", *scores("ensemble.both", 0.7))]),
        "tests": rows("tests", primary("mixture", "both", "ast.reference", (0.1, 0.05, 0.15, 0.001, 0.9, "better"))),
    }
    page = experiments_markdown(made)
    shown = row_of(page, "mixture", "both")
    assert shown["change"] == "members a, b, n rounds 4"
    assert shown["r"].startswith(".700")
    assert shown["against the reference"].startswith("**better**: +.100")
    assert row_of(page, "mixture", "single")["against the reference"] == "reference"
    assert "split, labels, folds: `cluster`, `clean`, pooled" in section(page, "mixture")
    assert "search" not in section(page, "mixture")
    assert "- Not run: `absent`." in section(page, "mixture")
