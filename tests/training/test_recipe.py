"""Recipes: the ones that come along, overrides, and what is said about wrong ones."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

from rc_deploy.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path
from rc_training import catalogue
from rc_training import recipe as recipes

GOOD = """
dataset = "digits"
architecture = "rescnet8"
activation = "gclu"
epochs = 3
batch_size = 64
learning_rate = 0.1
warmup_epochs = 1
momentum = 0.9
weight_decay = 5e-4
augment = ["affine"]
"""


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_recipes_with_a_file_of_their_own() -> None:
    assert {name for name in catalogue.available() if "/" not in name} == {"digits", "cifar10-rescnet8"}
    for name in ("digits", "cifar10-rescnet8"):
        assert recipes.load(name).name == name


def test_digits_recipe_has_both_ideas() -> None:
    digits = recipes.load("digits")
    assert (digits.architecture, digits.activation) == ("rescnet8", "gclu")


def test_recipes_are_found_in_a_wheel_and_in_the_source_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "__file__", str(tmp_path / "rc_training" / "catalogue.py"))
    for folder in (tmp_path / "recipes", tmp_path / "rc_training" / "recipes"):
        (folder / "paper").mkdir(parents=True)
        (folder / "paper" / "bases.toml").write_text("[cifar]")
        (folder / "mine.toml").write_text(GOOD)
        assert {name: entry.path for name, entry in catalogue.available().items()} == {"mine": folder / "mine.toml"}


def test_json_form_holds_every_field() -> None:
    recipe = recipes.load("digits", ["seed=7"])
    document = recipe.to_json()
    assert json.loads(json.dumps(document)) == document
    assert set(document) == {field.name for field in dataclasses.fields(recipe)}
    assert document["seed"] == 7
    assert document["augment"] == list(recipe.augment)


def test_overrides(tmp_path: Path) -> None:
    overrides = ["epochs=12", "learning_rate=1", "activation=relu", "augment=crop,flip", "seed = 3"]
    recipe = recipes.load(write(tmp_path, GOOD), overrides)
    assert recipe.name == "mine"
    assert (recipe.epochs, recipe.activation, recipe.augment, recipe.seed) == (
        12,
        "relu",
        ("crop", "flip"),
        3,
    )
    assert recipe.learning_rate == 1.0
    assert isinstance(recipe.learning_rate, float)
    assert recipes.load(write(tmp_path, GOOD), ["augment="]).augment == ()
    assert recipes.load(write(tmp_path, GOOD), ['augment=["flip"]', "epochs=5", "epochs=6"]).epochs == 6


def test_an_override_repairs_or_completes_a_file(tmp_path: Path) -> None:
    assert recipes.load(write(tmp_path, GOOD.replace("epochs = 3", "epochs = 0", 1)), ["epochs=4"]).epochs == 4
    without = write(tmp_path, GOOD.replace("weight_decay = 5e-4", ""))
    assert recipes.load(without, ["weight_decay=0"]).weight_decay == 0


@pytest.mark.parametrize(
    ("overrides", "warmup"), [(["epochs=2"], 1), (["epochs=1"], 0), (["epochs=5"], 2), (["epochs=6"], 5)]
)
def test_fewer_epochs_shorten_a_warmup_that_has_no_room(overrides: list[str], warmup: int) -> None:
    assert recipes.load("table1/rescnet32-cifar10", overrides).warmup_epochs == warmup
    with pytest.raises(InputError, match="'warmup_epochs' is 6; it must be smaller than 'epochs'"):
        recipes.load("table1/rescnet32-cifar10", [*overrides, "warmup_epochs=6"])


def test_keys_with_defaults(tmp_path: Path) -> None:
    recipe = recipes.load(write(tmp_path, GOOD.replace("momentum = 0.9", "")))
    assert recipe == recipes.Recipe(
        name="mine",
        dataset="digits",
        architecture="rescnet8",
        activation="gclu",
        epochs=3,
        batch_size=64,
        learning_rate=0.1,
        warmup_epochs=1,
        weight_decay=5e-4,
        augment=("affine",),
        options={},
        mixup=0.0,
        cutmix=0.0,
        optimizer="sgd",
        momentum=0.9,
        min_learning_rate=0.0,
        schedule="cosine",
        step_epochs=30,
        step_factor=0.1,
        label_smoothing=0.0,
        clip_norm=0.0,
        precision="float32",
        seed=0,
    )


def test_every_key_can_be_written(tmp_path: Path) -> None:
    """Table 5's transformers with everything of Table 3."""
    text = (
        GOOD
        + """
mixup = 1
cutmix = 1.0
optimizer = "adamw"
min_learning_rate = 1e-6
schedule = "step"
step_epochs = 2
step_factor = 0.5
label_smoothing = 0.1
clip_norm = 1
precision = "bfloat16"
options = {head = "fc2", reduction = 2}
seed = 4
"""
    )
    recipe = recipes.load(write(tmp_path, text))
    assert (recipe.mixup, recipe.cutmix, recipe.label_smoothing, recipe.clip_norm) == (1.0, 1.0, 0.1, 1.0)
    assert all(type(getattr(recipe, key)) is float for key in recipes.NUMBER_KEYS)
    assert (recipe.optimizer, recipe.min_learning_rate, recipe.precision) == ("adamw", 1e-6, "bfloat16")
    assert (recipe.schedule, recipe.step_epochs, recipe.step_factor) == ("step", 2, 0.5)
    assert recipe.options == {"head": "fc2", "reduction": 2}
    # What a run writes down can be read back as a recipe.
    assert recipes.Recipe(**recipe.to_json() | {"augment": tuple(recipe.augment)}) == recipe


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        (["options.head=fc2"], {"reduction": 2, "head": "fc2"}),
        (["options.reduction=4", "options.head=fc2"], {"reduction": 4, "head": "fc2"}),
        (['options={head = "fc2"}'], {"head": "fc2"}),
        (['options={head="fc2"}', "options.reduction=8"], {"head": "fc2", "reduction": 8}),
        (["options={}"], {}),
    ],
)
def test_options_of_the_network(overrides: list[str], options: dict[str, object], tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "options = {reduction = 2}")
    assert recipes.load(path, overrides).options == options
    assert recipes.load(path).options == {"reduction": 2}
    assert recipes.load("digits", ["options.head=fc2"]).options == {"head": "fc2"}


