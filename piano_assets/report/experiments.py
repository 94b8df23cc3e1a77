"""`docs/experiments.md`: what came of every comparison, written from the tables alone.

`python -m piano_assets.report.experiments docs/experiments.md` writes the page, and the plots beside it, from the
newest snapshot.
"""

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from piano_assets.catalogue.trial import BUDGETS
from piano_assets.report.differences import differences_plot, is_plotted
from piano_assets.report.outcomes import NO_RUN, READ, Arm, Frames, Outcome, Protocol, Score, outcomes
from piano_assets.report.plots import png
from piano_assets.report.verdicts import interval, number, p_value, plain_result
from piano_assets.schemas import MARGINS, VERDICTS
from piano_assets.statistics.clustered import ALPHA, POWER
from piano_assets.store.location import open_store
from piano_assets.store.parts import Store, write_file
from piano_assets.store.warehouse import latest_snapshot, query

COMMAND = "python -m piano_assets.report.experiments docs/experiments.md"
PLOTS = "images/experiments"
KINSHIP = {"cluster": "music", "excerpt": "excerpt", "performer": "performer", "identical_notes": "notes"}

Column = tuple[str, Callable[[Arm], str]]


def experiments_markdown(tables: Frames, corpus: str = "percepiano", snapshot: str | None = None) -> str:
    """The page.

    Args:
        tables: frames by name, those of `outcomes.READ`; the order of comparisons and arms is kept.
        snapshot: content hash of the snapshot that they are from.
    """
    found = outcomes(tables)
    run, waiting = [o for o in found if o.run], [o for o in found if not o.run]
    sections = [_section(o, tables["published"]) for o in run]
    rules = list(dict.fromkeys(tables["halted"]["rule"]))
    if run:
        sections.insert(0, _overview(run))
    if waiting:
        sections.append(_waiting(waiting))
    return "\n\n".join([_head(corpus, snapshot, rules), *sections]) + "\n"


def _head(corpus: str, snapshot: str | None, halving: Sequence[str]) -> str:
    budgets = [
        f"`{name}` trains on crops of {b.crop_s:g} s for at most {b.epochs} epochs with patience {b.patience}, "
        f"{'and searches' if b.searches else 'without a search'}"
        for name, b in BUDGETS.items()
        if name != "smoke"
    ]
    alpha, source = number(ALPHA, 2), f", snapshot `{snapshot}`" if snapshot else ""
    stopped = "".join(f"\n- **Stopped** arms: {rule}." for rule in halving)
    return f"""# Experiments

What came of every comparison, written from the tables alone (corpus `{corpus}`{source}). Arms that lost, and arms of \
which nothing can be said, stand where the catalogue has them. After new results:

```console
{COMMAND}
```

- **Scores** are of clips outside training, averaged over 19 dimensions and over seeds, each with its own assignment \
of folds; in brackets the 95 % interval, clustered by music and by performer. R2 is of pooled \
clips or a mean over folds, as the protocol says. The best *lookup* hears nothing: it knows the training means of \
excerpts and performers. The *ceiling* is what the listeners' agreement allows. *Tuned*: \
searched on inner validation clips; *fixed*: the trial as it stands.
- **Verdicts** are on arm less reference in mean r, over the seeds that both have, tuned where both are: two-way \
clustered t, with Holm's correction over the arms. *Better*, *worse*: p < {alpha}. *Equivalent*: else, if both \
one-sided tests against the margin, {number(MARGINS["pearson_mean"], 2)} and fixed beforehand, have p < {alpha}. \
*Inconclusive*: else. The minimal detectable effect is the true difference that {100 * POWER:.0f} % of such studies \
would find.
- **Budgets** of networks: {"; ".join(budgets)}. Tabular models always run in full. `<comparison>@reduced` asks the \
question of short training on short crops, and answers it for these only.
- **Changes** read *new (the reference's)*.{stopped}"""


def _overview(run: Sequence[Outcome]) -> str:
    rows = [["comparison", "arms scored", *VERDICTS]]
    for o in run:
        verdicts = [a.difference.verdict for a in o.arms if a.difference]
        counts = [str(verdicts.count(v)) for v in VERDICTS] if o.tested else ["not tested", "", "", ""]
        anchor = "".join(c for c in o.name if c.isalnum() or c in "-_")
        rows.append([f"[{o.name}](#{anchor})", f"{len(o.scored)} of {len(o.arms)}", *counts])
    return "## Overview\n\n" + _table(rows)


def _section(o: Outcome, published: pd.DataFrame) -> str:
    together = o.tested and {a.protocol.name for a in o.scored} == {o.protocol.name}
    searches = " or ".join(f"{n} points" if n else "none" for n in o.search_points)
    setting = [f"Reference `{o.reference}`", f"budget `{o.budget}`"]
    if searches:
        setting.append(f"search: {searches}")
    if together:
        setting.insert(1, f"split, labels, folds: {_protocol(o.protocol)}")
    blocks = [f"## {o.name}", f"*{_text(o.hypothesis)}*", "; ".join(setting) + f". {_text(o.budget_note)}"]
    blocks += [_one_protocol(o) if together else _many_protocols(o), _verdicts(o) if o.tested else _gap(o)]
    if is_plotted(o):
        blocks.append(f"![{o.name}: differences to the reference]({PLOTS}/{plot_name(o)})")
    if not o.tested:
        blocks.append(_published(o, published))
    return "\n\n".join(b for b in (*blocks, _paired_elsewhere(o), _missing(o)) if b)


