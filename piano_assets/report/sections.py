"""Sections of hand-written pages that a program writes, between two marks."""


def with_section(text: str, begin: str, end: str, written: str) -> str:
    """`text` with what stands between the marks replaced.

    Raises:
        ValueError: a mark is missing.
    """
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the text lacks the marks {begin!r} and {end!r}")
    return f"{before}{begin}\n\n{written}\n\n{end}{after}"
