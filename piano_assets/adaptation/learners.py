"""The learners that methods name: from a fold to predictions of its test clips by condition.

Each gives (n_test, 19) in the fold's standard units, NaN where a dimension is not learnt yet; `clean` is complete.
"""

from collections.abc import Callable

import numpy as np

from piano_assets.adaptation import between_works, continual, few_shot

LEARNERS: dict[str, Callable[..., dict[str, np.ndarray]]] = {
    "unadapted": few_shot.unadapted,
    "few_shot": few_shot.few_shot,
    "source_only": between_works.source_only,
    "standardised_by_work": between_works.standardised_by_work,
    "coral": between_works.coral,
    "dann": between_works.dann,
    "sequential": continual.sequential,
    "frozen": continual.frozen,
    "ewc": continual.ewc,
    "replay": continual.replay,
    "together": continual.together,
}
