"""The comparisons of this room: methods against the simplest of their protocol, and against a rival."""

from piano_assets.adaptation.conditions import MAIN, SHOTS
from piano_assets.adaptation.methods import METHODS, PERFORMERS, PREFIX, SEQUENCE, WORKS, Protocol
from piano_assets.catalogue.derived import Derived


def _derived(
    name: str, hypothesis: str, protocol: Protocol, reference: str, note: str, only: tuple[str, ...] = ()
) -> Derived:
    """All methods of a protocol, or only some of them, against one."""
    there = [n for n, m in METHODS.items() if m.protocol == protocol and n != reference]
    arms = {n: METHODS[n] for n in only or there}
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
        f"From {MAIN} rated clips of a new performer a network predicts his other clips better than without.",
        PERFORMERS,
        "unadapted",
        f"Minutes on a CPU. Five seeds, each with its repeat of the split. Supports of {OTHERS} clips are stored too.",
    ),
    _derived(
        "adaptation_starts",
        "A start that was trained for it, by MAML, ANIL or Reptile, adapts to a new performer better than the joint "
        "network does by plain fine-tuning; ridge regression on its head is the simplest rival.",
        PERFORMERS,
        "fine_tuning",
        "The subjects of `adaptation`.",
        ("head_ridge", "head_tuning", "maml", "first_order_maml", "reptile", "anil"),
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
