"""A second name for a file: what is read by it stays as it is while the first name is given to another file."""

import os
import shutil
from pathlib import Path


def link(source: Path, target: Path) -> None:
    """Give the bytes of `source` a second name; a copy where the file system has no hard links.

    Raises:
        FileNotFoundError: there is no source.
    """
    while True:
        try:
            os.link(source, target)
            return
        except FileNotFoundError:
            if not source.exists():
                raise
            # It was replaced between being found and being linked: the new file it is.
        except OSError:
            shutil.copyfile(source, target)
            return
