"""Augmentation of standardised crops: pure functions of the crops and of uniforms that the caller draws.

Crops are (..., n, w), n frames or notes of w bands or columns, 0 being the training mean. Whatever is drawn comes from
`u`, (..., N_UNIFORMS) in [0, 1): a crop's augmentation depends on its own uniforms alone, and a stored row of uniforms
is a fixed version of it. With probability 0 every function returns its input unchanged.
"""

import math

import torch
from torch import Tensor

BAND_SHARE = 27 / 80
"""Widest frequency mask as a share of the bands: F = 27 of 80 (Park et al. 2019, table 1)."""

TIME_FRAMES, TIME_SHARE = 50, 0.2
"""Longest time mask: 50 frames, the paper's 1 s, at most this share of the crop (its Switchboard p)."""

SIMILARITY_BANDWIDTH = 0.1
"""C-Mixup's, on the 0..1 scale: of 1,200 clips about 30 are likely partners, 0.07 away from a label on average."""

MIXTURES = ("mixup", "c_mixup", "cutmix")

SLOTS = (
    *("masked", "bands_1", "first_band_1", "bands_2", "first_band_2"),
    *("frames_1", "first_frame_1", "frames_2", "first_frame_2"),
    *("mixture", "weight", "box_time", "box_band"),
)
"""What each uniform decides: whether masks come, their widths and places; which mixture, its weight, a box's centre."""

N_UNIFORMS = len(SLOTS)


def spec_augment(x: Tensor, u: Tensor, p: Tensor | float) -> Tensor:
    """SpecAugment (Park et al. 2019, without time warping): two masks over bands and two over time, filled with 0.

    Widths and places are drawn as `torchaudio.functional.mask_along_axis_iid` does. p: probability per crop, (...).
    """
    n, w = x.shape[-2:]
    widest = min(TIME_FRAMES, int(TIME_SHARE * n)), int(BAND_SHARE * w)
    times, bands = (
        _stripe(size, limit, _slot(u, f"{axis}s_1"), _slot(u, f"first_{axis}_1"))
        | _stripe(size, limit, _slot(u, f"{axis}s_2"), _slot(u, f"first_{axis}_2"))
        for size, limit, axis in zip((n, w), widest, ("frame", "band"), strict=True)
    )
    masked = (_slot(u, "masked") < p)[..., None]
    return x.masked_fill((times & masked)[..., :, None] | (bands & masked)[..., None, :], 0.0)


def mixture(u: Tensor, rates: Tensor) -> Tensor:
    """Which mixture each crop takes part in: (...) int64, 0 for none, else 1 + its place in `MIXTURES`.

    rates: (..., 3), the probabilities of `MIXTURES`, which exclude one another.
    """
    draw, edge = _slot(u, "mixture"), torch.zeros_like(rates[..., 0])
    kind = torch.zeros_like(draw, dtype=torch.int64)
    for i in range(len(MIXTURES)):
        kind += (i + 1) * ((draw >= edge) & (draw < edge + rates[..., i]))
        edge = edge + rates[..., i]
    return kind


