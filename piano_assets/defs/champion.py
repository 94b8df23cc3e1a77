"""Assets of the champions: the holder of each title, fitted on all clips and kept to score recordings."""

from datetime import UTC, datetime

import dagster as dg
import pandas as pd

from piano_assets.defs.corpus import key
from piano_assets.defs.data import PianoData, progress, publish, result, spec
from piano_assets.defs.ensembles import predictions_of, rows_of
from piano_assets.defs.features import TABULAR
from piano_assets.defs.planner import known
from piano_assets.defs.results import AUTOMATION
from piano_assets.ensembles.procedures import PREFIX, Procedure
from piano_assets.ensembles.titles import TITLES, Title, procedure_of
from piano_assets.schemas import TABLES
from piano_assets.store.checkpoints import RECORD
from piano_assets.store.parts import Store, read_part

GROUP = "champion"
TABLE = "champions"
CHAMPIONS = dg.StaticPartitionsDefinition(list(TITLES))


def holder_of(store: Store, title: Title) -> tuple[str, Procedure]:
    """The procedure that holds a title, by the verdicts that stand here."""
    part = store.part("tests", "all")
    return procedure_of(title, TABLES["tests"].empty() if part is None else read_part(part).to_pandas())


def champion_key(store: Store, procedure: Procedure) -> str:
    """Part key of a champion: what its candidates are, learn from and are computed by.

    Raises:
        FileNotFoundError: a part that a candidate reads is missing.
    """
    from piano_assets.training.data import code_version, data_version

    trials = known(store).trials
    of = [(trials[c].key, data_version(trials[c], store), code_version(trials[c])) for c in procedure.candidates]
    return key("champion", procedure.rule, of)


def nested_score(store: Store, procedure: str) -> dict[str, dict[str, float]] | None:
    """Metric -> value and interval of the last look at a procedure in the ledger; None where nobody looked."""
    lines = [read_part(part).to_pandas() for part in store.parts("evaluation_ledger")]
    looks = pd.concat(lines) if lines else TABLES["evaluation_ledger"].empty()
    mine = looks[looks["procedure"] == f"{PREFIX}{procedure}"]
    last = mine[mine["at"] == mine["at"].max()]
    found = {m: {"value": v, "ci_low": low, "ci_high": high} for m, v, low, high in _scores(last)}
    return found or None


def _scores(rows: pd.DataFrame) -> list[tuple[str, float, float, float]]:
    columns = ["metric", "value", "ci_low", "ci_high"]
    return [(str(m), float(v), float(low), float(high)) for m, v, low, high in rows[columns].itertuples(index=False)]


def coverage(store: Store, holder: str, procedure: Procedure) -> dict[str, float] | None:
    """Share of labels that intervals held in nested folds, overall and by dimension; None where nobody looked."""
    if store.part("predictions", f"procedures/{holder}") is None:
        return None
    from piano_assets.ensembles.coverage import nested_coverage, shares

    parts = predictions_of(store, procedure.candidates, f"{PREFIX}{holder}")
    rule = known(store).trials[procedure.candidates[0]].label_rule
    return shares(nested_coverage(holder, procedure.rule, rows_of(parts), store.read("labels", rule)))


@dg.multi_asset(
    specs=[spec(TABLE, group=GROUP, deps=["labels", "splits", "ratings", *TABULAR, "tests", "evaluation_ledger"])],
    partitions_def=CHAMPIONS,
    name=TABLE,
)
def champions(context: dg.AssetExecutionContext, piano: PianoData):
    """Fit the holder of a title on all clips, and keep it with its record."""
    from piano_assets.ensembles.champion import champion_table, fit_champion
    from piano_assets.ensembles.champion_files import champion_home, load_learnt, promote, retell, save_champion
    from piano_assets.scoring.domain import DOMAIN, keep_domain
    from piano_assets.training.provenance import git_state

    store, name = piano.store(), context.partition_key
    title = TITLES[name]
    holder, procedure = holder_of(store, title)
    wanted = champion_key(store, procedure)
    part, folder = store.part(TABLE, name, key=wanted), champion_home(store.root, name) / wanted
    made = part is None or not (folder / RECORD).is_file()
    if part is None or made:
        commit, at = git_state()[0], datetime.now(UTC)
        trials = known(store).trials
        fitted = fit_champion(holder, procedure, trials, store, progress=progress(context, "fits"))
        record = {"champion": name, "hears": title.hears, "part_key": wanted, "git_commit": commit}
        record |= {"fitted_at": at.isoformat(), "rule": procedure.rule}
        save_champion(folder, fitted, store.read("clips", "all"), record)
        part = store.write(TABLE, champion_table(name, fitted, wanted, commit, at), key=wanted, name=name)
    if not (folder / DOMAIN).is_file():
        keep_domain(folder, load_learnt(folder))
    # Looks may have come since it was fitted.
    retell(folder, nested=nested_score(store, holder), coverage=coverage(store, holder, procedure))
    if not promote(folder.parent, wanted):
        context.log.warning(f"a rollback holds {name}: {wanted} is fitted, and scores after `piano champion --release`")
    yield result(part, made, procedure=holder, folder=dg.MetadataValue.path(str(folder)))


@dg.multi_asset(
    specs=[spec("reference_scores", group=GROUP, deps=[TABLE], automation_condition=AUTOMATION)],
    partitions_def=CHAMPIONS,
    name="reference_scores",
)
def reference_scores(context: dg.AssetExecutionContext, piano: PianoData):
    """Let every champion of a title that stands score a fixed set of performances."""
    from piano_assets.ensembles.champion_files import champion_home, load_champion, standing
    from piano_assets.scoring import monitoring

    store, name = piano.store(), context.partition_key
    home = champion_home(store.root, name)
    keys = standing(home)

    def make() -> pd.DataFrame:
        rows = [monitoring.reference_scores(load_champion(home / k), number == 0) for number, k in enumerate(keys)]
        return pd.concat(rows) if rows else TABLES["reference_scores"].empty()

    yield publish(store, "reference_scores", key("champion", "reference", *keys), make, name)


@dg.asset_check(
    asset="reference_scores",
    description="Champions of a title say much the same of a fixed set of performances as the one that scores now.",
)
def champions_agree(piano: PianoData) -> dg.AssetCheckResult:
    from piano_assets.scoring.monitoring import MOVED, changes

    parts = [read_part(part).to_pandas() for part in piano.store().parts("reference_scores")]
    found = [(str(t), changes(rows, str(t))) for part in parts for t, rows in part.groupby("champion")]
    moved = [
        f"{title}, {r.part_key}: {r.dimension} by {r.mean_absolute_change:.3f} on average ({r.mean_change:+.3f})"
        for title, rows in found
        for r in rows[rows["mean_absolute_change"] > MOVED].itertuples()
    ]
    compared = sum(rows["part_key"].nunique() for _, rows in found)
    return dg.AssetCheckResult(
        passed=not moved,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"champions_compared": compared, "moved": moved[:50]},
    )


ASSETS = [champions, reference_scores]
CHECKS = [champions_agree]
