"""One training step, held against float64 arithmetic written out; its fast ways against the plain one."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from rc_deploy.errors import UnsupportedError
from rc_deploy.nn import GCLU, ResponseCalibration
from rc_deploy.specs import InputSpec
from rc_training import cuda_graph
from rc_training.models import create
from rc_training.step import Batch, Mixed, Step, StepOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from rc_training.step import StepResult

SPEC = InputSpec((1, 8, 8), (0.3,), (0.4,), tuple("0123456789"))
PLAIN = StepOptions()


def batch_of(size: int, seed: int = 0, mixed: float | Tensor | None = None) -> Batch:
    draws = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (size, 1, 8, 8), generator=draws, dtype=torch.uint8)
    labels, others = torch.randint(0, 10, (2, size), generator=draws)
    return Batch(images, labels, None if mixed is None else Mixed(others, mixed))


def epochs(*sizes: int) -> list[Batch]:
    return [batch_of(size, seed) for seed, size in enumerate(sizes)]


def network_of(activation: str = "gclu", dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    network = create("rescnet8", activation=activation, in_channels=1)
    return network.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=5e-4)


def adamw(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), 0.1, weight_decay=0.05)


def run(
    network: nn.Module, batches: list[Batch], options: StepOptions = PLAIN, optimizer: Any = sgd
) -> tuple[list[StepResult], list[Tensor]]:
    """Train; return every step's result, and what the network then holds."""
    step = Step(network.train(), optimizer(network), SPEC, options)
    results = [step(batch, 0.05 / (1 + index)) for index, batch in enumerate(batches)]
    return results, list(network.state_dict().values())


# One step of a linear classifier, in float64 throughout.


def targets_of(batch: Batch, smoothing: float) -> Tensor:
    hot = partial(nn.functional.one_hot, num_classes=10)
    target = hot(batch.labels).double()
    if batch.mixed is not None:
        weight = torch.as_tensor(batch.mixed.weight).double().reshape(-1, 1)
        target = weight * target + (1 - weight) * hot(batch.mixed.labels).double()
    return (1 - smoothing) * target + smoothing / 10


def textbook(weight: Tensor, batch: Batch, options: StepOptions) -> tuple[Tensor, Tensor]:
    """Return the loss and the (clipped) gradient."""
    inputs = ((batch.images.double() / 255 - SPEC.mean[0]) / SPEC.std[0]).flatten(1)
    logits, target = inputs @ weight.double().T, targets_of(batch, options.label_smoothing)
    loss = -(target * logits.log_softmax(1)).sum(1).mean()
    gradient = (logits.softmax(1) - target).T @ inputs / len(inputs)
    if options.clip_norm:
        gradient *= min(1.0, options.clip_norm / float(gradient.square().sum().sqrt()))
    return loss, gradient


