"""Every method of adaptation as data: whom or what it adapts to, on which split, and by which learner.

Adding one is a line in `METHODS`. A method that reads another feature set, as the embeddings of a network that was
pretrained on unlabelled notes, is a line with `inputs`. No torch here: planning and Dagster read this list.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from piano_assets.adaptation.conditions import MAIN, SHOTS
from piano_assets.catalogue.trial import Inputs, Tabular, Trial

PREFIX = "adaptation."
"""Subjects of this room are named with it."""
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Rates of gradient steps to choose among."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Whom or what methods adapt to, and how they are tested.

    split: its test clips are those of whom or what is new. support: most clips of a tested performer that are rated.
    """

    name: str
    split: str
    label_rule: str = "clean"
    support: int = 0


PERFORMERS = Protocol(name="performers", split="performer", support=max(SHOTS))
WORKS = Protocol(name="works", split="composer")
SEQUENCE = Protocol(name="sequence", split="cluster")


@dataclass(frozen=True, kw_only=True)
class Method:
    """One subject, `adaptation.<name>`.

    learner: of `learners.LEARNERS`; settings: its arguments; inputs: a feature set.
    """

    protocol: Protocol
    learner: str
    description: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: str = "symbolic"

    @property
    def tuned(self) -> bool:
        """Whether something is chosen on validation clips."""
        return "strengths" in self.settings

    @property
    def about(self) -> dict[str, Any]:
        """What it is, in values that JSON has: what is chosen, and among what, is no part of it."""
        told: dict[str, Any] = {"clips": MAIN} if self.protocol.support and self.learner != "unadapted" else {}
        told |= {"learner": self.learner} if self.learner != "few_shot" else {}
        told |= {k: v for k, v in self.settings.items() if k != "strengths"}
        return told | ({"inputs": self.inputs} if self.inputs != "symbolic" else {})

    @property
    def trial(self) -> Trial:
        """A trial that reads the same parts: by it data are loaded, and their version told."""
        inputs = Inputs(features=self.inputs)
        return Trial(model=Tabular(), inputs=inputs, split=self.protocol.split, label_rule=self.protocol.label_rule)


def _few_shot(rule: str, description: str, strengths: tuple[float, ...] = RATES, start: str = "joint") -> Method:
    settings = {"rule": rule, "start": start, "strengths": strengths}
    return Method(protocol=PERFORMERS, learner="few_shot", description=description, settings=settings)


def _works(learner: str, description: str, inputs: str = "symbolic") -> Method:
    return Method(protocol=WORKS, learner=learner, description=description, inputs=inputs)


def _sequence(learner: str, description: str, **settings: Any) -> Method:
    return Method(protocol=SEQUENCE, learner=learner, description=description, settings=settings)


METHODS: dict[str, Method] = {
    "unadapted": Method(
        protocol=PERFORMERS,
        learner="unadapted",
        description="Joint training on all other performers; no clip of the new one is rated.",
    ),
    "shift": _few_shot("shift", "One offset a dimension, shrunk to zero.", (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)),
    "head_ridge": _few_shot(
        "head_ridge",
        "Ridge regression on the frozen encoder, shrunk to the joint head.",
        (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
    ),
    "head_tuning": _few_shot("head_steps", "Gradient steps on the head."),
    "fine_tuning": _few_shot("all_steps", "Gradient steps on everything."),
    "maml": _few_shot(
        "all_steps", "As fine_tuning, from a start trained through the steps (Finn et al. 2017).", start="maml"
    ),
    "first_order_maml": _few_shot("all_steps", "MAML without second-order terms.", start="first_order_maml"),
    "reptile": _few_shot(
        "all_steps", "As fine_tuning, from a start moved towards adapted ones (Nichol et al. 2018).", start="reptile"
    ),
    "anil": _few_shot(
        "head_steps", "As head_tuning, from a start trained through the steps (Raghu et al. 2020).", start="anil"
    ),
    "source_only": _works("source_only", "Joint training on the source works; the target is not looked at."),
    "standardised_by_work": _works("standardised_by_work", "Each work's features standardised by its own clips."),
    "coral": _works("coral", "Covariances of embeddings are drawn together (Sun & Saenko 2016)."),
    "dann": _works("dann", "Embeddings that an adversary cannot tell apart (Ganin et al. 2016)."),
    "sequential": _sequence("sequential", "Plain fine-tuning, group after group."),
    "frozen": _sequence("frozen", "The first group's encoder, and a linear head on it for each group."),
    "ewc": _sequence("ewc", "Elastic weight consolidation (Kirkpatrick et al. 2017).", strengths=(10.0, 100.0, 1000.0)),
    "replay": _sequence("replay", "A tenth of the clips of earlier groups is learnt along."),
    "together": _sequence("together", "All groups at once."),
}
"""Name -> method."""
