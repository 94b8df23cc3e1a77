"""Users' comparisons: TOML files in `data/comparisons`, made by the same constructor and refused with the same errors.

    hypothesis = "A wider Huber loss is no worse."
    reference = "ast.reference"          # or any other config at full budget
    extends = "loss"                     # optional: run that comparison's arms against this reference

    [arms.slow_huber]
    optimisation.loss = "huber"
    optimisation.learning_rate = 3e-5

    [arms.forest]
    base = "forest.reference"            # optional: start from this config instead of the reference

    [references.small]                   # optional: brings the config small.reference
    base = "ast.reference"
    model.depth = 2

The file's name is the comparison's, unless it has a `name`. A broken file is listed and left out; the others work.
"""

import dataclasses
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from piano_assets.catalogue.comparison import Comparison
from piano_assets.catalogue.comparisons import Catalogue
from piano_assets.catalogue.toml_lines import line_of
from piano_assets.catalogue.trial import IllegalTrial, Trial, vary

KEYS = ("name", "hypothesis", "reference", "extends", "budget_note", "arms", "references")
TAKEN = ("ensemble", "lookup")
"""Subjects that are no trials begin with these names."""

_NAME = re.compile("[a-z0-9_]{1,80}")
"""Names become names of files and folders, a comparison's and an arm's together."""
LARGEST = 2**15
"""Bytes of a file: the parser's memory grows with the square of what a file may nest."""
LEVELS = 8
Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a user's file, and in which line."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


@dataclass(frozen=True)
class _File:
    path: Path
    text: str
    table: dict[str, Any]


class _Wrong(ValueError):
    """A rule that a file breaks; `path`: the keys that lead to the offending value."""

    def __init__(self, message: str, *path: str) -> None:
        super().__init__(message)
        self.path = path


class _Unknown(_Wrong):
    """A config or comparison that is not known, or not yet: another file may bring it."""


def read_comparisons(folder: Path, base: Catalogue, check: Callable[[Trial], None]) -> tuple[Catalogue, list[Problem]]:
    """The catalogue with users' comparisons at its end, and what is wrong with the files that were left out.

    Args:
        folder: holds files `*.toml`; nothing outside it is read. It need not exist.
        base: what users build on.
        check: refuses a trial that names what no registry has, with `IllegalTrial`.
    """
    pending, problems = _files(folder)
    known = base
    # A file may build on another one: go round until a round brings nothing new.
    while pending:
        left: list[tuple[_File, list[_Wrong]]] = []
        for file in pending:
            found, wrong = _with_file(file.table, file.path.stem, known, check)
            if wrong:
                left.append((file, wrong))
            else:
                known = found
        stuck = len(left) == len(pending)
        pending = []
        for file, wrong in left:
            if not stuck and any(isinstance(w, _Unknown) for w in wrong):
                pending.append(file)
            else:
                problems += [Problem(file.path.name, line_of(file.text, w.path), str(w)) for w in wrong]
    return known, sorted(problems, key=lambda p: (p.file, p.line))


def with_text(name: str, text: str, base: Catalogue, check: Callable[[Trial], None]) -> tuple[Catalogue, list[Problem]]:
    """The catalogue with what a file `<name>.toml` of this text would add, and what is wrong with it."""
    known, wrong = _with_file(tomllib.loads(text), name, base, check)
    return (base if wrong else known), [Problem(f"{name}.toml", line_of(text, w.path), str(w)) for w in wrong]


def against(comparison: Comparison, reference: str) -> tuple[str, str]:
    """(name, TOML text) of a comparison's arms run against another reference."""
    config = re.sub("[^a-z0-9]+", "_", reference.removesuffix(".reference"))
    hypothesis = comparison.hypothesis.replace("\\", "\\\\").replace('"', '\\"')
    name = f"{comparison.name}_on_{config}"
    return name, f'hypothesis = "{hypothesis}"\nreference = "{reference}"\nextends = "{comparison.name}"\n'


