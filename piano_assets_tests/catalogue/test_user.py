"""Users' comparisons: what they can say, and that a broken file is named and harms no other."""

import json
import os
import re
import textwrap

import pytest

from piano_assets.catalogue import user
from piano_assets.catalogue.comparisons import built_in
from piano_assets.catalogue.references import REFERENCES
from piano_assets.catalogue.tables import arm_table, comparison_table, trial_table
from piano_assets.catalogue.trial import IllegalTrial, Trial, vary
from piano_assets.catalogue.user import Problem, against, read_comparisons
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Store, published

BASE = built_in()
GOOD = """\
hypothesis = "Two losses differ."
reference = "ast.reference"
[arms.huber_slow]
optimisation.loss = "huber"
"optimisation.learning_rate" = 3e-5
"""


def check(trial: Trial) -> None:
    """As the registries' check: one loss has a name that no registry has."""
    if trial.optimisation is not None and trial.optimisation.loss == "hubber":
        raise IllegalTrial("optimisation.loss='hubber' must be one of ('mse', 'huber')")


def read(folder, **files: str):
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return read_comparisons(folder, BASE, check)


def named(catalogue, name: str):
    return next(c for c in catalogue.comparisons if c.name == name)


def test_without_a_folder_the_catalogue_is_the_built_in_one(tmp_path):
    known, problems = read_comparisons(tmp_path / "none", BASE, check)
    assert (known, problems) == (BASE, [])
    assert not (tmp_path / "none").exists()


def test_a_file_is_a_comparison_like_any_other(tmp_path):
    known, problems = read(tmp_path, mine=GOOD)
    assert problems == []
    mine = named(known, "mine")
    assert known.changed_fields(mine, "huber_slow") == {
        "optimisation.loss": ("huber", "mse"),
        "optimisation.learning_rate": (3e-5, 1e-4),
    }
    want = vary(REFERENCES["ast.reference"], {"optimisation.loss": "huber", "optimisation.learning_rate": 3e-5})
    assert known.trials["mine.huber_slow"] == want
    assert known.trials["mine.huber_slow@reduced"].budget == "reduced"
    frames = {"trials": trial_table(known.trials), "comparisons": comparison_table(known), "arms": arm_table(known)}
    for table, frame in frames.items():
        TABLES[table].conform(frame)
    assert {"mine", "mine@reduced"} <= set(frames["comparisons"]["comparison"])


def test_an_arm_that_exists_already_owns_no_config(tmp_path):
    text = 'hypothesis = "h."\nreference = "ast.reference"\n[arms.h]\noptimisation.loss = "huber"\n'
    known, problems = read(tmp_path, mine=text)
    assert problems == []
    assert known.arms(named(known, "mine"))["h"][0] == "loss.huber"
    assert set(known.trials) == set(BASE.trials)


def test_a_known_comparison_runs_against_another_reference(tmp_path):
    name, text = against(next(c for c in BASE.comparisons if c.name == "loss"), "hybrid.reference")
    assert name == "loss_on_hybrid"
    known, problems = read(tmp_path, **{name: text})
    assert problems == []
    mine = named(known, name)
    assert set(mine.arms) - {"reference"} == set(named(BASE, "loss").arms) - {"mse"}
    arms = known.arms(mine)
    assert arms["reference"][0] == "hybrid.reference"
    assert arms["huber"][1] == vary(REFERENCES["hybrid.reference"], {"optimisation.loss": "huber"})
    assert known.changed_fields(mine, "huber") == {"optimisation.loss": ("huber", "mse")}


def test_any_config_can_be_the_reference(tmp_path):
    name, text = against(named(BASE, "loss"), "attention.local")
    assert name == "loss_on_attention_local"
    known, problems = read(tmp_path, **{name: text})
    assert problems == []
    assert known.arms(named(known, name))["huber"][1].model.attention == "local"


def test_a_reference_and_an_arm_of_another_family(tmp_path):
    text = """\
hypothesis = "A smaller one is enough."
reference = "small.reference"
[references.small]
base = "ast.reference"
model.depth = 2
[arms.forest]
base = "forest.reference"
inputs.features = "symbolic"
[arms.smaller]
model = {depth = 1, dim = 128}
"""
    known, problems = read(tmp_path, mine=text)
    assert problems == []
    arms = known.arms(named(known, "mine"))
    assert known.full["small.reference"].model.depth == 2
    assert arms["forest"][0] == "family.reference", "the same trial, so the same config"
    assert (arms["smaller"][1].model.depth, arms["smaller"][1].model.dim) == (1, 128)


