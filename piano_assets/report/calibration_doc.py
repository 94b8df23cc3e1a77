"""The section of `docs/statistics.md` that says what each test is worth, from simulations on a corpus's structure.

`python -m piano_assets.report.calibration_doc docs/statistics.md` brings it up to date (`make calibrate-statistics`).
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from piano_assets.analysis.planted import SCENARIOS, Structure, structure_of
from piano_assets.analysis.secondary import N_FLIPS, N_RESAMPLES
from piano_assets.analysis.worth import N_ARMS, Calibration, Power, Size, calibrate, monte_carlo_interval
from piano_assets.report.sections import with_section
from piano_assets.statistics.clustered import effective_groups
from piano_assets.store.location import open_store
from piano_assets.store.parts import write_file

BEGIN = "<!-- calibration: written by make calibrate-statistics -->"
END = "<!-- end of calibration -->"


def section(corpus: str, structure: Structure, found: Sequence[Calibration]) -> str:
    """The simulated sizes, coverages and powers as Markdown."""
    n = found[0].n
    groups = {"clusters": structure.cluster, "performers": structure.performer}
    counted = " and ".join(
        f"{of.max() + 1} {name} (worth {effective_groups(of):.1f} of equal size)" for name, of in groups.items()
    )
    announced = {
        "difference in mean r that as many pilots announce at 80 % power": lambda c: f"{c.power.gain:.3f}",
        "planted and found": lambda c: _share(c.power.found, n),
        "announced for it by one pilot: mean (5 and 95 % quantile)": lambda c: _single(c.power),
        f"Holm over {N_ARMS} arms, none different: any rejected": lambda c: _share(c.family_wise, n),
    }
    lines = [
        f"{n:,} experiments a cell on the structure of `{corpus}`: {len(structure.cluster):,} clips, {counted}; "
        f"{N_FLIPS:,} flips, {N_RESAMPLES:,} resamples, as in the table `tests`.",
        "",
        "Rejected without a true difference, at 5 % (interval of the simulation), and how often the 95 % interval held"
        " the truth:",
        "",
        f"| test | {' | '.join(f'errors share: {c.scenario}' for c in found)} |",
        f"|---|{'---|' * len(found)}",
    ]
    for rows in zip(*(c.null for c in found), strict=True):
        lines.append(f"| `{rows[0].test}` | {' | '.join(map(_cell, rows))} |")
    lines += ["", "The primary test's announcements:", "", "| | " + " | ".join(c.scenario for c in found) + " |"]
    lines += [f"|---|{'---|' * len(found)}"]
    lines += [f"| {name} | {' | '.join(map(of, found))} |" for name, of in announced.items()]
    return "\n".join(lines)


def _cell(size: Size) -> str:
    covered = "" if size.covered is None else f"; holds {size.covered:.1%}"
    return _share(size.rejected, size.n) + covered


def _single(power: Power) -> str:
    return f"{power.single:.1%} ({power.spread[0]:.0%}, {power.spread[1]:.0%})"


def _share(share: float, n: int) -> str:
    low, high = monte_carlo_interval(share, n)
    return f"{share:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--experiments", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(arguments)
    store = open_store()
    structure = structure_of(store.read("clips", "all"), store.read("labels"), store.read("splits", "cluster"))
    found: dict[str, Calibration] = {}
    with ProcessPoolExecutor(given.workers) as pool:
        running = [pool.submit(calibrate, structure, s, given.experiments, given.seed) for s in SCENARIOS]
        for one in as_completed(running):
            found[one.result().scenario] = one.result()
            print(f"{len(found)} of {len(SCENARIOS)}: {one.result().scenario}", file=sys.stderr, flush=True)
    written = section(store.corpus, structure, [found[s.name] for s in SCENARIOS])
    write_file(given.path, with_section(given.path.read_text(encoding="utf-8"), BEGIN, END, written).encode())


if __name__ == "__main__":
    main()