def mix(
    x: Tensor, partner: Tensor, target: Tensor, partner_target: Tensor, u: Tensor, rates: Tensor
) -> tuple[Tensor, Tensor]:
    """Mix crops and their labels with those of partners: mixup, C-Mixup or CutMix, whichever a crop's draw says.

    Args:
        x, partner: (..., n, w). target, partner_target: (..., 19). rates: as in `mixture`.
    Returns:
        mixed crops and labels; those of crops that draw no mixture are x and target to the bit.

    Mixup (Zhang et al. 2018) and C-Mixup (Yao et al. 2022) differ in how partners are drawn (see `similar_partner`).
    The weight is Beta(1/2, 1/2); the larger part is always a crop's own, which for partners drawn at random changes
    nothing but the order of the two. CutMix (Yun et al. 2019) pastes a box of time x frequency; labels are mixed by its
    area. That a rating of the whole is made of its parts so is an assumption.
    """
    kind = mixture(u, rates)
    n, w = x.shape[-2:]
    # A box reaches to both sides of its centre and is clipped; before that its area is 1 - lambda, uniform for CutMix.
    side = (1 - _slot(u, "weight")).sqrt()
    time, band = _box(n, side, _slot(u, "box_time")), _box(w, side, _slot(u, "box_band"))
    cut = kind == 1 + MIXTURES.index("cutmix")
    blend = torch.where((kind > 0) & ~cut, own_weight(_slot(u, "weight")), 1.0)
    box = (time & cut[..., None])[..., :, None] & band[..., None, :]
    label = torch.where(cut, 1 - time.sum(-1) * band.sum(-1) / (n * w), blend)[..., None]
    cell = torch.where(box, 0.0, blend[..., None, None])
    # lerp is exact at both ends.
    return torch.lerp(partner, x, cell), torch.lerp(partner_target, target, label)


def own_weight(u: Tensor) -> Tensor:
    """Weight of a crop's own part in mixup: the quantile of Beta(1/2, 1/2), given that it is at least 1/2."""
    return torch.sin(math.pi / 4 * (1 + u)).square()


def uniform_partner(index: Tensor, n: int, u: Tensor) -> Tensor:
    """Any other of n clips with equal chance. index, u: (...)."""
    return (index + 1 + (u.double() * (n - 1)).long().clamp(max=n - 2)) % n


def partners_by_similarity(targets: Tensor, bandwidth: float = SIMILARITY_BANDWIDTH) -> Tensor:
    """C-Mixup's chances of every clip as a partner of every other, summed up along rows: (n, n) float64.

    Chances fall with the distance of labels as a normal density of that bandwidth (Yao et al. 2022, section 3). Unlike
    there a clip is not its own partner, which would be no mixture.

    Args:
        targets: (n, 19), n >= 2.
    """
    if len(targets) < 2:
        raise ValueError(f"C-Mixup needs at least 2 clips to draw partners from (found {len(targets)})")
    y = targets.double()
    logit = -torch.cdist(y, y, compute_mode="donot_use_mm_for_euclid_dist").square() / (2 * bandwidth**2)
    table = torch.softmax(logit.fill_diagonal_(-math.inf), 1).cumsum(1)
    return table / table[:, -1:]


def similar_partner(cumulative: Tensor, index: Tensor, u: Tensor) -> Tensor:
    """Draw a partner of each clip from `partners_by_similarity`. index, u: (...)."""
    flat = torch.searchsorted(cumulative[index.flatten()], u.flatten()[:, None].to(cumulative.dtype), right=True)
    return flat.view(index.shape)


def tempo_ratio(u: Tensor, largest: Tensor | float) -> Tensor:
    """Tempo ratios between 1 - largest and 1 + largest; above 1 is faster."""
    return 1 - largest + 2 * largest * u


def shift_semitones(u: Tensor, largest: Tensor | float) -> Tensor:
    """Shifts between -largest and largest semitones, not only whole ones."""
    return largest * (2 * u - 1)


def _slot(u: Tensor, name: str) -> Tensor:
    return u[..., SLOTS.index(name)]


def _stripe(size: int, limit: int, width: Tensor, place: Tensor) -> Tensor:
    """True in a stretch of at most `limit` of `size` places: (..., size)."""
    width = width * limit
    first, at = (place * (size - width)).long()[..., None], torch.arange(size, device=width.device)
    return (at >= first) & (at < first + width.long()[..., None])


def _box(size: int, side: Tensor, centre: Tensor) -> Tensor:
    """True within half of `side` of the centre, both as shares of `size`, clipped: (..., size)."""
    half = (size * side).long() // 2
    at, middle = torch.arange(size, device=side.device), (centre * size).long()
    return (at >= (middle - half)[..., None]) & (at < (middle + half)[..., None])