def test_files_may_build_on_each_other_whatever_their_order(tmp_path):
    references = '[references.tiny]\nbase = "ast.reference"\nmodel.depth = 1\n'
    a = 'hypothesis = "h."\nreference = "tiny.reference"\nextends = "b"\n'
    known, problems = read(tmp_path, a=a, b=GOOD, z=references)
    assert problems == []
    assert known.arms(named(known, "a"))["huber_slow"][1].model.depth == 1


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (GOOD.replace('"huber"', '"hubber"'), 4, r"arms.huber_slow: optimisation.loss='hubber' must be one of"),
        (GOOD.replace("3e-5", "-1"), 5, r"optimisation.learning_rate=-1.0 must be > 0"),
        (GOOD.replace("3e-5", '"fast"'), 5, r"optimisation.learning_rate='fast' must be a number"),
        (GOOD.replace("3e-5", "inf"), 5, r"learning_rate=inf must be finite"),
        (GOOD.replace("optimisation.loss", "optimisation.los"), 4, r"unknown field optimisation.los \(is 'huber'\)"),
        (GOOD + "[arms.b]\nmodel.settings.k = 1979-05-27\n", 7, r"settings.k=.*must be text or a number"),
        (GOOD + "[arms.b]\nsearch = [3]\n", 7, r"search=3 must be pairs"),
        (GOOD + "[arms.b]\nsplit = ['x']\n", 7, r"split=\('x',\) must be text"),
        (GOOD + '[arms.b]\nbudget = "reduced"\n', 7, r"budget='reduced' is not an arm's to change"),
        (GOOD + '[arms.b]\nbase = "forest"\n', 7, r"unknown base='forest'; known: .*forest\.reference"),
        (GOOD + "[arms.b]\nbase = [1]\n", 7, r"unknown base=\[1\]"),
        (GOOD + "[arms.b]\nmodel = 3\n", 7, r"model=3 must be Tabular or Encoder"),
        (GOOD + '[arms."../b"]\n', 6, r"the name '../b' must match \[a-z0-9_\]\{1,80\}"),
        (GOOD + "[arms.reference]\nmodel.depth = 2\n", 6, r"that name is the reference's own"),
        (GOOD + "[arms]\nb = 3\n", 7, r"arms.b=3 must be a table of fields"),
        ("colour = 'blue'\n" + GOOD, 1, r"unknown key 'colour' \(is 'blue'\); known: name, hypothesis"),
        ('name = "../loss"\n' + GOOD, 1, r"name='../loss' must match"),
        ('name = "loss"\n' + GOOD, 1, r"name='loss' is taken"),
        ('name = "lookup"\n' + GOOD, 1, r"name='lookup' is taken"),
        ("name = 3\n" + GOOD, 1, r"name=3 must be text"),
        (GOOD.replace("ast.reference", "asst"), 2, r"unknown reference='asst'; known: ast.reference"),
        ('extends = "los"\n' + GOOD, 1, r"unknown extends='los'; known: .*loss"),
        (GOOD.replace('hypothesis = "Two losses differ."', "\n"), 1, r"needs hypothesis"),
        ('hypothesis = "h."\nreference = "ast.reference"\n', 1, r"has no arms"),
        ('hypothesis = "h."\nreference = "forest.reference"\nextends = "loss"\n', 3, r"arm 'correlation' of loss: "),
        ('hypothesis = "h."\nreference = "ast.reference"\narms = 3\n', 3, r"arms=3 must be tables \[arms.<name>\]"),
        ("[references.ast]\nbase = 'family.ridge'\n", 1, r"'ast.reference' exists already"),
        ("[references.mine]\nmodel.depth = 2\n", 1, r"needs base"),
        ("[references.mine]\nbase = 'loss.huber'\n", 1, r"is 'loss.huber' itself"),
        ("hypothesis = \n", 1, r"line 1.*: 'hypothesis ='"),
        ('hypothesis = "h."\nreference = "ast', 2, r"""at end of document\): 'reference = "ast'"""),
    ],
)
def test_a_broken_file_is_named_with_line_rule_and_value(tmp_path, text, line, message):
    known, problems = read(tmp_path, broken=text, mine=GOOD)
    assert [(p.file, p.line) for p in problems][:1] == [("broken.toml", line)]
    assert re.search(message, problems[0].message), problems[0]
    assert named(known, "mine"), "the other file works"
    assert not [c for c in known.trials if c.startswith("broken.")]


def test_everything_wrong_with_a_file_is_said_at_once(tmp_path):
    text = GOOD.replace("3e-5", "-1") + "[arms.b]\nmodel.dropout = 2\n"
    _, problems = read(tmp_path, broken=text)
    assert [p.line for p in problems] == [5, 7]
    assert str(problems[1]) == "broken.toml:7: arms.b: model.dropout=2.0 must lie in [0, 1)"


