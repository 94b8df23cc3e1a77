"""The definitions that Dagster loads."""

from piano_assets.defs.build import build_defs

defs = build_defs()