@pytest.mark.parametrize("mixed", [None, 0.3, torch.linspace(0, 1, 12)], ids=["plain", "mixed", "mixed each"])
@pytest.mark.parametrize(
    "options",
    [PLAIN, StepOptions(label_smoothing=0.1), StepOptions(clip_norm=0.25), StepOptions(clip_norm=1e3)],
    ids=str,
)
def test_a_step_is_the_textbooks(options: StepOptions, mixed: float | Tensor | None) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 10, bias=False)
    network, weight = nn.Sequential(nn.Flatten(), linear), linear.weight
    batch = batch_of(12, mixed=mixed)
    before = weight.detach().clone()
    step = Step(network, torch.optim.SGD(network.parameters(), 1.0), SPEC, options)
    loss, gradient = textbook(before, batch, options)
    result = step(batch, 0.5)
    # Sums of 64 products of numbers up to 2.5 x 0.125 in float32, and of 12 images: 1e-6 covers their roundings.
    torch.testing.assert_close(result.loss.double(), loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(weight.detach().double(), before.double() - 0.5 * gradient, rtol=0, atol=1e-6)
    assert result.loss.dtype == torch.float32
    assert not result.loss.requires_grad


def test_mixed_images_count_by_the_weight_of_the_label_found() -> None:
    network = nn.Flatten()  # its logits are the pixels
    network.register_parameter("unused", nn.Parameter(torch.zeros(1)))
    pixels = torch.zeros(4, 10, 1, 1)
    pixels[torch.arange(4), torch.tensor([1, 2, 3, 4])] = 1
    labels, others = torch.tensor([1, 2, 0, 0]), torch.tensor([1, 0, 3, 0])
    pixels.requires_grad_()

    def correct(mixed: Mixed | None) -> float:
        step = Step(network, torch.optim.SGD(network.parameters(), 1.0), SPEC, PLAIN)
        return step(Batch(pixels, labels, mixed, normalised=True), 0.1).correct.item()

    assert correct(None) == 2
    assert correct(Mixed(others, 0.75)) == 2
    assert correct(Mixed(others, torch.tensor([0.5, 0.25, 0.125, 0.5]))) == 1 + 0.25 + 0.875


def test_adamw_is_the_textbooks() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 10, bias=False)
    network, weight = nn.Sequential(nn.Flatten(), linear), linear.weight
    step = Step(network, adamw(network), SPEC, PLAIN)
    expected = weight.detach().double()
    mean, square = torch.zeros(2, 10, 64, dtype=torch.float64)
    for index, rate in enumerate((0.01, 0.02, 0.005), start=1):
        _, gradient = textbook(weight.detach(), batch_of(12, index), PLAIN)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient.square()
        expected = expected * (1 - rate * 0.05)
        expected -= rate * (mean / (1 - 0.9**index)) / ((square / (1 - 0.999**index)).sqrt() + 1e-8)
        step(batch_of(12, index), rate)
    # Some gradients are as small as 1e-4 of the largest: their quotients carry that much more rounding.
    torch.testing.assert_close(weight.detach().double(), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("optimizer", [sgd, adamw])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
def test_fused_optimisers_follow_the_layout(optimizer: Any, layout: torch.memory_format) -> None:
    """Five steps beside a plain loop's; the last two with a state that was saved in either layout."""
    batches = epochs(16, 16, 16, 16, 16)
    plain = network_of().train()
    loop = optimizer(plain)
    for batch in batches:
        loop.param_groups[0]["lr"] = 0.01
        loop.zero_grad()
        inputs = (batch.images.float() / 255 - 0.3) / 0.4
        nn.functional.cross_entropy(plain(inputs), batch.labels).backward()  # type: ignore[no-untyped-call]
        loop.step()

    network = network_of().train()
    first = optimizer(network)
    step = Step(network, first, SPEC, PLAIN)
    for batch in batches[:3]:
        step(batch, 0.01)
    second = optimizer(network)
    saved = first.state_dict()
    for state in saved["state"].values():
        for name, value in state.items():
            state[name] = value.contiguous(memory_format=layout) if value.dim() == 4 else value
    second.load_state_dict(saved)
    step = Step(network, second, SPEC, PLAIN)
    for batch in batches[3:]:
        step(batch, 0.01)
    # 1e-6 was seen for SGD. AdamW divides by the gradient's own size: one that is all rounding moves a weight by up to
    # the rate of 0.01 a step, and BatchNorm makes some such; their share is counted.
    for one, other in zip(network.parameters(), plain.parameters(), strict=True):
        off = ((one - other).abs() > 2e-5).float().mean()
        assert off <= (0.02 if optimizer is adamw else 0), off


def test_images_that_are_normalised_are_left_so() -> None:
    batch = batch_of(12)
    normalised = Batch((batch.images.float() / 255 - 0.3) / 0.4, batch.labels, normalised=True)
    (one,), _ = run(network_of(), [batch])
    (other,), _ = run(network_of(), [normalised])
    torch.testing.assert_close(one.loss, other.loss, rtol=1e-6, atol=0)


def test_unknown_precision() -> None:
    with pytest.raises(ValueError, match="float32, bfloat16"):
        StepOptions(precision="half")


# bfloat16


def rounding(generator: torch.Generator) -> Callable[..., Tensor]:
    """Return a hook that changes a layer's outputs as bfloat16 would: its two operands and the result each round."""

    def hook(_: nn.Module, __: object, output: Tensor) -> Tensor:
        return output * (1 + (2 * torch.rand(output.shape, generator=generator) - 1) * 3 * 2.0**-9)

    return hook


def test_bfloat16_follows_float32() -> None:
    """Over 20 steps, as closely as float32 does whose convolutions and products are off by bfloat16's roundings."""
    batches = [batch_of(16)] * 20

    def losses(network: nn.Module, precision: str = "float32") -> Tensor:
        return torch.stack([result.loss for result in run(network, batches, StepOptions(precision=precision))[0]])

    exact = losses(network_of())
    allowed = torch.zeros(20)
    for seed in range(3):
        network, draws = network_of(), torch.Generator().manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(rounding(draws))
        allowed = torch.maximum(allowed, (losses(network) - exact).abs())
    found = (losses(network_of(), "bfloat16") - exact).abs()
    assert exact[-1] < 0.8 * exact[0]  # it did learn
    assert found.max() > 1e-5  # it was bfloat16
    assert (found.cummax(0).values <= 4 * allowed.cummax(0).values + 1e-3).all(), (found, allowed)


def test_bfloat16_keeps_weights_and_loss_in_float32() -> None:
    results, state = run(network_of(), [batch_of(32)], StepOptions(precision="bfloat16"))
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in state)
    assert results[0].loss.dtype == torch.float32
    assert results[0].loss != results[0].loss.bfloat16()


