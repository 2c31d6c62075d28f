"""Calls from several threads leave PyTorch's switches and random state as they were, with right numbers."""

from __future__ import annotations

import copy
import sys
import threading

import pytest
import torch
from torch import nn

from eigencore.objectives import CrossEntropy
from eigencore_torch.backend import TorchOptions, bind


class Attention(nn.Module):
    """Reads switches that a session sets, and draws random numbers, which the outputs do not depend on."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=5, batch_first=True)
        self.norm, self.head = nn.BatchNorm1d(4), nn.Linear(4, 3)
        self.calls = 0
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        torch.rand(3)
        self.calls += 1
        self.seen += len(x)
        assert not torch.backends.mha.get_fastpath_enabled()
        assert not torch.backends.cuda.flash_sdp_enabled()
        assert not torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "highest"
        hidden = self.layer(x[:, None] + torch.zeros(1, 3, 1, dtype=x.dtype))
        return self.head(self.norm(hidden.mean(1)))


def numbers(problem, **options):
    """What the parts of a bound problem return, from a product to a sample's curvature."""
    bound = bind(problem, TorchOptions(**options))
    operator = bound.operator()
    v = torch.linspace(-1, 1, operator.shape[0], dtype=torch.float64)
    found = [operator.matvec(v), operator.minibatch(0, 0)[0].matvec(v), torch.tensor(bound.loss(v / 100))]
    if "batch_norm" not in options:
        classifier = bound.classifier()
        x, y = classifier.samples()
        found += [classifier.logits(x), *classifier.value_and_grad(CrossEntropy(), x, y)]
        found += [bound.sample_curvature(CrossEntropy(), v, x, y)]
    return [x.detach().clone() for x in found]


def switches():
    return {
        "attention": (
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
            torch.backends.cuda.math_sdp_enabled(),
            torch.backends.mha.get_fastpath_enabled(),
        ),
        "cudnn": (torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32),
        "precision": torch.get_float32_matmul_precision(),
        "modes": (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
        ),
        "random": torch.get_rng_state().tolist(),
    }


def in_threads(*calls):
    """Makes calls at the same time, each in a thread of its own; returns their results."""
    results, barrier = [None] * len(calls), threading.Barrier(len(calls))

    def run(index, call):
        barrier.wait()
        results[index] = call(), torch.is_grad_enabled()

    threads = [threading.Thread(target=run, args=given) for given in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(result is not None and result[1] for result in results)
    return [value for value, _ in results]


@pytest.fixture
def often_interrupted():
    """Lets Python switch between threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def users_precision():
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")


def assert_equal(found, expected):
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("often_interrupted", "users_precision")
def test_two_threads_with_two_models_ten_times(small):
    problems = [small(model=Attention().double(), reduction="mean") for _ in range(2)]
    given = [{}, {"batch_norm": "batch", "memory": "none"}]
    states = [copy.deepcopy(problem.model.state_dict()) for problem in problems]
    alone = [numbers(problem, **options) for problem, options in zip(problems, given, strict=True)]
    before = switches()
    assert before["precision"] == "high"
    for _ in range(10):
        together = in_threads(
            lambda: numbers(problems[0], **given[0]), lambda: numbers(problems[1], **given[1])
        )
        assert switches() == before
        for found, expected in zip(together, alone, strict=True):
            assert_equal(found, expected)
        for problem, state in zip(problems, states, strict=True):
            assert all(module.training for module in problem.model.modules())
            assert problem.model.calls == 0
            torch.testing.assert_close(problem.model.state_dict(), state, rtol=0, atol=0)


@pytest.mark.usefixtures("often_interrupted")
def test_two_threads_with_one_model_and_one_operator(small):
    problem = small()
    bound = bind(problem, TorchOptions())
    operator, v = bound.operator(), torch.ones(59, dtype=torch.float64)
    product, shifted = operator.matvec(v), bound.loss(v)

    def losses():
        return [bound.loss(v) for _ in range(50)]

    def products():
        return [operator.matvec(v) for _ in range(50)]

    # The loss at shifted weights changes the weights for a moment, which the products must not see.
    found = in_threads(losses, products)
    assert found[0] == [shifted] * 50
    assert_equal(found[1], [product] * 50)


def test_an_interrupt_in_one_thread_does_not_block_another(small):
    class Interrupt(BaseException):
        pass

    def interrupt(*_):
        raise Interrupt

    problem = small()
    bound = bind(problem, TorchOptions())
    expected = bound.loss()
    hook = problem.model.register_forward_hook(interrupt)
    with pytest.raises(Interrupt):
        bound.loss()
    hook.remove()
    assert in_threads(bound.loss) == [expected]
