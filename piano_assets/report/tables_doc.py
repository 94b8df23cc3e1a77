"""The section of `docs/data.md` that lists every table, written from the declarations.

`python -m piano_assets.report.tables_doc docs/data.md` brings the file's section up to date.
"""

import sys
from pathlib import Path

from piano_assets.report.sections import with_section
from piano_assets.schemas import TABLES, Column, Table
from piano_assets.store.parts import write_file

BEGIN = "<!-- tables: written by python -m piano_assets.report.tables_doc docs/data.md -->"
END = "<!-- end of tables -->"
_MANY = 8


def tables_section() -> str:
    """All tables as Markdown, one short section each."""
    return "\n\n".join(_section(t) for t in TABLES.values())


def with_tables(text: str) -> str:
    """`text` with its section of tables up to date.

    Raises:
        ValueError: the marks of the section are missing.
    """
    return with_section(text, BEGIN, END, tables_section())


def _section(table: Table) -> str:
    key = f"\n\nUnique by {', '.join(f'`{k}`' for k in table.key)}." if table.key else ""
    rows = [f"| `{name}` | {c.type} | {_meaning(c)} |" for name, c in table.columns.items()]
    return "\n".join(
        [f"### {table.name}", "", table.description + key, "", "| column | type | meaning |", "|---|---|---|", *rows]
    )


def _meaning(c: Column) -> str:
    said = [c.description]
    if c.values is not None and len(c.values) <= _MANY and not all(v in c.description for v in c.values):
        said.append("one of " + ", ".join(f"`{v}`" for v in c.values))
    if c.low is not None or c.high is not None:
        said.append(f"{'' if c.low is None else f'{c.low:g}'}..{'' if c.high is None else f'{c.high:g}'}")
    if c.nullable and "NULL" not in c.description:
        said.append("may be NULL")
    return "; ".join(said).replace("|", "\\|")


if __name__ == "__main__":
    path = Path(sys.argv[1])
    write_file(path, with_tables(path.read_text(encoding="utf-8")).encode())