# torch.compile


class Small(nn.Module):
    """Of everything something, in few operations: a whole network takes long to trace."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), GCLU())
        self.calibration, self.classifier = ResponseCalibration(8, 2), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.calibration(self.stem(x)).mean((2, 3)))
        return logits


def compiled_with(monkeypatch: pytest.MonkeyPatch, backend: Any) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compile_traces_whole_networks_once(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one graph, backward too; an epoch's last batch is not compiled, in no epoch."""
    counter = CompileCounterWithBackend("aot_eager")
    compiled_with(monkeypatch, counter)
    batches = epochs(32, 32, 7, 32, 32, 7)
    results, state = run(Small(), batches, StepOptions(precision=precision, compile=True))
    assert counter.frame_count == 1
    plain, expected = run(Small(), batches, StepOptions(precision=precision))
    torch.testing.assert_close(state, expected, rtol=0, atol=0)
    assert [result.loss for result in results] == [result.loss for result in plain]


def test_compile_says_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaks(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            torch._dynamo.graph_break()
            return super().forward(x.flatten(1))

    compiled_with(monkeypatch, "aot_eager")
    with pytest.raises(UnsupportedError, match="torch.compile cannot compile this network here") as caught:
        run(Breaks(64, 10), [batch_of(4)], StepOptions(compile=True))
    assert caught.value.hint == "Train without --compile."


# CUDA graphs, with what only CUDA has replaced: the memory that is read and written, and when, is the same.


class Recorder:
    """Stands for a CUDA graph: records a call and, each time it is replayed, writes to the same memory."""

    def __init__(self) -> None:
        self.recordings = 0
        self.recording = False

    def record(self, function: Callable[[], tuple[Tensor, ...]]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        self.recordings += 1
        results = (torch.zeros(()), torch.zeros((), dtype=torch.int64))

        def replay() -> None:
            self.recording = True
            for place, result in zip(results, function(), strict=True):
                place.copy_(result)
            self.recording = False

        return replay, results


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(cuda_graph, "record", recorder.record)
    monkeypatch.setattr(cuda_graph, "side_stream", nullcontext)
    monkeypatch.setattr(cuda_graph, "require_graphs", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: recorder.recording)
    return recorder


@pytest.mark.parametrize("optimizer", [sgd, adamw])
def test_recorded_steps_are_the_plain_ones(optimizer: Any, recorder: Recorder) -> None:
    batches = epochs(16, 16, 5, 16, 16, 5, 16, 16, 5)
    results, state = run(network_of(), batches, StepOptions(cuda_graph=True), optimizer)
    assert recorder.recordings == 1

    class Plain(Step):
        """With the learning rate where a graph reads it from: as a float32."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._rate = torch.zeros(())

    network = network_of().train()
    step = Plain(network, optimizer(network), SPEC, PLAIN)
    plain = [step(batch, 0.05 / (1 + index)) for index, batch in enumerate(batches)]
    for found, expected in zip(results, plain, strict=True):  # kept from step to step, and yet not written over
        assert found == expected
    assert all(torch.equal(*pair) for pair in zip(state, network.state_dict().values(), strict=True))


def test_a_recording_reads_its_own_copy_of_the_arguments(recorder: Recorder) -> None:
    seen = []

    def function(x: Tensor) -> tuple[Tensor, ...]:
        seen.append(x.data_ptr())
        return x.sum(), x.argmax()

    call = cuda_graph.Recorded(function)
    arguments = [torch.randn(5) for _ in range(6)]
    results = [call(argument) for argument in arguments]
    assert results == [(argument.sum(), argument.argmax()) for argument in arguments]
    assert seen[:3] == [argument.data_ptr() for argument in arguments[:3]]
    assert len(set(seen[3:])) == 1
    assert seen[3] not in {argument.data_ptr() for argument in arguments}


def test_cuda_graphs_want_one_cuda_device() -> None:
    with pytest.raises(UnsupportedError, match="A CUDA graph wants a CUDA device; this run is on the cpu"):
        run(network_of(), [], StepOptions(cuda_graph=True))
    with pytest.raises(UnsupportedError, match="that 2 processes take together"):
        cuda_graph.require_graphs(torch.device("cuda"), 2)
