"""Several processes train the network that one does; the processes are real, on this machine's loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import data_parallel
from rc_deploy import checkpoint
from rc_deploy.errors import InputError, UnsupportedError
from rc_training import recipe as recipes
from rc_training.batch_norm import synchronise
from rc_training.distributed import Processes, connected, current, local_device
from rc_training.options import RunOptions
from rc_training.step import Mixed, Step
from rc_training.train import train

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from rc_training.step import Batch, StepResult

WORKER = Path(data_parallel.__file__)
CASES = ("rescnet", "mixed", "layer_norm", "compiled", "norm", "agree")
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
LIMIT = 120  # seconds, for a machine that does other things too; they take about ten


def start(command: list[str], **environment: str) -> subprocess.Popen[str]:
    surroundings = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    surroundings |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **environment}
    return subprocess.Popen(
        [sys.executable, *command], env=surroundings, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(*processes: subprocess.Popen[str]) -> list[str]:
    """Wait for all; return what they printed."""
    try:
        return [process.communicate(timeout=LIMIT)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()


def torchrun(*options: str) -> list[str]:
    return ["-m", "torch.distributed.run", "--nproc-per-node", *options]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two processes, each of a torchrun of its own: as two machines, these meet at an address."""
    folder = tmp_path_factory.mktemp("two")
    options = ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
    command = torchrun("1", *options, "--local-addr", "127.0.0.1", str(WORKER), str(folder), *CASES, "unsynchronised")
    agents = [start(command), start(command)]
    outputs = finish(*agents)
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    return folder


def load(folder: Path, case: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(folder / f"{case}.pt", weights_only=True)
    return found


def difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    assert list(one) == list(other)
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one if one[name].numel())


@pytest.fixture(scope="module")
def alone() -> dict[str, Tensor]:
    return data_parallel.rescnet()


@pytest.fixture(scope="module")
def allowed(alone: dict[str, Tensor]) -> float:
    """What the order of summation changes: one process, given the images of each batch in other orders."""
    return 4 * max(difference(alone, data_parallel.rescnet(order=order)) for order in (1, 2, 3, 4))


def test_two_processes_train_the_network_of_one(two: Path, alone: dict[str, Tensor], allowed: float) -> None:
    found = load(two, "rescnet")
    assert torch.equal(found["correct"], alone["correct"])
    assert difference(found, alone) <= allowed


def test_without_synchronised_batch_norm_they_would_not(two: Path, alone: dict[str, Tensor], allowed: float) -> None:
    assert difference(load(two, "unsynchronised"), alone) > 100 * allowed


def test_mixed_images(two: Path, allowed: float) -> None:
    assert difference(load(two, "mixed"), data_parallel.mixed()) <= allowed


def test_without_batch_norm(two: Path) -> None:
    found = load(two, "layer_norm")
    # Sums of 16 images' gradients of order 1, in another order, over five steps at 0.02.
    assert difference(found, data_parallel.layer_norm()) <= 1e-6
    assert torch.equal(found["unused"], torch.ones(3))  # nothing decays what has no gradient, as in one process