def _paired_elsewhere(o: Outcome) -> str:
    if not o.paired_elsewhere:
        return ""
    return (
        f"- Differences are between networks trained on {' and '.join(o.paired_elsewhere)}; `{o.reference}` also "
        "stands as trained otherwise, and its scores in the table are those."
    )


def _protocol(p: Protocol) -> str:
    return f"`{p.split}`, `{p.rule}`, {p.aggregation.replace('_', ' ')}"


def _one_protocol(o: Outcome) -> str:
    """The arms, and as last rows the lookup and the ceiling of their protocol."""
    p = o.protocol
    rows = _rows(o, [*_about(o), *_scores(o), *_test(o)])
    for name, r2, r in (
        (f"best lookup: `{p.lookup}`" if p.lookup else "best lookup", p.lookup_r2, p.lookup_r),
        ("ceiling", p.ceiling_r2, p.ceiling_r),
    ):
        cells = {"arm": f"*{name}*", "R2": _score(r2) or "unknown", "r": _score(r) or "unknown"}
        rows.append([cells.get(column, "") for column in rows[0]])
    return _table(rows)


def _many_protocols(o: Outcome) -> str:
    """The arms, each with its protocol, that protocol's lookup and ceiling, and what its split leaks."""
    columns = [c for c in _about(o, ("split ", "label_rule ")) if c[0] != "change" or any(map(c[1], o.scored))]
    columns += [("split, labels, folds", lambda a: _protocol(a.protocol)), *_scores(o)]
    columns += [("best lookup R2 / r", lambda a: _both(a.protocol.lookup_r2, a.protocol.lookup_r))]
    columns += [("ceiling R2 / r", lambda a: _both(a.protocol.ceiling_r2, a.protocol.ceiling_r))]
    columns += [(f"in training: {' / '.join(KINSHIP.values())}", lambda a: _leak(a.protocol))]
    columns += _test(o) if any(a.difference for a in o.scored) else []
    return _table(_rows(o, columns))


def _about(o: Outcome, untold: tuple[str, ...] = ()) -> list[Column]:
    """The arm, what it changed (but for what begins with a word of `untold`), and its size where sizes differ."""
    columns: list[Column] = [("arm", lambda a: f"`{a.name}`")]
    columns += [("change", lambda a: ", ".join(c for c in a.changed if not (untold and c.startswith(untold))))]
    if any(a.claimed for a in o.scored):
        columns += [("claimed", lambda a: _parameters(a.claimed))]
    if columns[2:] or len({a.n_params for a in o.scored if a.n_params}) > 1:
        columns += [("parameters", lambda a: _parameters(a.n_params))]
    return columns


def _scores(o: Outcome) -> list[Column]:
    def n_seeds(a: Arm) -> int:
        return a.r.n_seeds if a.r else 0

    def seeds(a: Arm) -> str:
        n, most = n_seeds(a), max(n_seeds(other) for other in o.scored if other.protocol.name == a.protocol.name)
        return f"{n}{'' if n == most else f' of {most}'}, {a.tuning}"

    columns: list[Column] = [("seeds", seeds), ("R2", lambda a: _score(a.r2)), ("r", lambda a: _score(a.r))]
    return columns + ([("r, fixed", lambda a: _score(a.fixed_r))] if any(a.fixed_r for a in o.scored) else [])


def _test(o: Outcome) -> list[Column]:
    return [
        ("p (Holm)", lambda a: p_value(a.difference.p_holm) if a.difference else ""),
        ("against the reference", lambda a: _against(a, o)),
    ]


def _against(a: Arm, o: Outcome) -> str:
    if a.is_reference:
        return "reference"
    if a.difference:
        return plain_result(a.difference).replace(a.difference.verdict, f"**{a.difference.verdict}**", 1)
    if not any(other.is_reference for other in o.scored):
        return "not tested: the reference has no score"
    if a.protocol.name != o.protocol.name:
        return "not tested: another protocol"
    if a.r and math.isnan(a.r.value):
        return "not tested: r is undefined"
    return "not tested: no seed that both have, or the same predictions"


def _verdicts(o: Outcome) -> str:
    found = {v: [a for a in o.scored if a.difference and a.difference.verdict == v] for v in VERDICTS}
    return ". ".join(f"{v.capitalize()}: {_names(arms) or 'none'}" for v, arms in found.items()) + "."


