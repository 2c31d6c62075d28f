"""All routes to a product give the same operator, and a route that is not possible says why."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import eigencore
from eigencore.errors import CapabilityError, OptionError, ProblemError
from eigencore_torch.kinds import recorded_operator
from eigencore_torch.kinds.recording import record
from kit.torch_networks import NETWORKS, dense, difference, made_of, matrix


def recorded(problem, params=None, kind="hessian", **options):
    return eigencore.bind(problem, route="recorded", **options).operator(kind, params)


@pytest.mark.parametrize(
    ("name", "memory"),
    [*((name, "auto") for name in NETWORKS), ("batch_norm", "none"), ("attention", "none")],
)
def test_a_recorded_product_is_that_of_the_graph(name, memory):
    problem = made_of(name, reduction="mean").problem
    expected, hessian = matrix(problem, "hessian"), recorded(problem, memory=memory)
    for _ in range(2):  # with what was kept, too
        assert difference(dense(hessian), expected) < 1e-10


WEIGHTS = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)


@pytest.mark.parametrize("options", [{"microbatch": 2}, {"join": 10}, {"memory": "8KiB"}], ids=str)
def test_the_options_of_batches(options):
    loss = nn.CrossEntropyLoss(WEIGHTS)
    problem = made_of("batch_norm", loss, weight=lambda batch: float(WEIGHTS[batch[1]].sum())).problem
    assert difference(dense(recorded(problem, **options)), matrix(problem, "hessian")) < 1e-10


@pytest.mark.parametrize("params", ["0.weight", ["0.bias", "2.*"]])
def test_some_parameters(params):
    problem = made_of("mlp", reduction="mean").problem
    assert difference(dense(recorded(problem, params)), matrix(problem, "hessian", params)) < 1e-10


@pytest.mark.parametrize("kind", ["scaled", "preconditioned"])
def test_kinds_that_multiply_by_the_hessian(kind):
    one = made_of("mlp", reduction="mean")
    optimizer = torch.optim.Adam(one.problem.model.parameters())
    one.problem.loss(one.problem.model(one.dense.x), one.dense.y).backward()
    optimizer.step()
    problem = replace(one.problem, optimizer=optimizer)
    assert difference(dense(recorded(problem, kind=kind)), matrix(problem, kind)) < 1e-10


def test_blocks_and_minibatches():
    problem = made_of("layer_norm", reduction="mean").problem
    plain, hessian = eigencore.bind(problem).operator(), recorded(problem)
    blocks = [[slice(0, 20), slice(20, 25)], [slice(25, 30)]]
    Vs = [torch.eye(25).double(), torch.randn(5, 2).double()]
    for one, other in zip(hessian.block_products(blocks, Vs), plain.block_products(blocks, Vs), strict=True):
        assert difference(one, other) < 1e-10
    for step in range(3):
        (one, _), (other, _) = (x.minibatch(step, seed=0) for x in (hessian, plain))
        assert difference(dense(one), dense(other)) < 1e-10


def test_batches_of_other_kinds():
    def loss(model, batch):
        return torch.nn.functional.cross_entropy(batch["scale"] * model(batch["x"]), batch["y"])

    one = made_of("mlp", reduction="mean")
    data = [{"x": x, "y": y, "scale": 1.0 + len(y) / 7} for x, y in one.problem.data]
    problem = replace(one.problem, data=data, loss=loss)
    assert difference(dense(recorded(problem)), matrix(problem, "hessian")) < 1e-10


def test_float32():
    problem = replace(made_of("batch_norm", reduction="mean").problem)
    expected = matrix(problem, "hessian")
    hessian = eigencore.bind(problem, route="recorded", dtype="float32").operator()
    found = hessian.matmat(torch.eye(hessian.shape[0]))
    assert found.dtype == torch.float32
    assert difference(found.double(), expected) < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own modules
def test_a_compiled_product_is_that_of_the_graph():
    problem = made_of("batch_norm", reduction="mean").problem
    problem = replace(problem, data=problem.data[:1])
    hessian = eigencore.bind(problem, route="compiled").operator()
    assert difference(dense(hessian), matrix(problem, "hessian")) < 1e-10
    assert "products were compiled (torch.route)" in hessian.notes[0]


def test_batches_of_one_form_share_a_recording(monkeypatch):
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return record(*arguments)

    monkeypatch.setattr(recorded_operator, "record", counted)
    one = made_of("mlp", reduction="mean")
    x, y = one.dense.x, one.dense.y
    problem = replace(one.problem, data=list(zip(x.split(4), y.split(4), strict=True)))  # 4, 4, 4 and 3
    hessian = recorded(problem, memory="none")
    for _ in range(2):
        assert difference(dense(hessian), one.dense.hessian()) < 1e-10
    assert len(calls) == 2


def test_the_time_of_a_product_is_in_the_result():
    result = eigencore.solve(recorded(made_of("mlp", reduction="mean").problem), k=1)
    (note,) = (note for note in result.notes if "torch.route" in note)
    assert "ms through its graph" in note


# -- what is not possible ----------------------------------------------------------------------------------


def with_model(change):
    """A problem whose network calls `change(x)` first, for the x that it computes from."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3).double()
            self.calls = 0

        def forward(self, x):
            return self.layer(change(self, x))

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return replace(made_of("mlp", reduction="mean").problem, model=Model())


