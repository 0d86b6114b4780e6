"""The paper's tables as recipes: which there are, what they differ in, and what is said about wrong files."""

from __future__ import annotations

from collections import Counter
from dataclasses import MISSING, fields, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from rc_deploy.errors import InputError
from rc_training import catalogue, tables
from rc_training import recipe as recipes
from rc_training.datasets import DATASETS
from rc_training.models import create
from rc_training.recipe import Recipe

if TYPE_CHECKING:
    from pathlib import Path

ENTRIES = {entry.name: entry for entry in tables.read(catalogue.folder() / "paper")}
DEFAULTS = {key.name: key.default for key in fields(Recipe) if key.default is not MISSING}
CIFAR = Recipe(
    name="",
    dataset="cifar10",
    architecture="rescnet32",
    activation="relu",
    augment=("crop", "flip"),
    epochs=200,
    batch_size=128,
    optimizer="sgd",
    learning_rate=0.1,
    schedule="cosine",
    warmup_epochs=5,
    momentum=0.9,
    weight_decay=5e-4,
)


def keys(name: str) -> dict[str, Any]:
    """All keys of a recipe; not its name, which is no setting."""
    return {"name": "", "options": {}, **DEFAULTS, **ENTRIES[name].keys}


def differences(first: str, second: str) -> set[str]:
    one, other = keys(first), keys(second)
    assert one.keys() == other.keys()
    return {key for key in one if one[key] != other[key]}


def cells(table: str) -> list[str]:
    return [name for name in ENTRIES if name.startswith(f"{table}/")]


def test_as_many_recipes_as_cells_in_the_tables() -> None:
    counts = Counter(name.partition("/")[0] for name in ENTRIES)
    # Networks x data sets; networks; improvements x networks; heads; networks x activations x data sets; forms x data
    # sets. Table 2's rows from other sources were not trained by the paper's recipe.
    assert counts == {"table1": 27, "table2": 6, "table3": 18, "table4": 5, "table5": 42, "table6": 6}


@pytest.mark.parametrize("name", ENTRIES)
def test_every_recipe_loads(name: str) -> None:
    """Every key is allowed, and every name that it holds is that of a network, a data set, ... that there is."""
    assert recipes.load(name).name == name


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.keys.get("options")])
def test_networks_take_the_options_of_their_recipes(name: str) -> None:
    recipe = recipes.load(name)
    classes = len(DATASETS[recipe.dataset].input.classes)
    with torch.device("meta"):
        plain = create(recipe.architecture, classes, recipe.activation)
        network = create(recipe.architecture, classes, recipe.activation, **recipe.options)
    assert str(network) != str(plain)


def test_table1_compares_networks_on_three_data_sets() -> None:
    for data, expected in (
        ("cifar10", set()),
        ("cifar100", {"dataset"}),
        ("svhn", {"dataset", "learning_rate", "augment"}),
    ):
        for network in ("resnet32", "senet32", "rescnet32", "resnet56", "senet56", "rescnet56", "resnet50", "senet50"):
            assert differences(f"table1/{network}-{data}", f"table1/rescnet50-{data}") == {"architecture"}
            assert ENTRIES[f"table1/{network}-{data}"].keys["architecture"] == network
        assert differences("table1/rescnet50-cifar10", f"table1/rescnet50-{data}") == expected


def test_table2_compares_networks_on_imagenet() -> None:
    for name in cells("table2"):
        assert differences(name, "table2/resnet18-imagenet") <= {"architecture"}
        assert ENTRIES[name].keys["architecture"] == name.removeprefix("table2/").replace("-", "_")


def test_table3_adds_one_improvement_after_the_other() -> None:
    added = {
        "resnet-d": {"options"},
        "long": {"epochs", "warmup_epochs", "min_learning_rate"},
        "autoaugment": {"augment"},
        "random-erasing": {"augment"},
        "mixup": {"mixup"},
        "cutmix": {"cutmix"},
        "large-batch": {"batch_size"},
        "distributed": set(),
    }
    assert differences("table3/baseline-rescnet50", "table1/rescnet50-cifar100") == set()
    before = "baseline"
    for row, expected in added.items():
        for network in ("resnet50", "rescnet50"):
            assert differences(f"table3/{before}-{network}", f"table3/{row}-{network}") == expected
            assert set(ENTRIES[f"table3/{row}-{network}"].changes) == expected
        assert differences(f"table3/{row}-resnet50", f"table3/{row}-rescnet50") == {"architecture"}
        before = row