def test_two_files_of_one_name(tmp_path):
    _, problems = read(tmp_path, a='name = "same"\n' + GOOD, b='name = "same"\n' + GOOD)
    assert [p.file for p in problems] == ["b.toml"]
    assert "name='same' is taken" in problems[0].message


def test_nothing_outside_the_folder_is_read(tmp_path):
    (tmp_path / "secret.toml").write_text(GOOD)
    folder = tmp_path / "comparisons"
    folder.mkdir()
    (folder / "link.toml").symlink_to(tmp_path / "secret.toml")
    known, problems = read(folder)
    assert [p.file for p in problems] == ["link.toml"]
    assert "leads out of the folder" in problems[0].message
    assert known.trials == BASE.trials


def test_what_is_no_text_and_what_is_no_file_are_problems(tmp_path):
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "latin.toml").write_bytes(b'name = "\xff"\n')
    _, problems = read(tmp_path)
    assert [p.file for p in problems] == ["folder.toml", "latin.toml"]
    assert all(isinstance(p, Problem) and p.line == 1 for p in problems)


def test_a_file_that_would_hang_or_exhaust_the_reader_is_a_problem_and_the_others_work(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    evil = {
        "brackets": "a = " + "[" * 5000,
        "dots": "[arms.x]\n" + ".".join("a" * 2000) + " = 1",
        "large": "# " + "x" * user.LARGEST,
    }
    known, problems = read(tmp_path, **evil, mine=GOOD)
    assert {p.file: p.message.split(":")[0] for p in problems} == {
        "brackets.toml": "is nested deeper than 8 levels",
        "dots.toml": "is nested deeper than 8 levels",
        "large.toml": f"has {user.LARGEST + 2} bytes, and at most {user.LARGEST} are read",
        "pipe.toml": "is no file",
    }
    assert named(known, "mine")


EVIL = ("../x", "/etc/x", "..", ".", "a/../../b", "a\x00b", "a\nb", "\u2025/x", "\uff0e\uff0e/x", "a|0", "x" * 300)


@pytest.mark.parametrize("value", EVIL)
def test_no_text_of_a_file_leads_out_of_the_data_folder(tmp_path, value):
    """Names of comparisons, arms and references, and every field of text: refused."""
    from piano_assets.training.check import check

    quoted = json.dumps(value)
    texts = {
        "comparison": f"name = {quoted}\n" + GOOD,
        "arm": GOOD + f"[arms.{quoted}]\nmodel.depth = 1\n",
        "reference": f'[references.{quoted}]\nbase = "ast.reference"\nmodel.depth = 1\n',
        "of": GOOD.replace('"ast.reference"', quoted),
        "base": GOOD + f"[arms.b]\nbase = {quoted}\n",
    }
    fields = ("split", "label_rule", "inputs.rendering", "inputs.spectrogram", "inputs.features", "model.attention")
    fields += ("model.fusion", "optimisation.loss", "optimisation.schedule", "model.settings.radius")
    texts |= {f: GOOD + f"[arms.b]\n{f} = {quoted}\n" for f in fields}
    texts["regressor"] = GOOD + f'[arms.b]\nbase = "forest.reference"\nmodel.regressor = {quoted}\n'
    # All fields go through one check: each of them sees one evil text, and each text some of them.
    asked = texts if value == EVIL[0] else dict(list(texts.items())[EVIL.index(value) % 4 :: 4])
    for what, text in asked.items():
        (tmp_path / "mine.toml").write_text(text)
        known, problems = read_comparisons(tmp_path, BASE, check)
        assert problems, f"{what} = {value!r} was taken"
        assert known.trials == BASE.trials, what


def test_the_longest_names_are_names_of_files(tmp_path):
    """Every part of a config fits a file system, with what temporary names add."""
    a, b = "a" * 80, "b" * 80
    known, problems = read(tmp_path, mine=f"name = '{a}'\n" + GOOD.replace("huber_slow", b))
    assert problems == []
    config = f"{a}.{b}@reduced"
    assert config in known.trials
    store = Store(tmp_path / "synthetic")
    for name in (f"{config}/0.float32-cuda", f"probes/recording_quality/{config}"):
        with published(store.path("predictions", name)) as temporary:
            temporary.write_text("x")
    _, problems = read(tmp_path, mine=f"name = 'a{a}'\n" + GOOD)
    assert "must match" in problems[0].message
    assert max(len(against(c, config)[0]) for c in BASE.comparisons for config in BASE.full) <= len(a)


def test_the_example_of_the_documentation_works(tmp_path):
    example = textwrap.dedent("\n".join(line for line in str(user.__doc__).splitlines() if line.startswith("    ")))
    known, problems = read(tmp_path, example=example)
    assert problems == []
    arms = known.arms(named(known, "example"))
    assert {"slow_huber", "forest", "huber"} <= set(arms)
    assert known.full["small.reference"].model.depth == 2
