"""A trained network from its checkpoint, refused where it is another trial's, another data's or another code's."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from piano_assets.catalogue.trial import Encoder, Trial
from piano_assets.store.checkpoints import checkpoint_folder, load_checkpoint
from piano_assets.store.parts import Store
from piano_assets.training.data import code_version, data_version, part_name

if TYPE_CHECKING:
    from piano_assets.models.network import Network


@dataclass(frozen=True)
class Restored:
    """A network as it predicted its fold, and what its record says.

    network: of several members where the trial's predictions are those of several networks; weights: how much each of
    them counts.
    """

    network: "Network"
    record: dict[str, Any]

    @property
    def weights(self) -> tuple[float, ...]:
        return tuple(self.record.get("weights", (1.0,)))


def restore_network(
    trial: Trial,
    config: str,
    seed: int,
    fold: int,
    store: Store,
    precision: str = "float32",
    device: str = "cpu",
    to: str | None = None,
) -> Restored:
    """Read the network of one fold of a finished partition.

    precision, device: in which it was trained; to: the device that it is put on, by default that one.

    Raises:
        FileNotFoundError: no such checkpoint is kept.
        CheckpointError: it belongs to another trial, data version or code version, or was changed or cut short; the
            message gives both values.
        ValueError: its arrays are not those of the trial's network.
    """
    import torch

    from piano_assets.models.network import Network, Shape
    from piano_assets.models.packing import load_rows, row_of

    assert isinstance(trial.model, Encoder)
    folder = checkpoint_folder(store.root, part_name(trial, config, seed, precision, device)) / f"fold{fold}"
    record, arrays = load_checkpoint(
        folder,
        trial_key=trial.key,
        data_version=data_version(trial, store),
        code_version=code_version(trial),
        seed=seed,
        fold=fold,
    )
    parts = _parts(arrays) if record.get("weights") else [arrays]
    network = Network(trial.model, Shape(**record["shape"]), len(parts)).to(to or device)
    load_rows(network, torch.stack([row_of(network, part) for part in parts]).to(to or device))
    return Restored(network.eval(), record)


def _parts(arrays: dict[str, Any]) -> list[dict[str, Any]]:
    """The arrays of several networks, `<part>.<name>`, network by network in the order of their parts' numbers."""
    found: dict[str, dict[str, Any]] = {}
    for name, array in arrays.items():
        part, _, own = name.partition(".")
        found.setdefault(part, {})[own] = array
    return [found[part] for part in sorted(found, key=lambda part: (len(part), part))]
