"""Assets of the corpus: from the source's files to clips, ratings, labels, ceiling, splits and audio."""

from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd

from piano_assets.corpus.obtain import obtain
from piano_assets.corpus.source import RATINGS_FILE, SCORES, checksum, needed_files
from piano_assets.defs.data import OWNERS, PianoData, progress, publish, result, spec
from piano_assets.schemas import RULES, TABLES
from piano_assets.store.parts import Store, digest, file_sha256
from piano_assets.versions import CODE_VERSION

GROUP = "corpus"


def source_folder(store: Store) -> Path:
    """The folder with the source's own files: given by the environment, downloaded, or generated."""
    return obtain(store.corpus, store.root)


def key(family: str, *inputs: object) -> str:
    """Part key of a table: the code version of its family, and what it was computed from."""
    return digest(family, CODE_VERSION[family], *inputs)


def content(store: Store, *parts: tuple[str, str]) -> list[str]:
    return [store.require(table, name).content_hash for table, name in parts]


@dg.asset(group_name=GROUP, kinds={"file"}, owners=OWNERS)
def percepiano_source(context: dg.AssetExecutionContext, piano: PianoData) -> dg.MaterializeResult:
    """The corpus' own files: performances, scores, every single rating.

    PercePiano: the folder named by `PERCEPIANO_DIR`, else downloaded from its public repository at a pinned commit and
    verified by checksum. Synthetic: generated, with known truth.
    """
    store = piano.store()
    folder = obtain(store.corpus, store.root, progress=progress(context, "bytes"))
    sha256 = checksum(folder)
    return dg.MaterializeResult(
        metadata={
            "folder": dg.MetadataValue.path(str(folder)),
            "files": len(needed_files(folder)),
            "sha256": sha256,
        },
        data_version=dg.DataVersion(sha256[:16]),
    )


@dg.multi_asset(
    specs=[
        spec(t, group=GROUP, deps=["percepiano_source"], skippable=False)
        for t in ("clips", "notes", "controls", "clusters")
    ],
    name="performances",
)
def performances(context: dg.AssetExecutionContext, piano: PianoData):
    """Read every performance; what cannot be read goes to the quarantine with its rule and value."""
    from piano_assets.corpus.clusters import read_scores, score_clusters
    from piano_assets.corpus.loading import load_performances

    store, folder = piano.store(), source_folder(piano.store())
    wanted = key("corpus", checksum(folder))
    tables = ("clips", "notes", "controls", "clusters")
    found = {t: store.part(t, key=wanted) for t in tables}
    made = not all(found.values())
    if made:
        loaded = load_performances(folder, progress(context, "performances"))
        cluster = score_clusters(loaded.clips, loaded.notes, read_scores(folder / SCORES, loaded.clips))
        clips = loaded.clips.assign(cluster=loaded.clips["excerpt"].map(cluster))
        clusters = clips.groupby(["excerpt", "cluster"], as_index=False).agg(n_clips=("clip", "size"))
        store.write("quarantine", loaded.quarantine, key=wanted, name="performances")
        frames = {"notes": loaded.notes, "controls": loaded.controls, "clusters": clusters, "clips": clips}
        found = {t: store.write(t, frame, key=wanted) for t, frame in frames.items()}
    for table in tables:
        part = found[table]
        assert part is not None
        yield result(part, made)


@dg.multi_asset(specs=[spec("ratings", group=GROUP, deps=["percepiano_source"])], name="ratings")
def ratings(piano: PianoData):
    """Read every answer; rows and answers that are none go to the quarantine."""
    from piano_assets.corpus.ratings import read_ratings

    store, folder = piano.store(), source_folder(piano.store())
    wanted = key("corpus", checksum(folder), "ratings")
    part = store.part("ratings", key=wanted)
    made = part is None
    if part is None:
        read = read_ratings(folder / RATINGS_FILE)
        store.write("quarantine", read.quarantine, key=wanted, name="ratings")
        part = store.write("ratings", read.ratings, key=wanted)
    yield result(part, made)


@dg.multi_asset(specs=[spec("labels", group=GROUP, deps=["ratings", "clips"])], name="labels")
def labels(piano: PianoData):
    """Aggregate ratings to labels by both rules; clips without ratings and ratings without a clip are listed."""
    from piano_assets.corpus.labels import labels as aggregate
    from piano_assets.corpus.labels import unmatched

    store = piano.store()
    answers, clips = store.read("ratings", "all"), store.read("clips", "all")
    made = False
    for rule in RULES:
        wanted = key("corpus", rule, *content(store, ("ratings", "all"), ("clips", "all")))
        if store.part("labels", rule, key=wanted) is None:
            frame = aggregate(answers, rule)
            lost = unmatched(answers, clips, rule)
            store.write("quarantine", lost, key=wanted, name=f"labels.{rule}")
            store.write("labels", frame[frame["clip"].isin(clips["clip"])], key=wanted, name=rule)
            made = True
    yield many(store, "labels", RULES, made)