# The line of the file that is replaced, by what, and what the message must say.
BAD = {
    "unknown key": ("epochs = 3", "epochs = 3\nepoch = 3", "there is no key 'epoch'"),
    "unknown name": ('"rescnet8"', '"rescnet9"', "'architecture' is 'rescnet9'; it must be one of resnet8, "),
    "string for a number": (
        "epochs = 3",
        'epochs = "3"',
        "'epochs' is '3'; it must be a whole number from 1 to",
    ),
    "fraction for a whole number": (
        "epochs = 3",
        "epochs = 2.5",
        "'epochs' is 2.5; it must be a whole number",
    ),
    "truth value for a number": (
        "epochs = 3",
        "epochs = true",
        "'epochs' is True; it must be a whole number",
    ),
    "truth value for a fraction": (
        "= 5e-4",
        "= false",
        "'weight_decay' is False; it must be a number from 0 to 1",
    ),
    "too small": (
        "batch_size = 64",
        "batch_size = 0",
        "'batch_size' is 0; it must be a whole number from 1 to 65,536",
    ),
    "too large": (
        "momentum = 0.9",
        "momentum = 1.0",
        "'momentum' is 1.0; it must be a number from 0 to 0.9999",
    ),
    "not a number": ("= 0.1", "= nan", "'learning_rate' is nan; it must be a number"),
    "infinite": ("= 0.1", "= inf", "'learning_rate' is inf; it must be a number"),
    "no list": (
        '["affine"]',
        '"affine"',
        "'augment' is 'affine'; it must be a list of any of crop, flip, affine",
    ),
    "list with something else": ('["affine"]', "[[1]]", "'augment' is [[1]]; it must be a list"),
    "repeated": ('["affine"]', '["flip", "flip"]', "each once"),
    "list for a name": (
        '"digits"',
        '["digits"]',
        "'dataset' is ['digits']; it must be one of digits, cifar10",
    ),
    "all warm-up": (
        "warmup_epochs = 1",
        "warmup_epochs = 3",
        "'warmup_epochs' is 3; it must be smaller than 'epochs'",
    ),
    "missing": ("weight_decay = 5e-4", "", "lacks weight_decay"),
    "ends above the peak": (
        "epochs = 3",
        "epochs = 3\nmin_learning_rate = 0.2",
        "'min_learning_rate' is 0.2; it must be at most 'learning_rate', which is 0.1",
    ),
    "no table": ("epochs = 3", "epochs = 3\noptions = 3", "'options' is 3; it must be a table of texts, numbers"),
    "table in a table": ("epochs = 3", "epochs = 3\noptions = {a = {}}", "'options' is {'a': {}}; it must be a table"),
    "infinite option": ("epochs = 3", "epochs = 3\noptions = {a = inf}", "'options' is {'a': inf}; it must be"),
    "option that is a key": (
        "epochs = 3",
        "epochs = 3\noptions = {activation = 'relu'}",
        "with no num_classes or activation or in_channels: other keys decide those",
    ),
    "smooth": (
        "epochs = 3",
        "epochs = 3\nlabel_smoothing = 1",
        "'label_smoothing' is 1; it must be a number from 0 to",
    ),
    "negative alpha": ("epochs = 3", "epochs = 3\nmixup = -1", "'mixup' is -1; it must be a number from 0 to 100"),
    "half": (
        "epochs = 3",
        "epochs = 3\nprecision = 'fp16'",
        "'precision' is 'fp16'; it must be one of float32",
    ),
    "optimizer": ("epochs = 3", "epochs = 3\noptimizer = 'adam'", "it must be one of sgd, adamw"),
    "schedule": ("epochs = 3", "epochs = 3\nschedule = 'linear'", "it must be one of cosine, step"),
    "not TOML": ("epochs = 3", "epochs =", "is not valid TOML"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_files(case: str, tmp_path: Path) -> None:
    old, new, message = BAD[case]
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        recipes.load(path)
    assert message in str(caught.value)
    assert path in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "--set epochs is not KEY=VALUE"),
        ("=3", "--set =3 is not KEY=VALUE"),
        ("epochs=many", "--set epochs=many: 'epochs' is 'many'; it must be a whole number"),
        ("epochs=", "--set epochs=: 'epochs' is ''; it must be a whole number"),
        ("name=x", "--set name=x: there is no key 'name'"),
        ("options.a b=1", "--set options.a b=1: 'options' is {'a b': 1}; it must be a table"),
        ("options.=1", "--set options.=1: 'options' is {'': 1}; it must be a table"),
        ("options.head=[]", "--set options.head=[]: 'options' is {'head': []}; it must be a table"),
        ("epochs.head=1", "--set epochs.head=1: there is no key 'epochs.head'"),
        ("augment=rotate", "--set augment=rotate: 'augment' is ['rotate']"),
    ],
)
def test_wrong_overrides(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        recipes.load(write(tmp_path, GOOD), [override])
    assert message in str(caught.value)
    assert caught.value.hint


def test_unknown_recipes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no recipe named 'cifar'"):
        recipes.load("cifar")
    with pytest.raises(InputError, match="There is no recipe at"):
        recipes.load(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b'dataset = "\xe4"')
    with pytest.raises(InputError, match="not valid TOML"):
        recipes.load(str(tmp_path / "latin.toml"))


def test_recipes_nested_too_deep_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.toml"
    path.write_text("epochs = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(InputError, match="nested too deep") as caught:
        recipes.load(str(path))
    assert "flat list of keys" in caught.value.hint
    with pytest.raises(InputError, match="'epochs' is"):
        recipes.load("digits", ["epochs=" + "[" * 5000 + "]" * 5000])
