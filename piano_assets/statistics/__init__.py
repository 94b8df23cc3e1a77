"""Tests, intervals, resampling and corrections: arrays in, small results out."""

LEVEL = 0.95
ALPHA = 0.05
POWER = 0.80
