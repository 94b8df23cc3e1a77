"""Documents tell the truth: every query and Python block runs, every command exists, the tables are those declared."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import soundfile
from click.testing import CliRunner

from piano_assets.cli import main
from piano_assets.corpus.midi import read_midi
from piano_assets.corpus.rendering.modal import render_modal
from piano_assets.report.tables_doc import BEGIN, END, tables_section, with_tables
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Store
from piano_assets.store.warehouse import VIEWS, query
from piano_assets_tests.report.small_tables import small_snapshot

ROOT = Path(__file__).parents[1]
DOCUMENTS = [p for p in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if p.is_file()]
DATA = ROOT / "docs" / "data.md"


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, the line it begins at, and the paragraph above it."""

    path: Path
    line: int
    language: str
    text: str
    above: str

    @property
    def name(self) -> str:
        return f"{self.path.name}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.M | re.S):
        line = text.count("\n", 0, match.start()) + 1
        above = text[: match.start()].strip().rpartition("\n\n")[2]
        found.append(Block(path, line, match[1], match[2], above))
    return found


BLOCKS = [b for path in DOCUMENTS for b in blocks_of(path)]


def of(*languages: str) -> pytest.MarkDecorator:
    chosen = [b for b in BLOCKS if b.language in languages]
    return pytest.mark.parametrize("block", chosen, ids=[b.name for b in chosen])


@pytest.fixture(scope="module")
def folder(tmp_path_factory, champion_root, midi_files) -> Path:
    """A project folder whose `data/percepiano` holds a small snapshot and champions, with recordings to score."""
    root = tmp_path_factory.mktemp("project")
    small_snapshot(root / "data" / "percepiano")
    shutil.copytree(champion_root / "champions", root / "data" / "percepiano" / "champions")
    shutil.copyfile(midi_files[0], root / "mine.mid")
    soundfile.write(root / "take2.flac", render_modal(read_midi(midi_files[1])), 22050)
    return root


@of("sql")
def test_every_query_runs_and_finds_something(block, folder):
    """On tables that hold a little of everything each query finds rows."""
    for statement in filter(str.strip, block.text.split(";")):
        assert len(query(Store(folder / "data" / "percepiano"), statement)), f"{block.name}: no rows"


@of("python")
def test_every_python_block_runs(block, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PIANO_DATA", raising=False)
    monkeypatch.delenv("PIANO_CORPUS", raising=False)
    exec(compile(block.text, block.name, "exec"), {"__name__": "__main__"})


def test_the_readme_scores_recordings(folder, monkeypatch):
    """The section on one's own playing, as somebody would type it: each `piano score` of it runs."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## Score your own playing")[1].split("\n## ")[0]
    assert readme.index("## Score your own playing") < readme.index("## Leaderboard")
    lines = [line.split("#")[0].split() for line in section.splitlines() if line.startswith("piano score")]
    assert len(lines) == 2
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PIANO_DATA", raising=False)
    monkeypatch.delenv("PIANO_CORPUS", raising=False)
    for words in lines:
        done = CliRunner().invoke(main, words[1:])
        assert done.exit_code == 0, done.output
        assert done.output.count("fast paced") == sum(word.endswith((".mid", ".flac")) for word in words)
    assert (folder / "mine.mid.html").is_file()


@of("toml")
def test_every_comparison_is_one(block, tmp_path):
    from piano_assets.catalogue.comparisons import built_in
    from piano_assets.catalogue.user import read_comparisons
    from piano_assets.training.check import check

    (tmp_path / "mine.toml").write_text(block.text)
    known, problems = read_comparisons(tmp_path, built_in(), check)
    assert not problems
    (mine,) = [c for c in known.comparisons if c.name == "mine"]
    assert mine.arms


@of("console", "sh", "bash", "shell")
def test_every_command_exists(block, folder):
    """Make targets and `piano` subcommands with their options; the queries of `piano sql` run."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for line in commands(block.text):
        for target in re.findall(r"(?:^|[;&|] *)make ((?:[a-z]+ ?)+)", line):
            unknown = set(target.split()) - targets
            assert not unknown, f"{block.name}: make has no target {unknown}"
        for words in re.findall(r"(?:^|[;&| /])piano +([^;&|#]*)", line):
            check_piano(words, block, folder)


def check_piano(words: str, block: Block, folder: Path) -> None:
    name = words.split()[0]
    assert name in main.commands or name.startswith("-"), f"{block.name}: piano has no command {name!r}"
    if name in main.commands:
        known = {o for p in main.commands[name].params if isinstance(p, click.Option) for o in p.opts} | {
            "--help",
            "-h",
        }
        outside_quotes = re.sub(r"\"[^\"]*\"|'[^']*'", "", words)
        used = set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", outside_quotes))
        assert used <= known, f"{block.name}: piano {name} has no option {used - known}"
    if name == "sql":
        quoted = re.search(r"\"([^\"]*)\"|'([^']*)'", words)
        assert quoted is not None, f"{block.name}: a query without quotes"
        query(Store(folder / "data" / "percepiano"), quoted[1] or quoted[2])


def commands(text: str) -> list[str]:
    """Command lines, without prompts, comments and what a command printed (where there are prompts)."""
    lines = text.replace("\\\n", " ").splitlines()
    prompted = [line[2:] for line in lines if line.startswith("$ ")]
    return [line.strip() for line in prompted or lines if line.strip() and not line.strip().startswith("#")]


def test_the_table_section_is_the_declared_one():
    """After a change of schemas: python -m piano_assets.report.tables_doc docs/data.md"""
    text = DATA.read_text(encoding="utf-8")
    assert with_tables(text) == text


def test_every_table_and_view_has_a_section():
    text = DATA.read_text(encoding="utf-8")
    assert all(re.search(rf"^### {name}\b", text, re.M) for name in (*TABLES, *VIEWS))


def test_every_column_is_described():
    section = tables_section()
    for table in TABLES.values():
        part = section.partition(f"### {table.name}\n")[2].partition("\n### ")[0]
        listed = re.findall(r"^\| `(\w+)` \|", part, re.M)
        assert listed == list(table.columns)
        assert all(line.count("|") - line.count("\\|") == 4 for line in part.splitlines() if line.startswith("|"))


def test_a_document_without_marks_is_refused():
    with pytest.raises(ValueError, match="marks"):
        with_tables(f"{END} {BEGIN}")


def test_links_inside_the_project_lead_somewhere():
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_ten_questions_are_answered():
    """The document for readers keeps at least ten queries, each under a line that says what it answers."""
    queries = [b for b in BLOCKS if b.path == DATA and b.language == "sql"]
    assert len(queries) >= 10
    assert all(b.above for b in queries)
