"""`--model module:factory`: the user's own code may do anything; what is wrong with it is said, with its line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rc_deploy import checkpoint
from rc_deploy.errors import InputError
from rc_deploy.export import ExportOptions, export

MODULE = """
import sys

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, gives):
        super().__init__()
        self.ten = nn.Linear(3 * 16 * 16, 10)
        self.gives = gives

    def forward(self, x):
        return self.gives(self.ten(x.flatten(1)))


class Two(Net):
    def forward(self, x, y):
        return x


def none(**arguments):
    return None

def text(**arguments):
    return "network"

def raises(**arguments):
    raise ValueError("no such width")

def exits(**arguments):
    sys.exit(3)

def wrong(colour):
    return Net(None)

def two(**arguments):
    return Two(None)

def table(**arguments):
    return Net(lambda x: {"logits": x})

def pair(**arguments):
    return Net(lambda x: (x, x))

def flat(**arguments):
    return Net(lambda x: x.sum(1))

def nine(**arguments):
    return Net(lambda x: x[:, :9])

def fails(**arguments):
    return Net(lambda x: x.nothing)

def ok(**arguments):
    return Net(lambda x: x)

number = 7
"""


@pytest.fixture
def bare(small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of one linear layer, beside modules of a user's."""
    (tmp_path / "users_networks.py").write_text(MODULE)
    (tmp_path / "users_exit.py").write_text("raise SystemExit(0)\n")
    (tmp_path / "users_error.py").write_text("\n\n1 / 0\n")
    (tmp_path / "users_syntax.py").write_text("def (:\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "bare.pt"
    torch.manual_seed(0)
    weights = {"ten.weight": torch.randn(10, 768) / 28, "ten.bias": torch.randn(10)}
    checkpoint.save(replace(checkpoint.load(small_checkpoint), weights=weights), path)
    return path


@pytest.mark.parametrize(
    ("factory", "phrases"),
    [
        ("users_networks:none", ["made a NoneType, not a network"]),
        ("users_networks:text", ["made a str, not a network"]),
        ("users_networks:raises", ["users_networks.py:30: no such width", "ValueError"]),
        ("users_networks:exits", ["failed on the checkpoint's arguments", "SystemExit at "]),
        ("users_networks:wrong", ["failed on the checkpoint's arguments", "unexpected keyword argument"]),
        ("users_networks:number", ["names a int, not a callable"]),
        ("users_networks:absent", ["cannot be imported", "no attribute 'absent'"]),
        ("users_networks:two", ["cannot be run on images of shape (1, 3, 16, 16)", "missing 1 required"]),
        ("users_networks:fails", ["cannot be run on images", "users_networks.py:"]),
        ("users_networks:table", ["gives a dict; it must give one tensor (N, K), here (1, 10)"]),
        ("users_networks:pair", ["gives a tuple; it must give one tensor (N, K)"]),
        ("users_networks:flat", ["gives a tensor (1,); it must"]),
        ("users_networks:nine", ["gives a tensor (1, 9); it must", "names 10 classes"]),
        ("users_exit:Net", ["cannot be imported", "SystemExit at ", "users_exit.py:1"]),
        ("users_error:Net", ["cannot be imported", "ZeroDivisionError at ", "users_error.py:3"]),
        ("users_syntax:Net", ["cannot be imported", "SyntaxError", "users_syntax.py, line 1"]),
        (".users_networks:ok", ["cannot be imported", "relative import"]),
        (":ok", ["cannot be imported"]),
    ],
)
def test_factories_that_make_no_network(factory: str, phrases: list[str], bare: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.onnx"
    with pytest.raises(InputError) as caught:
        export(bare, output, ExportOptions(factory=factory))
    assert caught.value.hint
    for phrase in phrases:
        assert phrase in f"{caught.value} {caught.value.hint}"
    assert not output.exists()


def test_a_factory_of_ones_own_is_exported(bare: Path, tmp_path: Path) -> None:
    assert export(bare, tmp_path / "model.onnx", ExportOptions(factory="users_networks:ok")).rc_layers == {}
