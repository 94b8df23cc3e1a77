"""The command line on a small snapshot: what it prints, what it refuses, and that no error is a traceback."""

import csv
import io
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from piano_assets import cli
from piano_assets.store.warehouse import snapshot_path
from piano_assets_tests.report.small_tables import CLIPS, small_snapshot


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    """What a sweep trains unasked depends on the machine; here it is one without a GPU."""
    from piano_assets.defs import planner

    monkeypatch.setattr(planner, "has_cuda", lambda: False)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A data folder whose corpus `synthetic` has a snapshot."""
    root = tmp_path_factory.mktemp("data")
    small_snapshot(root / "synthetic")
    return root


@pytest.fixture
def piano(data, monkeypatch):
    """Call the command line as a user would: piano("sql", "FROM clips")."""

    def call(*words: str, root: Path = data, corpus: str = "synthetic", width: int = 200) -> Result:
        monkeypatch.setenv("PIANO_DATA", str(root))
        monkeypatch.setenv("PIANO_CORPUS", corpus)
        monkeypatch.setattr(cli.console, "width", width)
        return CliRunner().invoke(cli.main, list(words))

    return call


def refused(result: Result, *parts: str) -> None:
    """One line that names what is wrong; status 1; no traceback."""
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), "click handles it, so the user sees no traceback"
    assert result.output.startswith("Error: ")
    for part in parts:
        assert part in result.output


def test_help_names_every_command(piano):
    text = piano("--help").output
    assert all(name in text for name in ("run", "sweep", "smoke", "comparisons", "leaderboard", "sql", "describe"))


def test_a_query_prints_its_rows(piano):
    result = piano("sql", "SELECT clip, n_notes FROM clips ORDER BY clip")
    assert result.exit_code == 0
    assert all(clip in result.output for clip in CLIPS)


def test_missing_values_print_as_nothing(piano):
    """NULL comes back as three different things: in integers, in floats and in text."""
    result = piano("sql", "SELECT NULL::INTEGER AS a, NULL::DOUBLE AS b, NULL::VARCHAR AS c, 7 AS d")
    assert result.exit_code == 0
    assert "nan" not in result.output.lower()
    assert "NA" not in result.output
    assert "7" in result.output


def test_integers_with_gaps_print(piano):
    result = piano("sql", "SELECT subject, rank FROM leaderboard")
    assert result.exit_code == 0, result.exception
    assert "family.ridge" in result.output


def test_lists_and_brackets_print_as_they_are(piano):
    result = piano("sql", "SELECT [1, 2] AS l, '[red]x[/red]' AS t")
    assert "[1 2]" in result.output
    assert "[red]x[/red]" in result.output


@pytest.mark.parametrize("width", [80, 200])
def test_no_value_is_cut(piano, width):
    """A table too wide for the terminal is printed record by record."""
    result = piano("sql", "FROM leaderboard", width=width)
    assert "…" not in result.output
    for value in ("mean_of_folds", "lookup.excerpt_plus_performer", "one fixed test set", "0.285"):
        assert value in result.output


def test_long_results_say_how_much_is_left_out(piano):
    assert "... 100 more rows (use --csv)" in piano("sql", "FROM range(300)").output


def test_csv_is_read_back_whole(piano):
    result = piano("sql", "--csv", "SELECT clip, 'a,\"b\"' AS text, NULL::INTEGER AS n FROM clips ORDER BY clip")
    rows = list(csv.DictReader(io.StringIO(result.output)))
    assert rows == [{"clip": c, "text": 'a,"b"', "n": ""} for c in sorted(CLIPS)]
    assert len(list(csv.reader(io.StringIO(piano("sql", "--csv", "FROM range(300)").output)))) == 301


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("SELEC 1", "SELEC"),
        ("SELECT nothing FROM clips", "nothing"),
        ("FROM no_such_table", "no_such_table"),
        ("SELECT 'x'::INTEGER", "x"),
        ("", "empty"),
        ("/* only a comment */", "empty"),
    ],
)
def test_a_bad_query_is_one_error(piano, sql, named):
    refused(piano("sql", sql), named)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE mine (x INT)",
        "INSERT INTO clips SELECT * FROM clips",
        "UPDATE clips SET n_notes = 1",
        "DELETE FROM labels",
        "DROP TABLE labels",
        "DROP VIEW leaderboard",
        "SELECT 1; DELETE FROM labels",
    ],
)
def test_a_query_cannot_write(piano, data, sql):
    before = {p: p.read_bytes() for p in (data / "synthetic").rglob("*.duckdb")}
    assert before
    refused(piano("sql", sql), "read-only")
    assert {p: p.read_bytes() for p in (data / "synthetic").rglob("*.duckdb")} == before


def test_without_a_snapshot_it_says_what_to_do(piano, tmp_path):
    refused(piano("sql", "SELECT 1", root=tmp_path), "no snapshot", "make run")
    refused(piano("leaderboard", root=tmp_path), "no snapshot", "make run")
    assert not list(tmp_path.iterdir()), "asking leaves nothing behind"


@pytest.mark.parametrize(
    "words", [("sql", "SELECT 1"), ("leaderboard",), ("describe", "family.ridge"), ("sweep", "--dry-run")]
)
def test_an_unknown_corpus_is_refused(piano, words):
    refused(piano(*words, corpus="maestro"), "PIANO_CORPUS='maestro'", "percepiano")


def test_the_leaderboard_shows_scores_with_protocol_lookup_and_ceiling(piano):
    text = piano("leaderboard").output
    assert text.index("split cluster, clean labels, pooled") < text.index("split percepiano_performer")
    assert "lookup R2 / r 0.170 / 0.410, ceiling R2 / r 0.760 / 0.870" in text
    assert "0.500 [0.40, 0.60]" in text
    assert "Published net *" in text
    assert "family.ridge|0" not in text, "single seeds are in leaderboard_trials"


def test_the_leaderboard_of_one_split(piano):
    text = piano("leaderboard", "--split", "cluster").output
    assert "split cluster" in text
    assert "percepiano_performer" not in text
    refused(piano("leaderboard", "--split", "moon"), "'moon'", "cluster, percepiano_performer")


def test_describe_shows_a_trial_and_its_place(piano):
    text = piano("describe", "family.ridge").output
    assert '"regressor": "ridge"' in text
    assert "arm ridge of family" in text


def test_describe_names_the_known_configs(piano):
    refused(piano("describe", "family.nonsense"), "'family.nonsense' is not in the catalogue", "family.ridge")


def test_sweep_refuses_an_unknown_name(piano):
    refused(piano("sweep", "--dry-run", "nonsense"), "'nonsense' is neither a comparison", "family")


def test_a_dry_run_trains_nothing(piano, tmp_path):
    """An empty data folder has no splits, so nothing is owed; no Dagster instance and no folder is made."""
    for more in ([], ["--halve"]):
        result = piano("sweep", "--dry-run", *more, "family", root=tmp_path)
        assert result.exit_code == 0, result.exception
        assert "0 of 0 partitions are missing" in result.output
    assert not list(tmp_path.iterdir())


def test_a_dry_run_lists_what_is_missing(piano):
    text = piano("sweep", "--dry-run", "--seeds", "2", "family").output
    assert "of 12 partitions are missing" in text
    assert "family.ridge|1" in text


def test_networks_wait_for_a_gpu_or_for_their_names(piano):
    text = piano("sweep", "--dry-run", "--seeds", "1", "loss").output
    assert "0 of 0 partitions" in text
    assert "loss.huber" in text
    assert "waiting for a GPU: ast.reference, loss.correlation" in text
    assert "8 of 8 partitions" in piano("sweep", "--dry-run", "--seeds", "1", "loss@reduced").output
    named = piano("sweep", "--dry-run", "--seeds", "1", "loss.huber").output
    assert "1 of 1 partitions" in named
    assert "waiting for a GPU" not in named


def test_a_halved_sweep_begins_with_one_seed_of_each_arm(piano):
    text = piano("sweep", "--dry-run", "--halve", "feature_set").output
    assert "10 of 10 partitions are missing" in text
    assert "feature_set.symbolic|1" not in text
    refused(piano("sweep", "--halve", "family.ridge"), "'family.ridge'", "not")
    refused(piano("sweep", "--halve", "split_strategy"), "same clips", "'split_strategy'")


def test_any_comparison_runs_against_another_reference(piano, data):
    text = piano("sweep", "--dry-run", "--seeds", "1", "--reference", "hybrid", "loss@reduced", width=400).output
    assert "8 of 8 partitions are missing" in text
    assert "loss_on_hybrid.huber@reduced|0" in text
    assert "hybrid.reference@reduced|0" in text
    assert not (data / "comparisons").exists(), "a dry run writes nothing"


def test_what_a_reference_cannot_have_is_refused(piano):
    refused(piano("sweep", "--reference", "forest", "loss"), "arm 'correlation' of loss", "optimisation")
    refused(piano("sweep", "--reference", "moon", "loss"), "'moon.reference': no such config", "ast.reference")
    refused(piano("sweep", "--reference", "hybrid", "loss.huber"), "'loss.huber'")
    refused(piano("sweep", "--reference", "hybrid"), "alone")


def test_a_sweep_against_another_reference_is_kept_as_a_users_comparison(data, tmp_path):
    from piano_assets.defs import planner
    from piano_assets.defs.sweeping import sweep_of
    from piano_assets.store.parts import Store

    shutil.copytree(data / "synthetic", tmp_path / "synthetic")
    store = Store(tmp_path / "synthetic")
    for _ in range(2):
        wanted = sweep_of(store, ["feature_set"], 1, reference="family.ridge")
    assert [p.name for p in planner.user_folder(store).iterdir()] == ["feature_set_on_family_ridge.toml"]
    assert {t.config for t in wanted.tasks()} == {
        "family.ridge",
        *(c for c in planner.configs(store) if c.startswith("feature_set_on_family_ridge.") and "@" not in c),
    }
    assert planner.problems(store) == []


def test_comparisons_show_measured_parameters_beside_claimed(piano):
    result = piano("comparisons", "model_size")
    assert result.exit_code == 0, result.exception
    tiny = next(line for line in result.output.splitlines() if "model_size.tiny" in line)
    assert "4,223,427" in tiny
    assert "10,000,000" in tiny
    assert "4 x learning_rate" in tiny
    assert "full reduced smoke" in tiny
    assert "against ast.reference" in result.output


def test_an_arm_of_another_kind_names_its_family_and_inputs(piano):
    text = piano("comparisons", "family").output
    hybrid = next(line for line in text.splitlines() if "hybrid.reference" in line)
    assert "family=hybrid" in hybrid
    assert "spectrogram=log_mel_128" in text
    assert "mlp_ratio" not in text


def test_comparisons_mark_arms_that_change_labels(piano):
    lines = piano("comparisons", "augmentation_strength", width=250).output.splitlines()
    marked = {line.split()[1] for line in lines if " yes " in line}
    assert {"light", "heavy", "heavy_time_stretch", "heavy_rerendered"} <= marked
    assert not {"light_preserving", "heavy_mixup", "none"} & marked


def test_every_comparison_is_shown_and_an_unknown_one_refused(piano):
    from piano_assets.catalogue.comparisons import COMPARISONS

    text = piano("comparisons").output
    assert all(f"{c.name}, against {c.reference}" in text for c in COMPARISONS)
    refused(piano("comparisons", "los"), "no comparison 'los'", "loss")


def test_broken_files_are_listed_at_the_end_with_status_1(piano, data, tmp_path):
    shutil.copytree(data / "synthetic", tmp_path / "synthetic")
    folder = tmp_path / "comparisons"
    folder.mkdir()
    good = 'hypothesis = "h."\nreference = "family.ridge"\n[arms.strong]\nmodel.settings.alpha = 9.0\n'
    (folder / "mine.toml").write_text(good)
    result = piano("comparisons", "mine", root=tmp_path)
    assert result.exit_code == 0, result.exception
    assert "mine.strong" in result.output
    (folder / "broken.toml").write_text(good.replace("9.0", "-9.0"))
    result = piano("comparisons", "mine", root=tmp_path)
    assert result.exit_code == 1
    assert "mine.strong" in result.output, "the others work"
    last = result.output.strip().splitlines()[-1]
    assert "broken.toml:4: arms.strong: model.settings.alpha=-9.0 must be > 0" in last


@pytest.mark.parametrize("absent", ["features", "labels"])
def test_on_an_unfinished_corpus_everything_is_missing(piano, data, tmp_path, absent):
    """Splits stand, what a trial learns from does not: a killed run leaves this."""
    shutil.copytree(data / "synthetic", tmp_path / "synthetic")
    shutil.rmtree(tmp_path / "synthetic" / "parts" / absent)
    result = piano("sweep", "--dry-run", "--seeds", "2", "family", root=tmp_path)
    assert "12 of 12 partitions are missing" in result.output
    assert "family.ridge|0: missing" in piano("describe", "family.ridge", root=tmp_path).output


def test_the_snapshot_that_was_read_is_still_read_only(piano, data):
    piano("sql", "FROM clips")
    from piano_assets.store.location import open_store

    assert snapshot_path(open_store(str(data), "synthetic")).stat().st_mode & 0o777 == 0o444


def test_power_is_told_before_a_sweep(piano, data):
    result = piano("power", "loss@reduced", width=300)
    assert result.exit_code == 0, result.output
    assert "loss@reduced: differences in mean r" in result.output
    assert "No pair of that kind was tested yet" in result.output, "the small tables hold no networks' tests"
    refused(piano("power", "los"), "no comparison 'los'", "loss@reduced")


def test_power_needs_tables(piano, tmp_path):
    refused(piano("power", "loss", root=tmp_path), "tests", "missing")


def test_what_stands_is_mirrored_to_wandb_when_told(piano, data, monkeypatch):
    from piano_assets.training import mirror as mirroring

    asked = []
    monkeypatch.setattr(mirroring, "mirror", lambda store, runs, mode: asked.append((runs, mode)) or ["k"])
    assert "1 runs mirrored" in piano("mirror").output
    assert "wandb sync" in piano("mirror", "family.ridge").output
    assert "wandb sync" not in piano("mirror", "--online").output
    assert [mode for _, mode in asked] == ["offline", "offline", "online"]
    refused(piano("mirror", "no_such_name"), "no_such_name", "neither a comparison")


def test_a_mirror_without_wandb_says_what_to_install(piano, monkeypatch):
    from piano_assets.training import mirror as mirroring

    def absent(*_):
        raise mirroring.MirrorError("wandb is not installed: pip install 'piano_assets[tracking]'")

    monkeypatch.setattr(mirroring, "mirror", absent)
    refused(piano("mirror"), "piano_assets[tracking]")


@pytest.mark.parametrize(
    "sql", ["FROM read_csv('/etc/passwd')", "COPY clips TO '{}/out.csv'", "ATTACH '{}/x.duckdb'", "INSTALL httpfs"]
)
def test_a_query_cannot_leave_the_snapshot(piano, tmp_path, sql):
    refused(piano("sql", sql.format(tmp_path)), "disabled by configuration")
    assert not list(tmp_path.iterdir())


def test_sharing_says_what_was_exchanged_and_refuses_what_is_no_url(piano, tmp_path):
    url = (tmp_path / "shared").as_uri()
    assert piano("share", url, "family.ridge").output == f"0 partitions taken from {url}, 0 given\n"
    refused(piano("share", "s4://bucket"), "s4")
    refused(piano("share", url, "family.rigde"), "'family.rigde' is neither a comparison", "nor a config")
