"""How far a recording is from what was heard: distances by hand, and planted strangers."""

import shutil

import numpy as np
import pytest

from piano_assets.ensembles.champion_files import champion_home, load_champion
from piano_assets.features.symbolic import symbolic_names
from piano_assets.scoring.domain import DOMAIN, NEIGHBOURS, domain_in, domain_of, keep_domain, nearest

NAMES = tuple(n for n in symbolic_names() if n.startswith(("timing_", "dynamics_")) and not n.endswith("_vs_deadpan"))
N, N_CLUSTERS = 240, 12


def heard(seed=0):
    rng = np.random.default_rng(seed)
    clusters = np.array([f"c{k}" for k in np.arange(N) % N_CLUSTERS])
    return rng.normal(size=(N, len(NAMES))) * np.linspace(0.1, 100, len(NAMES)), clusters


def test_distances_by_hand():
    x, clusters = heard()
    domain = domain_of(x, NAMES, clusters)
    assert domain.aspects == ("timing", "dynamics")
    low, mid, high = np.quantile(x, [0.05, 0.5, 0.95], axis=0)
    z = np.clip((x - mid) / ((high - low) / 2), -10, 10)
    columns = [k for k, name in enumerate(NAMES) if name.startswith("dynamics_")]
    new = z[:3] + 0.3
    by_hand = [np.sort(np.abs(row[columns] - z[:, columns]).mean(1))[:NEIGHBOURS].mean() for row in new]
    found = domain.distance(new * (high - low) / 2 + mid)
    np.testing.assert_allclose(found[:, 1], by_hand, rtol=1e-5)  # single precision
    other = clusters != clusters[7]
    usual = np.sort(np.abs(z[7][columns] - z[other][:, columns]).mean(1))[:NEIGHBOURS].mean()
    assert np.abs(domain.usual[1] - usual).min() == pytest.approx(0, abs=1e-5)


def test_a_stranger_in_one_aspect_is_told_from_kin():
    x, clusters = heard()
    domain = domain_of(x, NAMES, clusters)
    kin = heard(seed=1)[0]
    assert domain.share_nearer(kin).mean() == pytest.approx(0.5, abs=0.05)
    slow = kin.copy()
    timing = [k for k, name in enumerate(NAMES) if name.startswith("timing_")]
    slow[:, timing] += 3 * domain.spread[timing]
    share = domain.share_nearer(slow)
    assert (share[:, 0] == 1).all()
    np.testing.assert_array_equal(share[:, 1], domain.share_nearer(kin)[:, 1])


def test_undefined_and_constant_features_decide_nothing():
    x, clusters = heard()
    x[:, 0] = 5.0
    x[:, 1] = np.nan
    domain = domain_of(x, NAMES, clusters)
    again = x[:4].copy()
    again[:, 1] = 1e9
    again[0, 2] = np.inf
    assert np.isfinite(domain.distance(again)).all()
    assert np.isfinite(domain.usual).all()


def test_nearest_of_few_is_the_mean_of_all():
    assert nearest(np.array([[3.0, 1.0, 2.0]])).tolist() == [2.0]


def test_what_is_kept_is_the_domain_and_that_of_another_reference_is_not_taken(champion_root, tmp_path):
    folder = shutil.copytree(champion_home(champion_root, "performance") / "k1", tmp_path / "k1")
    holder = load_champion(folder)
    fresh = domain_in(folder, holder)
    keep_domain(folder, holder)
    kept = domain_in(folder, holder)
    for name in ("centre", "spread", "heard", "weights", "usual"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(fresh, name))
    np.savez(folder / DOMAIN, usual=np.zeros_like(fresh.usual), reference=np.array("of another champion"))
    np.testing.assert_array_equal(domain_in(folder, holder).usual, fresh.usual)
    np.savez(folder / DOMAIN, usual=np.zeros_like(fresh.usual), reference=np.array(holder.record["reference_sha256"]))
    assert not domain_in(folder, holder).usual.any(), "what is kept is read"