def many(
    store: Store, table: str, names: tuple[str, ...] | list[str], made: bool, asset: str = "", **metadata
) -> dg.MaterializeResult:
    """Tell Dagster about a table of several parts."""
    parts = [store.require(table, name) for name in names]
    return dg.MaterializeResult(
        asset_key=asset or table,
        metadata={
            "dagster/row_count": sum(p.n_rows for p in parts),
            "parts": {p.name: p.key for p in parts},
            "path": dg.MetadataValue.path(str(store.root / "parts" / table)),
            "reused": not made,
            **metadata,
        },
        data_version=dg.DataVersion(digest([p.content_hash for p in parts])),
    )


@dg.multi_asset(specs=[spec("noise_ceiling", group=GROUP, deps=["ratings", "clips"])], name="noise_ceiling")
def noise_ceiling(piano: PianoData):
    """How well listeners agree, by two estimators, with intervals."""
    from piano_assets.corpus.ceiling import noise_ceiling as estimate

    store = piano.store()

    def make() -> pd.DataFrame:
        return estimate(store.read("ratings", "all"), store.read("clips", "all"), np.random.default_rng(0))

    wanted = key("ceiling", *content(store, ("ratings", "all"), ("clips", "all")))
    yield publish(store, "noise_ceiling", wanted, make)


@dg.multi_asset(
    specs=[spec("splits", group=GROUP, deps=["clips", "notes", "labels"]), spec("leaks", group=GROUP, deps=["clips"])],
    name="splits",
)
def splits(context: dg.AssetExecutionContext, piano: PianoData):
    """Make every split and measure what it leaks; a split that this corpus cannot have is listed with its reason."""
    from piano_assets.corpus.leaks import leaks as measure
    from piano_assets.corpus.leaks import notes_hashes
    from piano_assets.corpus.splits import SPLITS, SplitImpossible, make_split

    store = piano.store()
    tables = {t: store.read(t, "all") for t in ("clips", "notes", "ratings")}
    tables["labels"] = store.read("labels")
    inputs = content(store, ("clips", "all"), ("notes", "all"), *(("labels", rule) for rule in RULES))
    made, names, impossible = False, [], []
    hashes = notes_hashes(tables["notes"])
    for name in SPLITS:
        wanted = key("splits", name, *inputs)
        if store.part("splits", name, key=wanted) is None or store.part("leaks", name, key=wanted) is None:
            try:
                rows = make_split(name, **tables)
            except SplitImpossible as error:
                impossible.append({"source": "splits", "item": name, "rule": "split impossible", "value": str(error)})
                context.log.warning(f"{name}: {error}")
                continue
            store.write("splits", rows, key=wanted, name=name)
            store.write("leaks", measure(rows, tables["clips"], hashes), key=wanted, name=name)
            made = True
        names.append(name)
    skipped = pd.DataFrame(impossible, columns=list(TABLES["quarantine"].columns), dtype="str")
    store.ensure("quarantine", "splits", key("splits", impossible, *inputs), skipped.copy)
    yield many(store, "splits", names, made, impossible=[i["item"] for i in impossible])
    yield many(store, "leaks", names, made)


@dg.multi_asset(specs=[spec("audio", group=GROUP, deps=["notes", "controls"])], name="audio")
def audio(context: dg.AssetExecutionContext, piano: PianoData):
    """Render every clip with each renderer that is asked for; real recordings in the corpus' `audio/` folder win."""
    from piano_assets.corpus.performance import performances as assemble
    from piano_assets.corpus.rendering.write import render_corpus

    store = piano.store()
    recorded = sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in (store.root / "audio").glob("*.*"))
    made = False
    for rendering in piano.renderings:
        inputs = content(store, ("notes", "all"), ("controls", "all"))
        wanted = key(rendering, recorded, _instrument(rendering), *inputs)

        def make(rendering: str = rendering, wanted: str = wanted) -> pd.DataFrame:
            played = assemble(store.read("notes", "all"), store.read("controls", "all"))
            refused: list[tuple[str, str, str, str]] = []
            found = render_corpus(
                played,
                store.root,
                rendering,
                progress=progress(context, f"clips rendered, {rendering}"),
                on_bad_recording=lambda clip, error: refused.append(("audio", clip, error.rule, error.value)),
            )
            bad = pd.DataFrame(refused, columns=list(TABLES["quarantine"].columns), dtype="str")
            store.write("quarantine", bad, key=wanted, name=f"audio.{rendering}")
            return found

        made = store.ensure("audio", rendering, wanted, make)[1] or made
    yield many(store, "audio", piano.renderings, made)


def _instrument(rendering: str) -> str | None:
    """What a renderer sounds like beyond its code: the SoundFont's hash."""
    if rendering != "fluidsynth":
        return None
    from piano_assets.corpus.rendering.fluidsynth import find_soundfont

    return file_sha256(find_soundfont())


ASSETS = [percepiano_source, performances, ratings, labels, noise_ceiling, splits, audio]
