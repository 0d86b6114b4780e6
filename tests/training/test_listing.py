"""`rc-deploy train --list`: a line per recipe, with the paper's result, and without PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rc_deploy.errors import InputError, OutputError
from rc_training import catalogue, listing


def listed(capsys: pytest.CaptureFixture[str], word: str | None = None) -> list[str]:
    listing.run(word, None)
    return capsys.readouterr().out.splitlines()


def test_every_recipe_has_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = listed(capsys)
    names = [line.split()[0] for line in lines if line]
    for name in catalogue.available():
        assert names.count(name) == 1
    titles = [line for line in lines if line.startswith("Table ")]
    assert [title[:8] for title in titles] == [f"Table {number}:" for number in range(1, 7)]
    assert "Not the paper's" in lines
    assert len([line for line in lines if line]) == len(catalogue.available()) + 9  # head, titles and legend
    assert "best epoch of one seed" in lines[-1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("table1/rescnet32-cifar10", ["cifar10", "rescnet32", "cifar", "200", "93.79"]),
        ("table1/senet56-svhn", ["svhn", "senet56", "svhn", "200", "95.88"]),
        ("table2/resnet18-imagenet", ["imagenet", "resnet18_imagenet", "imagenet", "90", "70.098", "top-5", "89.078"]),
        ("table3/long-resnet50", ["82.19", "epochs=300,", "warmup_epochs=20,", "min_learning_rate=1e-06"]),
        ("table3/cutmix-rescnet50", ["300", "85.73", "cutmix=1"]),
        ("table4/fc3-r4-relu-cifar100", ["rescnet32", "72.36", "head=fc3_relu;", "top-5", "91.96"]),
        ("table5/alexnet-gelu-cifar100", ["1.23", "activation=gelu;", "did", "not", "converge"]),
        ("table5/resnet32-relu-cifar10", ["93.72", "the", "same", "recipe", "as", "table1/resnet32-cifar10"]),
        ("table6/gclu-sigmoid-cifar10", ["93.35", "activation=gclu_sigmoid;", "2.43", "h"]),
        ("digits", ["digits", "rescnet8", "40"]),
    ],
)
def test_a_line_says_what_the_recipe_is(name: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = (line for line in listed(capsys, name) if line.startswith(f"{name} "))
    assert line.split()[0] == name
    assert set(words) <= set(line.split())


def test_a_word_chooses(capsys: pytest.CaptureFixture[str]) -> None:
    for word, count in {"table3": 18, "SVHN": 9, "vit": 6, "gclu_tanh": 2, "transformer": 18, "rescnet50": 13}.items():
        assert len([line for line in listed(capsys, word) if "/" in line.split(" ")[0]]) == count, word
    with pytest.raises(InputError, match="No recipe has 'mobilenet' in it") as caught:
        listing.run("mobilenet", None)
    assert "rc-deploy train --list" in caught.value.hint


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listing.run(None, "-")
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["schema_version"]) == ("rc-deploy/recipes", 1)
    recipes = {recipe["name"]: recipe for recipe in document["recipes"]}
    assert recipes.keys() == catalogue.available().keys()
    assert recipes["table1/rescnet32-cifar10"]["aliases"] == ["cifar10-rescnet32"]
    assert recipes["table1/rescnet32-cifar10"]["paper"]["accuracy"] == 93.79
    assert recipes["table3/mixup-resnet50"]["changes"] == {"mixup": 1.0}
    assert recipes["table3/mixup-resnet50"]["keys"]["epochs"] == 300
    assert recipes["table3/baseline-resnet50"]["same_as"] == "table1/resnet50-cifar100"
    assert recipes["digits"]["paper"] is None
    listing.run("digits", str(tmp_path / "list.json"))
    assert [recipe["name"] for recipe in json.loads((tmp_path / "list.json").read_text())["recipes"]] == ["digits"]
    with pytest.raises(OutputError, match="could not be written"):
        listing.run(None, str(tmp_path / "missing" / "list.json"))


def test_recipes_are_listed_without_anything_heavy() -> None:
    code = (
        "import sys; from rc_training import listing; listing.run('digits', None); "
        "print([m for m in ('torch', 'numpy', 'kornia', 'sklearn', 'onnx') if m in sys.modules])"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.stdout.splitlines()[-1], done.stderr) == ("[]", "")


@pytest.mark.parametrize(
    ("reference", "guess"),
    [("cifar10-rescnet", "cifar10-rescnet8"), ("table1/resnet23-cifar10", "table1/resnet32-cifar10"), ("qqq", "")],
)
def test_unknown_names_get_a_guess(reference: str, guess: str) -> None:
    with pytest.raises(InputError) as caught:
        catalogue.find(reference)
    assert f"no recipe named '{reference}'" in str(caught.value)
    assert ("Did you mean" in str(caught.value)) == bool(guess)
    assert guess in str(caught.value)
    assert "train --list" in caught.value.hint
