"""The report as a browser would read it: whole, by itself, and with hostile text as text."""

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from piano_assets.report.html import render
from piano_assets.report.result_plots import best_subject, result_plots
from piano_assets_tests.report.experiment_tables import experiment_tables
from piano_assets_tests.report.small_tables import CONFIG, board, board_row, report_tables

pytestmark = pytest.mark.xdist_group("html")  # one worker makes what they share

VOID = {"meta", "img", "br", "link", "input", "hr"}
HOSTILE = "<script>alert('x')</script>\"><img src=http://example.org/x.png>"


class Page(HTMLParser):
    """Tags with attributes, tables as rows of text, and whether every tag is closed by its own."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


def page(tables: dict[str, pd.DataFrame], corpus: str = "synthetic", plots: bool = False) -> Page:
    return Page(render(corpus, tables, result_plots(tables) if plots else []))


@pytest.fixture(scope="module")
def whole() -> Page:
    return page(report_tables(), plots=True)


def test_the_page_needs_no_network(whole):
    """No script, no link, no resource but data URIs; the style names no address."""
    assert not {tag for tag, _ in whole.tags} & {"script", "link", "iframe", "object", "embed", "base"}
    addresses = [v for _, attributes in whole.tags for k, v in attributes.items() if k in ("src", "href", "srcset")]
    assert addresses
    assert all(a.startswith("data:image/png;base64,") for a in addresses)
    assert not any(k.startswith("on") for _, attributes in whole.tags for k in attributes)
    assert "url(" not in whole.text
    assert "@import" not in whole.text


def test_every_table_is_rectangular_and_holds_the_board(whole):
    for table in whole.tables:
        assert len({len(row) for row in table}) == 1
    ranked = whole.tables[0]
    assert ranked[1][:2] == ["1", CONFIG]
    assert ranked[1][3] == "0.500 [0.40, 0.60]"
    assert [row[1] for row in ranked[1:]] == [CONFIG, "family.extra_trees", "lookup.excerpt_plus_performer"]


def test_the_page_counts_the_corpus_and_what_was_set_aside(whole):
    assert "6 clips, 4 by people, 2 excerpts in\n2 clusters; 2 items in quarantine" in whole.text


def test_tests_leaks_and_quarantine_are_listed(whole):
    tests, leaks, quarantine = whole.tables[-3:]
    assert tests[1] == [
        "family",
        "ridge",
        "family.reference",
        "+0.020 [-0.010, +0.050]",
        "0.250",
        "0.030",
        "inconclusive",
    ]
    assert leaks[1] == ["cluster", "0 %", "100 %"]
    assert quarantine[1] == ["midi", "a file can be read as MIDI", "1", "broken.mid"]


def test_a_kinship_that_was_not_measured_is_an_empty_cell():
    tables = report_tables()
    leaks = tables["leaks"]
    tables["leaks"] = leaks[(leaks["split"] != "performer") | (leaks["kind"] == "cluster")]
    assert page(tables).tables[-2][2] == ["performer", "100 %", ""]


def test_a_test_without_interval_shows_its_estimate_alone():
    tables = report_tables()
    tables["tests"] = tables["tests"].assign(ci_low=np.nan, ci_high=np.nan, mde=np.nan)
    assert page(tables).tables[-3][1][3:6] == ["+0.020", "0.250", ""]


@pytest.mark.parametrize("place", ["caveat", "subject", "corpus", "quarantine", "comparison", "verdict"])
def test_hostile_text_stays_text(place):
    tables, corpus = report_tables(), "synthetic"
    if place in ("caveat", "subject"):
        tables["leaderboard"] = tables["leaderboard"].astype({place: object}).assign(**{place: HOSTILE})
    elif place == "quarantine":
        tables["quarantine"] = tables["quarantine"].assign(rule=HOSTILE, item=HOSTILE)
    elif place == "comparison":
        history = tables["history"]
        tables["history"] = pd.concat([history, history.assign(trial="t2")])
        trials = ["tast.reference@smoke", "t2"]
        tables["arms"] = pd.DataFrame({"comparison": HOSTILE, "arm": ["a", "b"], "trial": trials})
    elif place == "verdict":
        tables["tests"] = tables["tests"].assign(verdict=HOSTILE)
    else:
        corpus = HOSTILE
    found = page(tables, corpus, plots=place in ("comparison", "subject"))
    assert "script" not in {tag for tag, _ in found.tags}
    assert all(a.get("src", "data:").startswith("data:") for _, a in found.tags)
    assert HOSTILE in found.text


def test_the_best_is_the_first_ranked_of_our_own_protocol():
    rows = [
        board_row("unranked", r2_pooled=0.9),
        board_row("second", rank=2, r2_pooled=0.95),
        board_row("first", rank=1, r2_pooled=0.5),
        board_row("elsewhere", rank=1, split="composer", r2_pooled=0.99),
        board_row("otherwise", rank=1, rule="published", r2_pooled=0.99),
    ]
    assert best_subject(board(*rows)) == "first"
    assert best_subject(board(*rows), "composer") == "elsewhere"
    assert best_subject(board(*rows), "cluster", "published") == "otherwise"


def test_unranked_is_never_best():
    assert best_subject(board(board_row("smoke", r2_pooled=0.9), board_row("lookup", kind="lookup"))) is None
    assert best_subject(board()) is None


def test_without_a_ranked_subject_the_page_stands():
    tables = report_tables()
    tables["leaderboard"] = tables["leaderboard"].assign(rank=pd.array([pd.NA] * 4, "Int32"))
    assert [p.name for p in result_plots(tables)] == ["learning_curves.others", "adaptation.support", "noise"]
    assert len(page(tables, plots=True).tables) == 5


def test_without_history_there_are_no_learning_curves():
    tables = report_tables()
    tables["history"] = tables["history"].iloc[:0]
    names = ["predicted_against_rated", "dimensions", "dimension_heat", "adaptation.support", "noise"]
    assert [p.name for p in result_plots(tables)] == names


def test_with_nothing_at_all_the_page_stands():
    tables = {name: frame.iloc[:0] for name, frame in report_tables().items()}
    found = page(tables, plots=True)
    assert "0 clips" in found.text
    assert "img" not in {tag for tag, _ in found.tags}


def test_no_caveat_no_list():
    tables = report_tables()
    assert "caveats" in page(tables).text
    tables["leaderboard"] = tables["leaderboard"].assign(caveat=np.nan)
    assert "details" not in {tag for tag, _ in page(tables).tags}


def test_the_scatter_shows_the_outer_clean_predictions_of_the_best():
    """Robustness conditions and inner folds of the same subject are other numbers, and stay out."""
    tables = report_tables()
    wanted = result_plots(tables)[0].figure.axes[0].collections[0].get_offsets()
    mine = tables["predictions"][tables["predictions"]["subject"] == f"{CONFIG}|0"]
    noise = [mine.assign(value=0.1, condition="noise"), mine.assign(value=0.1, inner_fold=0)]
    tables["predictions"] = pd.concat([tables["predictions"], *noise])
    np.testing.assert_array_equal(result_plots(tables)[0].figure.axes[0].collections[0].get_offsets(), wanted)
    people = tables["clips"].set_index("clip").index[~tables["clips"]["deadpan"]]
    first = mine[mine["dimension"] == "timing_stable_unstable"].set_index("clip")["value"]
    np.testing.assert_allclose(sorted(wanted[:, 1]), sorted(first[people]))


def test_networks_of_a_comparison_share_a_figure():
    tables = report_tables()
    history = tables["history"]
    more = [history.assign(trial=trial, seed=seed) for trial in ("t1", "t2") for seed in (0, 1)]
    tables["history"] = pd.concat([history, *more])
    arms = pd.DataFrame({"comparison": "loss", "arm": ["mse", "huber"], "trial": ["t1", "t2"]})
    alone = pd.DataFrame({"comparison": "schedule", "arm": ["warmup_cosine", "step"], "trial": ["t1", "not trained"]})
    tables["arms"] = pd.concat([arms, alone])
    plots = {p.name: p.figure for p in result_plots(tables) if p.name.startswith("learning_curves")}
    drawn = {name: [line.get_label() for line in figure.axes[1].lines] for name, figure in plots.items()}
    assert drawn == {
        "learning_curves.loss": ["huber", "mse"],
        "learning_curves.others": ["ast.reference@smoke"],
    }
    titles = {figure._suptitle.get_text() for figure in plots.values()}
    assert titles == {"loss, up to 2 seeds", "networks beside the comparisons, 1 seed"}


def test_the_coverage_of_ranked_subjects_is_drawn():
    tables = report_tables()
    row = {"split": "cluster", "rule": "clean", "tuning": "fixed", "population": "all", "dimension": "mean"}
    held = [
        row | {"subject": s, "probe": "conformal", "step": p, "value": p - 0.02}
        for s in (CONFIG, "x")
        for p in (0.5, 0.9)
    ]
    tables["calibration"] = pd.DataFrame(held).assign(metric="coverage", condition="all", ci_low=0.4, ci_high=0.95)
    (figure,) = (p.figure for p in result_plots(tables) if p.name == "coverage")
    (line,) = figure.axes[0].lines[1:]
    np.testing.assert_allclose(line.get_xydata(), [[0.5, 0.48], [0.9, 0.88]])
    assert line.get_label() == f"{CONFIG}, conformal"


def test_every_comparison_with_results_is_drawn():
    tables = report_tables() | experiment_tables()
    drawn = {p.name: p for p in result_plots(tables)}
    assert [name for name in drawn if name.startswith("comparison.")] == ["comparison.dropout"]
    assert drawn["comparison.dropout"].note == "dropout helps if n < 2."


def test_equal_tables_give_equal_pages():
    first, second = (render("synthetic", t, result_plots(t)) for t in (report_tables(), report_tables()))
    assert first == second
