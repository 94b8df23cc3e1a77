"""The comparisons of this room: each protocol's methods against its simplest, which adapts nothing."""

from piano_assets.adaptation.conditions import MAIN, SHOTS
from piano_assets.adaptation.methods import METHODS, PERFORMERS, PREFIX, SEQUENCE, WORKS, Protocol
from piano_assets.catalogue.derived import Derived


def _derived(name: str, hypothesis: str, protocol: Protocol, reference: str, note: str) -> Derived:
    arms = {n: m for n, m in METHODS.items() if m.protocol == protocol and n != reference}
    return Derived(
        name=name,
        hypothesis=hypothesis,
        reference=f"{PREFIX}{reference}",
        arms={n: f"{PREFIX}{n}" for n in arms},
        about={n: m.about for n, m in arms.items()},
        configs=(),
        split=protocol.split,
        label_rule=protocol.label_rule,
        budget_note=note,
    )


OTHERS = ", ".join(str(k) for k in SHOTS if k != MAIN)
COMPARISONS: tuple[Derived, ...] = (
    _derived(
        "adaptation",
        f"From {MAIN} rated clips of a new performer a network predicts his other clips better than without; a start "
        "learnt by MAML or ANIL serves better than the joint network's.",
        PERFORMERS,
        "unadapted",
        f"Minutes on a CPU. Five seeds, each with its repeat of the split. Supports of {OTHERS} clips are stored too.",
    ),
    _derived(
        "adaptation_works",
        "Where works are heard but not rated, CORAL and DANN predict them better than training on the others alone.",
        WORKS,
        "source_only",
        "A minute on a CPU. Means of five seeds.",
    ),
    _derived(
        "adaptation_continual",
        "Dimensions learnt in groups, one after another, are forgotten; EWC and replay keep them.",
        SEQUENCE,
        "sequential",
        "Minutes on a CPU. Five seeds, each with its repeat of the split.",
    ),
)
