"""The interval of a ratio of two estimates that each have an interval of their own."""

import numpy as np

Ends = tuple[np.ndarray, np.ndarray]


def ratio_interval(above: np.ndarray, ends_above: Ends, below: np.ndarray, ends_below: Ends) -> Ends:
    """Interval of above / below from the intervals of both, of one level, of any one shape.

    The method of variance estimates recovery (Donner & Zou 2012, Stat. Methods Med. Res. 21:347; MOVER-R in
    Newcombe 2016, ibid. 25:1774): each end of an interval tells the standard error on its own side, and the ratio's
    ends solve (above - R below)^2 = (above - end)^2 + R^2 (below - end)^2. With symmetric intervals that is Fieller's
    interval (1954, JRSS B 16:175); with a denominator that is known, its division of the numerator's ends. Of the
    denominator's ends the one counts that moves the ratio further out: of a negative ratio the other one.

    It takes the two errors for independent. Errors that go together, as those of two estimates from the same clips do,
    leave a ratio less uncertain than that.

    Args:
        above, below: estimates; ends_above, ends_below: (low, high) of each, with low <= estimate <= high.

    Returns:
        (low, high); NaN where an estimate or an end is NaN, or where the denominator's interval reaches 0 or twice the
        estimate: such a ratio has no finite interval.

    Raises:
        ValueError: an estimate outside its own interval.
    """
    for name, estimate, (low, high) in (("above", above, ends_above), ("below", below, ends_below)):
        outside = (np.asarray(low) > estimate) | (np.asarray(estimate) > high)
        if outside.any():
            raise ValueError(f"{name}: {int(outside.sum())} estimates lie outside their own intervals")
    low_below, high_below = ends_below
    (low, high), found = ends_above, []
    known = (low_below > 0) & (high_below < 2 * below)
    for end, sign, with_positive, with_negative in (
        (low, -1, high_below, low_below),
        (high, 1, low_below, high_below),
    ):
        at = np.where(end >= 0, with_positive, with_negative)
        scale = np.where(known, at * (2 * below - at), np.nan)
        product = above * below
        found.append((product + sign * np.sqrt(np.maximum(product**2 - end * (2 * above - end) * scale, 0))) / scale)
    return found[0], found[1]