def _gap(o: Outcome) -> str:
    """How far the protocols lie apart: for the models, and for those who hear nothing."""
    ends = []
    for who, r in (("the models", lambda a: a.r), ("the best lookups", lambda a: a.protocol.lookup_r)):
        known = sorted((r(a).value, a.name) for a in o.scored if r(a) and not math.isnan(r(a).value))
        if known:
            low, high = (f"{number(value)} (`{name}`)" for value, name in (known[0], known[-1]))
            ends.append(f"r of {who} runs from {low} to {high}")
    return f"Across these protocols {'; '.join(ends)}." if ends else ""


def _published(o: Outcome, published: pd.DataFrame) -> str:
    """Published results beside the best arm of their protocol and its lookup, and with what is wrong with them."""
    rows = [["published", "split", "metric", "value", "best arm here", "best lookup", "caveat"]]
    for split, rule in dict.fromkeys(a.protocol.name for a in o.scored):
        arms = [a for a in o.scored if a.protocol.name == (split, rule)]
        for r in published[(published["split"] == split) & (published["rule"] == rule)].itertuples():
            value = f"{number(r.value)} {interval(r.ci_low, r.ci_high, 2)}".strip()
            known = [(a.scores[r.metric], a.name) for a in arms if r.metric in a.scores]
            ours = max((k for k in known if not math.isnan(k[0].value)), key=lambda k: k[0].value, default=None)
            beside = f"{_score(ours[0])} `{ours[1]}`" if ours else ""
            lookup = _score(arms[0].protocol.lookup_scores.get(r.metric))
            caveat = "" if pd.isna(r.caveat) else _text(r.caveat)
            rows.append([r.subject, f"`{split}`", f"`{r.metric}`", value, beside, lookup, caveat])
    return _table(rows) if rows[1:] else ""


def _missing(o: Outcome) -> str:
    """A line for each reason why arms have no score, or not on every seed."""
    lines: dict[tuple[str, str], list[Arm]] = {}
    for a in o.arms:
        if a.reason:
            lines.setdefault(("Not on every seed" if a.r else "Not run", a.reason), []).append(a)
    return "\n".join(f"- {what}{_aside(reason)}: {_names(arms)}." for (what, reason), arms in sorted(lines.items()))


def _aside(reason: str | None) -> str:
    return "" if reason in (None, NO_RUN) else f" ({reason})"


def _waiting(outcomes: Iterable[Outcome]) -> str:
    """Comparisons of which no arm but the reference has a score; budgets of one comparison share a row."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for o in outcomes:
        arms = [f"`{a.name}`{_aside(a.reason)}" for a in o.arms]
        about = _text(o.hypothesis), ", ".join(arms), _text(o.budget_note)
        rows.setdefault(about, []).append(f"`{o.name}`")
    head = ["comparison", "hypothesis", "arms", "what it takes"]
    table = _table([head, *([", ".join(names), *about] for about, names in rows.items())])
    return f"## Not run yet\n\n`piano sweep <comparison>` trains what is missing.\n\n{table}"


def _rows(o: Outcome, columns: Sequence[Column]) -> list[list[str]]:
    return [[name for name, _ in columns], *([cell(a) for _, cell in columns] for a in o.scored)]


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |" for cells in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _text(said: str) -> str:
    """Words of the catalogue, with nothing that Markdown would take for a tag."""
    return said.replace("<", "&lt;")


def _names(arms: Iterable[Arm]) -> str:
    return ", ".join(f"`{a.name}`" for a in arms)


def _score(s: Score | None) -> str:
    if s is None:
        return ""
    return f"{number(s.value)} {interval(s.ci_low, s.ci_high, 2)}".strip() or "undefined"


def _both(r2: Score | None, r: Score | None) -> str:
    return " / ".join(number(s.value) if s else "unknown" for s in (r2, r))


def _leak(p: Protocol) -> str:
    return " / ".join(f"{100 * p.leaks[k]:.0f}" for k in KINSHIP) + " %" if set(KINSHIP) <= set(p.leaks) else "unknown"


def _parameters(n: int | None) -> str:
    return "" if n is None else f"{n / 1e6:.3g}M" if n >= 1e5 else str(n)


def plot_name(o: Outcome) -> str:
    return f"{o.name.replace('@', '.')}.png"


def read_tables(store: Store) -> dict[str, pd.DataFrame]:
    """The tables of the newest snapshot, in the order in which they were written."""
    return {t: query(store, f'SELECT * EXCLUDE corpus FROM "{t}" ORDER BY rowid') for t in READ}


def write_page(path: Path, store: Store) -> list[Path]:
    """Write the page and its plots; a plot that is no longer shown is removed. Returns the files."""
    tables = read_tables(store)
    text = experiments_markdown(tables, store.corpus, latest_snapshot(store).stem)
    shown = {plot_name(o): o for o in outcomes(tables) if is_plotted(o)}
    folder = path.parent / PLOTS
    for old in folder.glob("*.png"):
        if old.name not in shown:
            old.unlink()
    plots = [write_file(folder / name, png(differences_plot(o), 80)) for name, o in shown.items()]
    return [write_file(path, text.encode()), *plots]


if __name__ == "__main__":
    for written in write_page(Path(sys.argv[1]), open_store()):
        print(written)
