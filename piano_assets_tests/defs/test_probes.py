"""Probes and diagnostics as assets: asked by partition, kept, shown, and made again when the model is another one."""

import dagster as dg
import numpy as np
import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage

from piano_assets.defs import current, planner
from piano_assets.defs.data import PianoData
from piano_assets.defs.probes import applicable, asset_config
from piano_assets.defs.quickstart import StageFailed, materializer
from piano_assets.defs.training import CONFIGS
from piano_assets.schemas import TABLES
from piano_assets.schemas.probes import DIAGNOSTICS, ROBUSTNESS
from piano_assets.store.parts import read_part
from piano_assets.store.warehouse import query
from piano_assets_tests.defs.conftest import Graph, copied

pytestmark = pytest.mark.xdist_group("graph")

TABULAR, NETWORK = "family.ridge", "ast.reference@smoke"
ASKED = {
    TABULAR: ("cross_performer", "feature_importance"),
    NETWORK: ("noise", "error_analysis"),
}
"""One of each kind of asset; what the others ask is tested where it is written."""
N_CLIPS = 4


@pytest.fixture(scope="module")
def piano(graph: Graph, tmp_path_factory) -> PianoData:
    """A copy of the finished run in which the probes above were asked."""
    piano = copied(graph, tmp_path_factory.mktemp("probes"))
    with set_defs_state_storage(None):  # as in `no_dead_instance`, which comes after this fixture
        ask(piano)
        instance = dg.DagsterInstance.ephemeral()
        materializer(instance, piano)(["report", "warehouse"])
    return piano


def ask(piano: PianoData, again: tuple[str, ...] = ()) -> None:
    """Ask all probes, or those named."""
    instance = dg.DagsterInstance.ephemeral()
    instance.add_dynamic_partitions(str(CONFIGS.name), list(ASKED))
    materialize = materializer(instance, piano)
    for config, names in ASKED.items():
        for name in (n for n in names if not again or n in again):
            materialize([name], config, asset_config(name, N_CLIPS, []))
    materialize(["learning_curves"], NETWORK, asset_config("learning_curves", N_CLIPS, []))


def test_every_probe_that_was_asked_stands_in_its_table(piano: PianoData):
    found = query(piano.store(), "SELECT probe, subject, count(*) AS n FROM robustness GROUP BY ALL")
    found = {(r.probe, r.subject) for r in found.itertuples()}
    assert found == {(n, f"{c}|0") for c, names in ASKED.items() for n in names if n in ROBUSTNESS}
    found = query(piano.store(), "SELECT DISTINCT probe, subject FROM diagnostics")
    wanted = {(n, f"{c}|0") for c, names in ASKED.items() for n in names if n in DIAGNOSTICS}
    assert {(r.probe, r.subject) for r in found.itertuples()} == wanted | {("learning_curves", f"{NETWORK}|0")}
    for table in current.PROBED:
        for part in current.probe_parts(piano.store(), table):
            TABLES[table].conform(read_part(part).to_pandas())


def test_clips_as_they_are_score_as_they_do_in_the_tables(piano: PianoData):
    """All clips of the composers that were held back, under the model's own split: the subject's own score."""
    store = piano.store()
    curve = query(store, "FROM robustness WHERE probe = 'cross_performer' AND condition = 'clean'")
    mine = curve[(curve["metric"] == "pearson_mean") & (curve["dimension"] == "mean") & (curve["population"] == "all")]
    score = query(
        store,
        "FROM scores WHERE subject = 'family.ridge|0' AND split = 'cluster' AND metric = 'pearson_mean' "
        "AND dimension = 'mean' AND population = 'all' AND level = 'global' AND tuning = 'tuned'",
    )
    # Stored predictions are float32, and both come from the same ones.
    np.testing.assert_allclose(mine["value"], score["value"], rtol=1e-12)


def test_altered_predictions_are_kept_under_their_conditions_and_enter_no_score(piano: PianoData):
    store = piano.store()
    counted = query(
        store, "SELECT condition, count(*) AS n FROM predictions WHERE condition LIKE 'noise%' GROUP BY ALL"
    )
    assert "noise.clean" in set(counted["condition"])
    assert "noise.white:20" in set(counted["condition"])
    assert set(counted["n"]) == {19 * N_CLIPS}
    assert not set(current.read_predictions(store)["condition"]) - {"clean"}


def test_asking_again_computes_nothing(piano: PianoData):
    paths = [p for t in (*current.PROBED, "predictions") for p in (piano.store().root / "parts" / t).rglob("*.parquet")]
    before = {p: p.stat().st_mtime_ns for p in paths}
    ask(piano, again=("noise", "cross_performer", "error_analysis"))
    assert {p: p.stat().st_mtime_ns for p in paths} == before


def test_what_was_asked_of_a_model_goes_with_it(piano: PianoData, tmp_path):
    """A probe's rows vouch for a run; when that run is another one, they are no result any more."""
    store = piano.store()
    (part,) = [p for p in current.probe_parts(store, "diagnostics") if p.name == f"error_analysis/{NETWORK}"]
    frame = read_part(part).to_pandas()
    store.write("diagnostics", frame, key="other", name=part.name, run="a run that is gone")
    assert part.name not in {p.name for p in current.probe_parts(store, "diagnostics")}
    store.write("diagnostics", frame, key=part.key, name=part.name, **part.record)
    assert part.name in {p.name for p in current.probe_parts(store, "diagnostics")}


def test_what_cannot_be_asked_is_refused_with_its_reason(piano: PianoData):
    store = piano.store()
    trials = planner.known(store).trials
    assert applicable("transcribed", trials[TABULAR], store) == "no clip of modal is transcribed (asset transcriptions)"
    assert applicable("transcribed", trials[NETWORK], store) == "it reads no notes"
    assert applicable("noise", trials[TABULAR], store) == "it hears notes only, no sound"
    assert applicable("adversarial", trials[TABULAR], store) == "it has no gradient: only networks have an adversary"
    assert applicable("loss_landscape", trials[TABULAR], store) == "it is no network"
    assert applicable("feature_importance", trials[NETWORK], store) == "it reads no features"
    assert applicable("cross_composer", trials["split_strategy.composer"], store) == "its own split is composer"
    assert all(applicable(n, trials[c], store) is None for c, names in ASKED.items() for n in names)
    instance = dg.DagsterInstance.ephemeral()
    instance.add_dynamic_partitions(str(CONFIGS.name), [TABULAR])
    with pytest.raises(StageFailed, match=r"noise cannot be asked of family.ridge: it hears notes only"):
        materializer(instance, piano)(["noise"], TABULAR)


def test_the_report_shows_the_probes_and_lets_the_worst_clips_be_heard(piano: PianoData):
    page = (piano.store().root / "report.html").read_text()
    for title in ("Noise", "Where it errs: ast.reference@smoke|0", "What features are needed for"):
        assert f"<h2>{title}" in page
    assert page.count("<audio") == 10, "the ten worst clips"
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script src" not in page