def test_table4_compares_heads_of_the_rc_layer() -> None:
    for name in cells("table4"):
        assert differences(name, "table1/rescnet32-cifar100") <= {"options"}
    assert [ENTRIES[name].keys.get("options") for name in cells("table4")] == [
        {"head": "fc2"},
        {"reduction": 2},
        None,
        {"head": "fc3_relu"},
        {"head": "fc3_sigmoid"},
    ]


def test_table5_compares_activations_in_seven_networks() -> None:
    transformer = {
        "optimizer",
        "learning_rate",
        "min_learning_rate",
        "weight_decay",
        "epochs",
        "warmup_epochs",
        "clip_norm",
    }
    for network in ("alexnet", "vgg16", "resnet8", "resnet32", "vit", "swin", "cait"):
        start = f"table5/{network}-relu-cifar10"
        for activation in ("relu", "gelu", "gclu"):
            cell = f"table5/{network}-{activation}-cifar10"
            assert ENTRIES[cell].keys["activation"] == activation
            assert differences(start, cell) <= {"activation"}
            assert differences(cell, cell + "0") == {"dataset"}
        other = differences(start, "table1/resnet32-cifar10") - {"architecture"}
        assert other == (transformer if network in ("vit", "swin", "cait") else set())


def test_table6_compares_forms_of_gclu() -> None:
    for name in cells("table6"):
        assert differences(name, f"table1/resnet32-{name.rpartition('-')[2]}") == {"activation"}
    assert {ENTRIES[name].keys["activation"] for name in cells("table6")} == {"gclu", "gclu_sigmoid", "gclu_tanh"}


def test_the_same_recipe_has_the_same_result_in_every_table() -> None:
    """Rows that the paper repeats. Table 3's last row differs in how it is run, which is no key."""
    published: dict[str, set[float]] = {}
    for name, entry in ENTRIES.items():
        if entry.paper is not None and not name.startswith("table3/distributed"):
            settings = repr(sorted((key, str(value)) for key, value in keys(name).items()))
            published.setdefault(settings, set()).add(entry.paper.accuracy)
    repeated = (
        2 + 1 + 2 + 2
    )  # Table 3's baselines, Table 4's third row, Table 5's ResNet-32 twice: ReLU, and with Table 6
    assert len(published) == len(ENTRIES) - 2 - repeated
    assert all(len(results) == 1 for results in published.values())


def test_published_results() -> None:
    def result(name: str) -> tuple[float, float | None, float | None]:
        paper = ENTRIES[name].paper
        assert paper is not None
        return paper.accuracy, paper.top5, paper.hours

    assert result("table1/rescnet56-svhn") == (96.1, None, None)
    assert result("table2/rescnet50-imagenet") == (76.92, 93.298, None)
    assert result("table3/distributed-rescnet50") == (86.31, None, None)
    assert result("table4/fc3-r4-sigmoid-cifar100") == (72.38, 92.62, None)
    assert result("table5/alexnet-gclu-cifar100") == (62.33, None, None)
    assert result("table6/gclu-sigmoid-cifar100") == (72.32, None, 2.4)


