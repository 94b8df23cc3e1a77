"""The table `subjects`: who has predictions, told from the names they carry.

`<config>|<seed>` is a trial, `lookup.<name>` a lookup, `ensemble.<recipe>` an ensemble, `procedure.<name>` one that
chooses among trials, `adaptation.<method>` a model that was adapted, a config alone an arm over its seeds.
"""

from collections.abc import Iterable

import pandas as pd

from piano_assets.schemas import TABLES

KINDS = {"lookup": "lookup", "ensemble": "ensemble", "procedure": "ensemble", "adaptation": "adaptation"}
"""What stands before the dot of a name that is no config -> kind of the subject."""


def subject_table(names: Iterable[str], trials: pd.DataFrame, published: pd.DataFrame | None = None) -> pd.DataFrame:
    """Describe subjects.

    Args:
        names: subjects of `predictions`.
        trials: table `trials`; each config with predictions becomes an arm as well.
        published: table `published`; each of its subjects gets a row.

    Raises:
        ValueError: a name that follows no rule, or a config that `trials` does not know.
    """
    known = trials.set_index("config")
    rows: dict[str, tuple] = {}
    for name in sorted(set(names)):
        config, bar, seed = name.rpartition("|")
        if bar and seed.isdigit():
            if config not in known.index:
                raise ValueError(f"subject {name!r}: config {config!r} has no row in the table trials")
            family, trial = known.at[config, "family"], known.at[config, "trial"]
            rows[config] = (config, "arm", family, config, None, trial)
            rows[name] = (name, "trial", family, config, int(seed), trial)
        elif name.startswith(tuple(f"{family}." for family in KINDS)):
            family = name.partition(".")[0]
            rows[name] = (name, KINDS[family], family, None, None, None)
        else:
            told = ", ".join(f"'{family}.<name>'" for family in KINDS)
            raise ValueError(f"subject {name!r} is neither '<config>|<seed>' nor one of {told}")
    for name in [] if published is None else published["subject"].unique():
        rows[name] = (name, "published", "published", None, None, None)
    frame = pd.DataFrame(list(rows.values()), columns=list(TABLES["subjects"].columns))
    return frame.astype({"seed": "Int32"})
