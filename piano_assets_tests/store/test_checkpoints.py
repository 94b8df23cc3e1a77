"""Checkpoints come back as they were, or not at all."""

import hashlib
import json
import pickle
import zipfile

import numpy as np
import pytest

from piano_assets.models.tabular import REGRESSORS, build
from piano_assets.store.checkpoints import CheckpointError, load_checkpoint, read_record, refuse_links, save_checkpoint

RECORD = {"part_key": "abc", "fold": 2, "seed": 0}


def network() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"a.weight": rng.normal(size=(3, 4)).astype(np.float32).T, "b": np.array(1.5), "c": np.arange(3)}


@pytest.mark.parametrize("name", REGRESSORS)
def test_every_regressor_comes_back_bit_for_bit(tmp_path, name):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(80, 5)), rng.normal(size=(80, 19))
    x[rng.random(x.shape) < 0.1] = np.nan
    model = build(name, {} if "ridge" in name else {"n_estimators": 5}, 0).fit(x, y)
    save_checkpoint(tmp_path / "fold2", RECORD, model)
    record, again = load_checkpoint(tmp_path / "fold2", part_key="abc", fold=2)
    assert record["file"] == "model.skops"
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_networks_come_back_bit_for_bit(tmp_path):
    save_checkpoint(tmp_path / "fold2", RECORD, network())
    record, again = load_checkpoint(tmp_path / "fold2")
    assert record["file"] == "model.safetensors"
    assert again.keys() == network().keys()
    for name, value in network().items():
        np.testing.assert_array_equal(again[name], value)
        assert again[name].dtype == value.dtype


def test_another_key_is_refused_with_both_values(tmp_path):
    save_checkpoint(tmp_path / "fold2", RECORD, network())
    with pytest.raises(CheckpointError, match="part_key is 'abc', expected 'xyz'"):
        load_checkpoint(tmp_path / "fold2", part_key="xyz")
    with pytest.raises(CheckpointError, match="fold is 2, expected 1"):
        load_checkpoint(tmp_path / "fold2", part_key="abc", fold=1)


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b[:90] + bytes([b[90] ^ 1]) + b[91:], lambda b: b""])
def test_damaged_files_are_refused_with_both_hashes(tmp_path, damage):
    record = save_checkpoint(tmp_path / "fold2", RECORD, network())
    path = tmp_path / "fold2" / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=f"sha256 is [0-9a-f]{{64}}, expected {record['sha256']}"):
        load_checkpoint(tmp_path / "fold2")


def test_absent_checkpoints_and_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*fold9"):
        read_record(tmp_path / "fold9")
    save_checkpoint(tmp_path / "fold2", RECORD, network())
    (tmp_path / "fold2" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model.safetensors is missing"):
        load_checkpoint(tmp_path / "fold2")


def test_types_that_are_not_listed_are_not_built(tmp_path):
    from sklearn.preprocessing import FunctionTransformer

    save_checkpoint(tmp_path / "fold2", RECORD, FunctionTransformer(doubled))
    with pytest.raises(CheckpointError, match=r"type '.*doubled' is not trusted"):
        load_checkpoint(tmp_path / "fold2")


def doubled(x: np.ndarray) -> np.ndarray:
    return 2 * x


def test_the_record_cannot_point_outside_its_folder(tmp_path):
    save_checkpoint(tmp_path / "fold2", RECORD, network())
    record = read_record(tmp_path / "fold2")
    (tmp_path / "fold2" / "record.json").write_text(json.dumps(record | {"file": "../other.safetensors"}))
    (tmp_path / "other.safetensors").write_bytes((tmp_path / "fold2" / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="is missing"):
        load_checkpoint(tmp_path / "fold2")


def test_saving_replaces_whole_or_not_at_all(tmp_path):
    save_checkpoint(tmp_path / "fold2", RECORD, network())
    save_checkpoint(tmp_path / "fold2", RECORD | {"seed": 1}, network())
    assert read_record(tmp_path / "fold2")["seed"] == 1
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_checkpoint(tmp_path / "fold2", RECORD | {"seed": float("nan")}, network())
    assert read_record(tmp_path / "fold2")["seed"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["fold2"]


class Planted:
    """Unpickled, it leaves a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


@pytest.mark.parametrize("file", ["model.pkl", "model.pt", "model.npy", "model.safetensors", "model.skops"])
def test_a_planted_pickle_is_refused_and_never_run(tmp_path, file):
    """Under every name that a record could give it, with the right hash."""
    mark, folder = tmp_path / "it_ran", tmp_path / "fold2"
    planted = pickle.dumps(Planted(mark))
    pickle.loads(planted).close()
    assert mark.exists(), "the scene is set only if it would run"
    mark.unlink()
    record = save_checkpoint(folder, RECORD, network())
    (folder / file).write_bytes(planted)
    changed = {"file": file, "sha256": hashlib.sha256(planted).hexdigest()}
    (folder / "record.json").write_text(json.dumps(record | changed))
    with pytest.raises(CheckpointError, match="must be"):
        load_checkpoint(folder)
    assert not mark.exists()


@pytest.mark.parametrize("file", ["model.pt", "model.skops"])
def test_an_archive_with_a_pickle_in_it_is_refused(tmp_path, file):
    """As `torch.save` writes it."""
    record = save_checkpoint(tmp_path / "fold2", RECORD, network())
    path = tmp_path / "fold2" / file
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(Planted(tmp_path / "it_ran")))
    changed = {"file": file, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (tmp_path / "fold2" / "record.json").write_text(json.dumps(record | changed))
    with pytest.raises(
        CheckpointError, match="must be one of" if file == "model.pt" else "must be an archive that skops"
    ):
        load_checkpoint(tmp_path / "fold2")
    assert not (tmp_path / "it_ran").exists()


def test_links_are_replaced_and_not_written_through(tmp_path):
    outside = tmp_path / "outside"
    save_checkpoint(outside, RECORD, network())
    (tmp_path / "fold2").symlink_to(outside)
    save_checkpoint(tmp_path / "fold2", RECORD | {"seed": 1}, network())
    assert not (tmp_path / "fold2").is_symlink()
    assert (read_record(tmp_path / "fold2")["seed"], read_record(outside)["seed"]) == (1, 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fold2", "outside"]


@pytest.mark.parametrize("planted", ["checkpoints/mine.arm", "work/abc"])
def test_a_partition_behind_a_link_is_refused(tmp_path, planted):
    root, name = tmp_path / "synthetic", "mine.arm/0.float32-cpu"
    refuse_links(root, name, "abc")
    (root / planted).parent.mkdir(parents=True)
    (root / planted).symlink_to(tmp_path)
    with pytest.raises(ValueError, match=f"{planted}.*: a link leads to .*nothing is written or removed there"):
        refuse_links(root, name, "abc")
