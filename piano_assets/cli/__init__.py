"""The command line: `piano run`, `sweep`, `probe`, `comparisons`, `leaderboard`, `sql`, `describe`, and more."""

import click

from piano_assets.cli import champions, making, reading, scoring
from piano_assets.cli.shared import console

__all__ = ["console", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """What makes a model hear a piano performance as listeners do?

    PIANO_CORPUS (percepiano or synthetic) and PIANO_DATA (default: data) say which corpus and where.
    """


for _command in (*making.COMMANDS, *champions.COMMANDS, *scoring.COMMANDS, *reading.COMMANDS):
    main.add_command(_command)
