"""Trained weights by name: what comes with the package is small and has a true card; what does not is said so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import keep_weights
from rc_deploy import checkpoint, weights
from rc_deploy.files import sha256
from rc_training import recipe as recipes
from rc_training.options import RunOptions
from rc_training.train import train
from rc_training.trainer import Splits
from training_runs import RECIPE, small_splits

Run = Callable[..., tuple[object, str]]


def problems(folder: Path) -> list[str]:
    """What is wrong with the weights in a folder."""
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        if path.stat().st_size >= weights.LARGEST:
            found.append(f"{path.name} is too large")
        card = path.with_suffix(".md")
        text = card.read_text(encoding="utf-8") if card.exists() else ""
        if sha256(path) not in text:
            found.append(f"{path.name} has no card of its own")
        if "$" in text:
            found.append(f"{card.name} is not filled in")
        trained = checkpoint.load(path)
        trained.module()  # its weights fit
        if f"{trained.metrics['test_accuracy_last']:.2f}%" not in text:
            found.append(f"{card.name} states another accuracy")
    return found


def test_weights_in_the_package_are_small_and_described() -> None:
    assert problems(weights.FOLDER) == []


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights that were trained in a moment, and kept."""
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Splits, "open", staticmethod(small_splits))
        train(RECIPE, RunOptions(folder / "run", device="cpu", command=("rc-deploy", "train", "digits")))
    keep_weights.keep(folder / "run", "tiny", "It is the only one.", folder)
    return folder


def test_a_card_is_filled_in_from_the_run(kept: Path) -> None:
    assert problems(kept) == []
    card = (kept / "tiny.md").read_text(encoding="utf-8")
    for words in ("# tiny\n", "resnet8 with activation relu", "`digits`, but for", "It is the only one.", "| 77,754 |"):
        assert words in card
    assert recipes.load("digits").to_json() != checkpoint.load(kept / "tiny.safetensors").recipe


def test_what_is_wrong_is_found(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in (".safetensors", ".md"):
        (tmp_path / f"tiny{suffix}").write_bytes((kept / f"tiny{suffix}").read_bytes())
    monkeypatch.setattr(weights, "LARGEST", 1000)
    assert problems(tmp_path) == ["tiny.safetensors is too large"]
    with pytest.raises(SystemExit, match="bytes; weights in the package take under 1,000"):
        keep_weights.keep(kept / "run", "again", "", tmp_path)
    assert not (tmp_path / "again.safetensors").exists()
    monkeypatch.undo()
    (tmp_path / "tiny.md").write_bytes((weights.FOLDER / "CARD.md").read_bytes())
    assert problems(tmp_path) == [
        "tiny.safetensors has no card of its own", "tiny.md is not filled in", "tiny.md states another accuracy",
    ]  # fmt: skip
    with pytest.raises(SystemExit, match="is not a finished run"):
        keep_weights.keep(tmp_path, "again", "", tmp_path)


def test_a_name_stands_for_its_weights(kept: Path, tmp_path: Path, here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", kept)
    model = tmp_path / "model.onnx"
    assert here("export", "tiny", model)[0] == 0
    assert here("validate", model, "--reference", "tiny", "--data", "random:1")[0] == 0
    # A file is taken before weights of its name.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").write_bytes(b"no checkpoint")
    code, said = here("export", "tiny", model)
    assert code == 3
    assert "tiny" in said


@pytest.mark.parametrize("name", sorted(set(weights.EXPECTED) - set(weights.available())))
def test_weights_that_are_not_trained_yet(name: str, tmp_path: Path, here: Run) -> None:
    code, said = here("export", name, tmp_path / "model.onnx")
    assert code == 3
    assert "do not come with this rc-deploy yet" in said
    recipe = weights.EXPECTED[name]
    assert f"rc-deploy train {recipe} --data DIR -o {name}.pt" in said
    assert recipes.load(recipe).name == recipe
    assert list(tmp_path.iterdir()) == []


def test_other_names_are_missing_files(tmp_path: Path, here: Run) -> None:
    code, said = here("export", "rescnet32", tmp_path / "model.onnx")
    assert code == 3
    assert "There is no checkpoint at rescnet32" in said
