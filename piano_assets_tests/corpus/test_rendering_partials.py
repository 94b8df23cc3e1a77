"""The physics of one key, against published numbers and against the sound that comes out."""

import numpy as np
import pytest

from piano_assets.corpus.rendering import note_table, partials

RATE = 22050


def _peak_hz(samples, near_hz):
    """Frequency of the highest spectral peak within 15 Hz, by parabolic interpolation of a Hann-windowed FFT."""
    n = 1 << 17
    spectrum = np.log(np.abs(np.fft.rfft(samples * np.hanning(len(samples)), n)) + 1e-12)
    bins = np.arange(int((near_hz - 15) * n / RATE), int((near_hz + 15) * n / RATE))
    top = bins[np.argmax(spectrum[bins])]
    left, middle, right = spectrum[top - 1 : top + 2]
    return (top + 0.5 * (left - right) / (left - 2 * middle + right)) * RATE / n


def _cents(a, b):
    return 1200 * np.log2(a / b)


@pytest.mark.parametrize(("pitch", "hertz"), [(21, 27.5), (60, 261.6256), (69, 440.0), (108, 4186.009)])
def test_equal_temperament(pitch, hertz):
    assert partials.fundamental(pitch) == pytest.approx(hertz, rel=1e-6)  # printed to 7 digits


@pytest.mark.parametrize(
    ("pitch", "low", "high"), [(21, 2e-4, 8e-4), (36, 0.5e-4, 4e-4), (69, 4e-4, 1.2e-3), (96, 3e-3, 3e-2)]
)
def test_inharmonicity_has_the_order_of_magnitude_of_grand_pianos(pitch, low, high):
    assert low < partials.inharmonicity(pitch) < high


def test_inharmonicity_falls_through_the_bass_and_rises_through_the_treble():
    b = np.array([partials.inharmonicity(p) for p in range(21, 109)])
    lowest = int(np.argmin(b))
    assert 36 <= 21 + lowest <= 50  # the break between wound and plain strings
    assert (np.diff(b[: lowest + 1]) < 0).all()
    assert (np.diff(b[lowest:]) > 0).all()


def test_a4_sounds_at_440_hz():
    # The stiffness of the string sharpens the first partial by 1200 log2 sqrt(1 + B) = 0.6 cents.
    assert abs(_cents(_peak_hz(note_table.note_table(69, RATE)[-1][: 2 * RATE], 440), 440)) < 2


@pytest.mark.parametrize(("pitch", "n"), [(36, 2), (36, 9), (60, 3), (60, 8), (69, 5), (84, 3)])
def test_partials_sound_where_fletcher_puts_them(pitch, n):
    f0, b = 440 * 2 ** ((pitch - 69) / 12), partials.inharmonicity(pitch)
    want = n * f0 * (1 + b * n * n) ** 0.5
    got = _peak_hz(note_table.note_table(pitch, RATE)[-1][:RATE], want)
    assert abs(_cents(got, want)) < 2  # the aftersound is 0.6 cents sharp, and pulls the peak
    if n >= 8:
        assert _cents(got, n * f0) > 4  # a harmonic string would fail here


def test_no_partial_folds_back():
    for pitch in (21, 60, 108, 127):
        f = partials.frequencies(pitch, RATE)
        assert (f < RATE / 2).all()
    assert len(partials.frequencies(127, RATE)) == 0  # 12.5 kHz: only the knock is left
    assert np.isfinite(note_table.note_table(127, RATE)).all()


@pytest.mark.parametrize(("pitch", "n"), [(48, 1), (60, 1), (60, 6), (72, 2)])
def test_partials_decay_at_their_rate(pitch, n, monkeypatch):
    monkeypatch.setattr(partials, "SLOW_RATIO", 1.0)  # one stage, one tuning: nothing beats against the prompt sound
    monkeypatch.setattr(partials, "SLOW_DETUNING_CENTS", 0.0)
    table = note_table._strings(pitch, partials.frequencies(pitch, RATE), RATE)[-1]
    f = partials.frequencies(pitch, RATE)
    t = np.arange(int(0.2 * RATE))
    window = np.hanning(len(t)) * np.exp(-2j * np.pi * f[n - 1] * t / RATE)
    first, second = (abs(np.sum(table[int(s * RATE) :][: len(t)] * window)) for s in (0.05, 0.25))
    # Leakage of the neighbours through a 0.2 s Hann window stays below 1 %.
    assert np.log(first / second) / 0.2 == pytest.approx(partials.decay_rate(pitch, f)[n - 1], rel=0.01)


def test_decay_has_two_stages():
    table = note_table.note_table(60, RATE)[2]
    db = [10 * np.log10(np.mean(table[int(t * RATE) : int((t + 0.2) * RATE)] ** 2)) for t in (0.1, 0.7, 3.0, 5.0)]
    assert (db[0] - db[1]) / 0.6 > 2.5 * (db[2] - db[3]) / 2.0


def test_high_partials_and_high_keys_die_sooner():
    f = partials.frequencies(60, RATE)
    assert (np.diff(partials.decay_rate(60, f)) > 0).all()
    first = [partials.decay_rate(p, partials.frequencies(p, RATE)[:1])[0] for p in range(21, 109)]
    assert (np.diff(first) > 0).all()


@pytest.mark.parametrize("velocity", [5, 40, 64, 127])
def test_strengths_have_unit_power_over_half_a_second(velocity):
    f = partials.frequencies(55, 44100)
    a, rate = partials.strengths(55, f, velocity), partials.decay_rate(55, f)
    t = (np.arange(20000) + 0.5) / 40000  # brute force; sinusoids of different frequency do not interfere on average
    power = np.mean(sum(0.5 * (x * np.exp(-r * t)) ** 2 for x, r in zip(a, rate, strict=True)))
    assert power == pytest.approx(1, rel=1e-6)


def test_a_harder_blow_moves_power_to_high_partials():
    f = partials.frequencies(60, RATE)
    tilt = np.log(partials.strengths(60, f, 110) / partials.strengths(60, f, 40))
    assert (np.diff(tilt) > 0).all()


def test_upper_18_keys_have_no_dampers():
    assert [p for p in range(21, 109) if partials.damping_rate(p) == 0] == list(range(91, 109))
    rates = [partials.damping_rate(p) for p in range(21, 91)]
    assert (np.diff(rates) > 0).all()
    assert np.log(1000) / partials.damping_rate(60) == pytest.approx(0.5 * 2 ** (-32 / 28))


def test_layers_share_phases_so_that_crossfades_do_not_cancel():
    table = note_table.note_table(50, RATE)
    spectrum = np.fft.rfft(table[[0, -1], 1000:20000] * np.hanning(19000))
    strong = np.abs(spectrum[0]) > 1e-2 * np.abs(spectrum[0]).max()
    assert np.abs(np.angle(spectrum[1] / spectrum[0])[strong]).max() < 0.35  # the knock and neighbours blur it a little