def test_recipes_of_the_four_bases() -> None:
    assert replace(recipes.load("table1/rescnet32-cifar10"), name="") == CIFAR
    assert recipes.load("cifar10-rescnet32") == recipes.load("table1/rescnet32-cifar10")
    assert keys("table1/rescnet32-svhn") == replace(CIFAR, dataset="svhn", learning_rate=0.01, augment=()).to_json()
    imagenet = replace(
        CIFAR,
        dataset="imagenet",
        architecture="rescnet50_imagenet",
        augment=("flip",),
        epochs=90,
        batch_size=256,
        schedule="step",
        step_epochs=30,
        step_factor=0.1,
        weight_decay=1e-4,
    )
    assert keys("table2/rescnet50-imagenet") == imagenet.to_json()
    transformer = replace(
        CIFAR,
        architecture="vit_tiny",
        activation="gclu",
        epochs=300,
        optimizer="adamw",
        learning_rate=1.25e-4,
        min_learning_rate=1e-6,
        warmup_epochs=20,
        weight_decay=0.05,
        clip_norm=1.0,
    )
    assert keys("table5/vit-gclu-cifar10") == transformer.to_json()


def test_the_last_row_of_table3() -> None:
    everything = replace(
        CIFAR,
        dataset="cifar100",
        architecture="rescnet50",
        options={"shortcut": "avgpool"},
        augment=("crop", "flip", "autoaugment", "random_erasing"),
        mixup=1.0,
        cutmix=1.0,
        epochs=300,
        warmup_epochs=20,
        min_learning_rate=1e-6,
        batch_size=256,
    )
    assert keys("table3/distributed-rescnet50") == everything.to_json()


BASES = """
[plain]
epochs = 3
"""
TABLE = """
title = "Two networks"
base = "plain"

[column.digits]
dataset = "digits"

[row.small]
architecture = "rescnet8"
paper = { digits = 98 }
"""


def write(folder: Path, table: str = TABLE, bases: str = BASES) -> Path:
    (folder / "bases.toml").write_text(bases)
    (folder / "table9.toml").write_text(table)
    return folder


def test_a_table_of_one_cell(tmp_path: Path) -> None:
    (entry,) = tables.read(write(tmp_path))
    assert (entry.name, entry.title, entry.base) == ("table9/small-digits", "Two networks", "plain")
    assert entry.keys == {"epochs": 3, "dataset": "digits", "architecture": "rescnet8"}
    assert entry.changes == {}
    assert entry.paper == tables.Published(98.0)


# What is replaced in the table, by what, and what the message must say.
BAD = {
    "no title": ('title = "Two networks"', "", "'title' is missing"),
    "unknown key": ('base = "plain"', 'base = "plain"\ncummulative = true', "there is no 'cummulative' among title"),
    "unknown base": ('base = "plain"', 'base = "fancy"', "'small-digits' is 'fancy', not one of plain"),
    "row's unknown base": ("paper =", 'base = "fancy"\npaper =', "'small-digits' is 'fancy', not one of plain"),
    "no result": ("paper = { digits = 98 }", "", "'row.small.paper' is missing"),
    "no result of a column": ("{ digits = 98 }", "{}", "'row.small.paper.digits' is missing"),
    "result of no column": ("digits = 98 }", "digits = 98, mnist = 99 }", "no 'row.small.paper.mnist' among digits"),
    "time of no column": ("paper =", "hours = { mnist = 1 }\npaper =", "no 'row.small.hours.mnist' among digits"),
    "result in words": ("= 98", '= "98"', "'row.small.paper.digits' is text where a number belongs"),
    "row that is no table": (
        "[row.small]",
        "[row]\nsmall = 3\n[rest]",
        "'row.small' is a whole number where an object",
    ),
    "not TOML": ("[row.small]", "[row.small", "is not valid TOML"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_tables(case: str, tmp_path: Path) -> None:
    old, new, message = BAD[case]
    assert old in TABLE
    with pytest.raises(InputError) as caught:
        list(tables.read(write(tmp_path, TABLE.replace(old, new, 1))))
    assert message in str(caught.value)
    assert str(tmp_path / "table9.toml") in str(caught.value)
    assert caught.value.hint


def test_wrong_bases(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"bases\.toml: 'epochs' is not a table of keys"):
        list(tables.read(write(tmp_path, bases="epochs = 3")))
    (tmp_path / "bases.toml").unlink()
    with pytest.raises(InputError, match=r"There is no recipe at .*bases\.toml"):
        list(tables.read(tmp_path))