def _files(folder: Path) -> tuple[list[_File], list[Problem]]:
    files: list[_File] = []
    problems: list[Problem] = []
    for path in sorted(folder.glob("*.toml")):
        text = ""
        try:
            if not path.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"leads out of the folder, to {path.resolve()}: only files inside are read")
            if not path.is_file():  # a pipe would be waited for
                raise ValueError("is no file")
            if path.stat().st_size > LARGEST:
                raise ValueError(f"has {path.stat().st_size} bytes, and at most {LARGEST} are read")
            text = path.read_text(encoding="utf-8")
            files.append(_File(path, text, _parsed(text)))
        except tomllib.TOMLDecodeError as error:
            lines = text.splitlines() or [""]
            at = re.search(r"at line (\d+)", str(error))
            number = min(int(at[1]) if at else len(lines), len(lines))
            problems.append(Problem(path.name, number, f"{error}: {lines[number - 1].strip()!r}"))
        except (OSError, ValueError) as error:
            problems.append(Problem(path.name, 1, str(error)))
    return files, problems


def _parsed(text: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        tomllib.TOMLDecodeError: it is none. ValueError: it is nested deeper than any trial.
    """
    try:
        table = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(f"is nested deeper than {LEVELS} levels") from error
    if _deep(table, LEVELS):
        raise ValueError(f"is nested deeper than {LEVELS} levels")
    return table


def _deep(value: Any, levels: int) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_deep(v, levels - 1) for v in inside)


def _with_file(
    table: Fields, stem: str, known: Catalogue, check: Callable[[Trial], None]
) -> tuple[Catalogue, list[_Wrong]]:
    """`known` with what one file adds, and everything that is wrong with it."""
    wrong = [
        _Wrong(f"unknown key {key!r} (is {value!r}); known: {', '.join(KEYS)}", key)
        for key, value in table.items()
        if key not in KEYS
    ]
    references = dict(known.references)
    for name, fields in _section(table, "references", wrong):
        with _noted(wrong):
            references[f"{name}.reference"] = _reference(name, fields, known, check)
    known = Catalogue(references, known.comparisons)
    if set(table) != {"references"}:
        with _noted(wrong):
            comparison = _head(table, stem, known)
            arms = dict(comparison.arms)
            for arm, changes in arms.items():
                with _noted(wrong):
                    _tried(comparison.reference, changes, known, check, f"arm {arm!r} of {table['extends']}", "extends")
            for arm, fields in _section(table, "arms", wrong):
                with _noted(wrong):
                    arms[arm] = _arm(arm, fields, comparison.reference, known, check)
            if not arms and not wrong:
                wrong.append(_Wrong("has no arms: name some in [arms.<name>], or a comparison to extend"))
            known = Catalogue(references, (*known.comparisons, dataclasses.replace(comparison, arms=arms)))
    return known, wrong


@contextmanager
def _noted(wrong: list[_Wrong]) -> Iterator[None]:
    """What goes wrong inside is noted, and the next thing is looked at."""
    try:
        yield
    except _Wrong as error:
        wrong.append(error)


def _section(table: Fields, key: str, wrong: list[_Wrong]) -> Iterator[tuple[str, Fields]]:
    """(name, fields) of each table `[<key>.<name>]` that is well-formed."""
    section = table.get(key, {})
    if not isinstance(section, dict):
        wrong.append(_Wrong(f"{key}={section!r} must be tables [{key}.<name>]", key))
        return
    for name, fields in section.items():
        if not _NAME.fullmatch(name):
            wrong.append(_Wrong(f"{key}.{name}: the name {name!r} must match {_NAME.pattern}", key, name))
        elif not isinstance(fields, dict):
            wrong.append(_Wrong(f"{key}.{name}={fields!r} must be a table of fields", key, name))
        else:
            yield name, fields


def _reference(name: str, fields: Fields, known: Catalogue, check: Callable[[Trial], None]) -> Trial:
    config, where = f"{name}.reference", ("references", name)
    if config in known.full:
        raise _Wrong(f"{'.'.join(where)}: {config!r} exists already", *where)
    if "base" not in fields:
        raise _Wrong(f"{'.'.join(where)}: needs base, the config that it starts from", *where)
    trial = _tried(*_base(fields, "", known, where), known, check, ".".join(where), *where)
    twin = next((c for c, t in known.full.items() if t.key == trial.key), None)
    if twin is not None:
        raise _Wrong(f"{'.'.join(where)}: is {twin!r} itself; name that one", *where)
    return trial


def _head(table: Fields, stem: str, known: Catalogue) -> Comparison:
    """The comparison with the arms that it extends, not yet with its own."""
    text = {k: table.get(k, "") for k in ("hypothesis", "reference", "extends", "budget_note")} | {
        "name": table.get("name", stem)
    }
    for key, value in text.items():
        if not isinstance(value, str):
            raise _Wrong(f"{key}={value!r} must be text", key)
    name, names = text["name"], {c.name: c for c in known.comparisons}
    if not _NAME.fullmatch(name):
        raise _Wrong(f"name={name!r} must match {_NAME.pattern}", "name")
    if name in names or name in TAKEN:
        raise _Wrong(f"name={name!r} is taken; taken are: {', '.join((*names, *TAKEN))}", "name")
    for key in ("hypothesis", "reference"):
        if not text[key].strip():
            raise _Wrong(f"needs {key}, in quotes (has none)", key)
    if text["reference"] not in known.full:
        raise _Unknown(f"unknown reference={text['reference']!r}; known: {', '.join(known.full)}", "reference")
    if text["extends"] and text["extends"] not in names:
        raise _Unknown(f"unknown extends={text['extends']!r}; known: {', '.join(names)}", "extends")
    extended = names.get(text["extends"], Comparison(name, "", text["reference"]))
    # The arm that is the extended comparison's reference is not what its name says beside another reference.
    arms = {arm if changes else "reference": changes for arm, changes in extended.arms.items()}
    return dataclasses.replace(
        extended,
        name=name,
        hypothesis=text["hypothesis"],
        reference=text["reference"],
        arms=arms,
        budget_note=text["budget_note"] or extended.budget_note,
        claims={},
    )


def _arm(arm: str, fields: Fields, reference: str, known: Catalogue, check: Callable[[Trial], None]) -> dict[str, Any]:
    """An arm's changes of the reference."""
    where = ("arms", arm)
    if arm == "reference":
        raise _Wrong("arms.reference: that name is the reference's own", *where)
    base, changes = _base(fields, reference, known, where)
    trial = _tried(base, changes, known, check, ".".join(where), *where)
    if base == reference:
        return changes
    old = known.full[reference]
    parts = [f.name for f in dataclasses.fields(Trial)]
    return {p: getattr(trial, p) for p in parts if getattr(trial, p) != getattr(old, p)}


def _base(fields: Fields, default: str, known: Catalogue, where: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """(config to start from, dotted changes)."""
    changes = dict(_flat({k: v for k, v in fields.items() if k != "base"}))
    base = fields.get("base", default)
    if not isinstance(base, str) or base not in known.full:
        raise _Unknown(f"{'.'.join(where)}: unknown base={base!r}; known: {', '.join(known.full)}", *where, "base")
    if "budget" in changes:
        raise _Wrong(
            f"{'.'.join(where)}: budget={changes['budget']!r} is not an arm's to change; sweep <name>@reduced",
            *where,
            "budget",
        )
    return base, changes


def _flat(fields: Fields, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _tried(
    base: str, changes: Fields, known: Catalogue, check: Callable[[Trial], None], said: str, *where: str
) -> Trial:
    """The varied trial, if it is legal and its names are known.

    Raises:
        _Wrong: at the field that the error names, else at `where`.
    """
    try:
        trial = vary(known.full[base], changes)
        check(trial)
    except IllegalTrial as error:
        field = next((f for f in changes if f in str(error)), None)
        raise _Wrong(f"{said}: {error}", *where, *(field.split(".") if field else ())) from error
    return trial