def branch(model, x):
    return x if x.sum() > 0 else 2 * x


def in_place(model, x):
    return x.mul_(1.0)


def through_numpy(model, x):
    return x * float(x.numpy()[0, 0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [(branch, "reads a value from a tensor"), (in_place, "changes its inputs, weights or buffers in place")],
)
def test_what_can_not_be_recorded(change, reason):
    problem = with_model(change)
    matrix(problem, "hessian")
    with pytest.raises(
        ProblemError, match=rf"torch.route=recorded is not available[\s\S]*{reason}"
    ) as caught:
        dense(recorded(problem))
    assert "torch.route at graph" in caught.value.hint


def test_batches_that_are_used_in_other_ways_are_noticed():
    problem = with_model(through_numpy)
    data = [(x[:3], y[:3]) for x, y in problem.data]
    problem = replace(problem, data=data)
    matrix(problem, "hessian")
    with pytest.raises(ProblemError, match="with batch 1 differs by"):
        dense(recorded(problem))


def test_other_kinds_and_differences_are_refused():
    problem = made_of("mlp", reduction="mean").problem
    with pytest.raises(CapabilityError, match="multiplies by the Hessian only, not by the matrix of ggn"):
        recorded(problem, kind="ggn")
    with pytest.raises(OptionError, match=r"torch\.route=recorded concerns exact products"):
        recorded(problem, derivative="difference")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "captures CUDA graphs, and the device is cpu"),
        ({"memory": "none"}, "torch.memory=none keeps none"),
    ],
    ids=str,
)
def test_capturing_needs_a_gpu_and_kept_products(options, reason):
    with pytest.raises(OptionError, match=rf"torch\.route=captured .*{reason}") as caught:
        eigencore.bind(made_of("mlp", reduction="mean").problem, route="captured", **options)
    assert "torch.route=recorded" in caught.value.hint


# -- recording ---------------------------------------------------------------------------------------------


def into_a_buffer(tensors, directions):
    buffer = torch.zeros_like(tensors[0])
    buffer.add_(directions[0])
    return [buffer * tensors[0]]


def into_a_view(tensors, directions):
    buffer = tensors[0] * 2
    other = buffer.reshape(-1)
    buffer[1:].mul_(directions[0][1:])
    return [buffer + other.view_as(buffer)]


def into_a_split(tensors, directions):
    first, second = (tensors[0] * 2).split(2)
    first.mul_(directions[0][:2])
    return [torch.cat([first, second * directions[0][2:]])]


def with_other_outputs(tensors, directions):
    return [None, directions[0], tensors[0] * 2, directions[0] * tensors[0]]


@pytest.mark.parametrize("product", [into_a_buffer, into_a_view, into_a_split, with_other_outputs])
def test_replaying_changes_nothing_that_is_kept(product):
    x, y = torch.randn(4), torch.randn(4)
    recording = record(product, [x], [torch.randn(4)])
    for tensor in (x, y):
        kept = recording.prepare(tensor)
        for _ in range(3):
            v = torch.randn(4)
            for found, expected in zip(
                recording.multiply(*kept, v), product([tensor], [v.clone()]), strict=True
            ):
                torch.testing.assert_close(found, expected)


def test_what_does_not_depend_on_the_direction_is_prepared():
    recording = record(
        lambda tensors, directions: [tensors[0].exp() * directions[0]], [torch.ones(3)], [torch.ones(3)]
    )
    targets = [node.target for node in recording.multiply.graph.nodes if node.op == "call_function"]
    assert targets == [torch.ops.aten.mul.Tensor]


def with_a_mask(tensors, directions):
    product = tensors[0] * directions[0]
    return [product[tensors[1]]]


def into_a_mask(tensors, directions):
    product = torch.zeros_like(tensors[0])
    product[tensors[1]] = directions[0][:2]
    return [product]


def selected(tensors, directions):
    return [directions[0].masked_select(tensors[1])]


def with_indices(tensors, directions):
    return [directions[0][tensors[1].nonzero()[:, 0]] * tensors[0][tensors[1]]]


@pytest.mark.parametrize(
    ("product", "waiting"),
    [
        (with_a_mask, "aten.index.Tensor"),
        (into_a_mask, "aten.index_put_.default"),
        (selected, "aten.masked_select.default"),
        (with_indices, None),
    ],
)
def test_an_operation_that_waits_for_a_gpu_is_named_if_it_depends_on_the_direction(product, waiting):
    mask = torch.tensor([True, False, True])
    assert record(product, [torch.ones(3), mask], [torch.ones(3)]).waiting == waiting


def test_the_weights_of_a_recording_are_known():
    weight, prepared = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    recording = record(lambda tensors, vs: [weight * (prepared.exp() * vs[0])], [], [torch.ones(3)])
    assert [x is weight for x in recording.constants] == [True]
