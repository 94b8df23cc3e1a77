"""Unlabelled piano music to learn playing from: where it comes from, what of it is used, and why the rest is not."""