def test_compiled_networks_too(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", torch.compile)  # the case replaces it
    torch._dynamo.reset()
    assert difference(load(two, "compiled"), data_parallel.compiled()) <= 1e-5


def test_batch_norm_equals_pytorchs_on_the_whole_batch(two: Path) -> None:
    found, expected = load(two, "norm"), data_parallel.norm()
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        # float64: sums of 128 values around 30. bfloat16: outputs around 3 and gradients, rounded. Statistics of a
        # process's own images are off by a tenth.
        bound = 1e-11 if "float64" in name else 2.0**-6
        torch.testing.assert_close(found[name], tensor, rtol=bound, atol=bound, msg=name)


def with_exact_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one process compute the statistics of batch norm as several do.

    PyTorch's own of channels_last batches on a CPU are sums in float32, one after the other: of 500 images of 8x8 their
    variance is off by 1e-4 of itself, which has nothing to do with the number of processes.
    """
    made = Step.__init__

    def init(self: Step, network: torch.nn.Module, *arguments: Any) -> None:
        synchronise(network)
        made(self, network, *arguments)

    monkeypatch.setattr(Step, "__init__", init)


def in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shuffle the images of every batch right before the step that they are for."""
    step = Step.__call__

    def shuffled(self: Step, batch: Batch, rate: float) -> StepResult:
        order = torch.randperm(len(batch.labels), generator=torch.Generator().manual_seed(1))
        assert batch.mixed is not None
        mixed = Mixed(batch.mixed.labels[order], batch.mixed.weight)
        return step(self, batch._replace(images=batch.images[order], labels=batch.labels[order], mixed=mixed), rate)

    monkeypatch.setattr(Step, "__call__", shuffled)


def test_the_command_trains_in_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes of one torchrun, digits in halves, evaluation too; one of the two writes and speaks."""
    network = ("architecture=resnet8", "activation=relu")  # RC and GCLU are in the case `rescnet`
    steps = ("epochs=1", "warmup_epochs=0", "batch_size=500", "learning_rate=0.02", "augment=crop,flip", "mixup=1")
    keys = (*network, *steps)
    command = ["-m", "--", "rc_deploy", "train", "digits", "--device", "cpu", "--run", str(tmp_path / "two")]
    run = start(torchrun("2", "--standalone", *command, *(word for key in keys for word in ("--set", key))))
    (output,) = finish(run)
    assert run.returncode == 0, output
    assert output.count("Next: rc-deploy export") == 1
    assert json.loads((tmp_path / "two" / "run.json").read_text())["processes"] == 2
    two = checkpoint.load(tmp_path / "two" / "checkpoint.pt")

    recipe = recipes.load("digits", keys)
    plain = train(recipe, RunOptions(tmp_path / "plain", device="cpu"))
    with_exact_statistics(monkeypatch)
    one = train(recipe, RunOptions(tmp_path / "one", device="cpu"))
    in_another_order(monkeypatch)
    other = train(recipe, RunOptions(tmp_path / "other", device="cpu"))
    allowed = 8 * difference(other.weights, one.weights)
    assert difference(two.weights, one.weights) <= allowed
    assert difference(two.weights, plain.weights) <= difference(one.weights, plain.weights) + allowed < 1e-3
    (found,), (expected,) = two.metrics["history"], one.metrics["history"]
    assert found["loss"] == pytest.approx(expected["loss"], abs=1e-5)
    assert found["test_loss"] == pytest.approx(expected["test_loss"], abs=1e-5)
    assert found["test_accuracy"] == expected["test_accuracy"]


def start_without_agent(case: str, folder: Path, patience: float) -> list[subprocess.Popen[str]]:
    """Start two processes that nobody watches over: torchrun would end the one when the other fails."""
    port = str(free_port())
    return [
        start(
            [str(WORKER), str(folder), case],
            RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
            PATIENCE=str(patience),
        )
        for rank in ("0", "1")
    ]  # fmt: skip


@pytest.mark.parametrize("case", ["killed", "stuck"])
def test_a_process_that_is_lost_ends_the_others(case: str, tmp_path: Path) -> None:
    first, last = start_without_agent(case, tmp_path, patience=LIMIT if case == "killed" else 3)
    begin = time.monotonic()
    try:
        output, _ = first.communicate(timeout=LIMIT / 2)
    finally:
        first.kill()
        if case == "stuck":
            last.send_signal(signal.SIGKILL)
        last.communicate()
    assert first.returncode == 1, output
    assert "UnsupportedError: Another process of this run ended or does not answer" in output
    assert time.monotonic() - begin < LIMIT / 2


def test_parts_cover_a_batch_once() -> None:
    for size in range(1, 6):
        for count in (0, 1, 2, 5, 128):
            parts = [range(count)[Processes(rank, size).part(count)] for rank in range(size)]
            assert [index for part in parts for index in part] == list(range(count))
            assert max(map(len, parts)) - min(map(len, parts)) <= 2
            assert all(part.start % 2 == 0 for part in parts if part)  # no pair of images is torn apart


def test_processes_with_different_networks_do_not_begin(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a run is resumed on two machines, and one of them does not see its folder."""
    assert load(two, "agree")["agree"].tolist() == [True, False]
    monkeypatch.setattr(Processes, "agree", lambda *_: False)
    recipe = recipes.load("digits", ("epochs=1", "architecture=resnet8"))
    with pytest.raises(InputError, match="do not hold the same network: this one has trained 0 epochs"):
        train(recipe, RunOptions(tmp_path / "run", device="cpu"))
    assert not (tmp_path / "run" / "run.json").exists()


def test_one_process_connects_nothing() -> None:
    with connected(torch.device("cpu")) as processes:
        assert processes == current() == Processes(0, 1)
        processes.wait()
        tensor = torch.ones(2)
        assert processes.sum(tensor) is tensor
        assert not torch.distributed.is_initialized()


def test_environment_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    with (
        pytest.raises(InputError, match="incomplete or damaged: RANK=0, WORLD_SIZE=, LOCAL_RANK="),
        connected(torch.device("cpu")),
    ):
        pass
    monkeypatch.setenv("WORLD_SIZE", "two")
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(InputError, match="WORLD_SIZE=two"):
        local_device(torch.device("cpu"))
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert local_device(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert local_device(torch.device("cuda")) == torch.device("cuda", 3)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UnsupportedError, match="Process 3 of this machine has no GPU") as caught:
        local_device(torch.device("cuda"))
    assert "--nproc-per-node 2" in caught.value.hint


def test_processes_that_cannot_reach_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1"}
    for name, value in (values | {"MASTER_PORT": str(free_port())}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UnsupportedError, match="cannot reach each other"), connected(torch.device("cpu"), patience=1):
        pass


def test_other_kinds_of_batch_norm_are_refused() -> None:
    with pytest.raises(ValueError, match="BatchNorm1d cannot be synchronised"):
        synchronise(torch.nn.Sequential(torch.nn.BatchNorm1d(3)))
