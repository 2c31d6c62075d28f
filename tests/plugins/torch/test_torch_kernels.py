"""The kernels of matrix products: when oneDNN's are selected, and that the process's setting is restored."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

import eigencore
from eigencore.errors import OptionError, ProblemError
from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.evaluation import kernels
from eigencore_torch.evaluation.kernels import Trial, mostly_large_products, onednn_products
from eigencore_torch.evaluation.precision import precise_products

FLOAT32, CPU = torch.float32, torch.device("cpu")
SETTINGS = [("generic", "all"), ("mkldnn", "all"), ("mkldnn", "matmul")]
TREE = hasattr(torch._C, "_get_fp32_precision_getter")
has_tree = pytest.mark.skipif(not TREE, reason="this version of PyTorch has no setting that selects oneDNN")
available = pytest.mark.skipif(
    kernels.obstacle(CPU, FLOAT32) is not None, reason="oneDNN's kernels are not available here"
)
FASTER, SLOWER, ROUGH = Trial(2.0, 4e-7), Trial(1.1, 4e-7), Trial(2.0, 1e-3)


def read(setting=("mkldnn", "matmul")):
    return torch._C._get_fp32_precision_getter(*setting)


def assign(setting, value):
    torch._C._set_fp32_precision_setter(*setting, value)


@pytest.fixture(autouse=True)
def restored():
    yield
    if TREE:
        for setting in SETTINGS:
            assign(setting, "none")


@pytest.fixture
def trial(monkeypatch):
    """Makes the trial measure something, and returns the list of its calls."""

    def make(outcome):
        calls = []
        monkeypatch.setattr(kernels, "trial", lambda: calls.append(outcome) or outcome)
        return calls

    return make


def watched(network):
    """A network, and two lists to which it appends the setting in each pass forward and backward."""

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            torch.get_float32_matmul_precision()  # an error while oneDNN is selected
            forward.append(read())
            y = self.network(x)
            if y.requires_grad:
                y.register_hook(lambda gradient: backward.append(read()))
            return y

    forward, backward = [], []
    return Watching(), forward, backward


def perceptron(width=128, inputs=128, classes=10):
    return nn.Sequential(
        nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, classes)
    )


def problem(model=None, inputs=(128,), samples=(128, 100), **fields):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = model or perceptron()
        data = [(torch.randn(n, *inputs), torch.randint(10, (n,))) for n in samples]
    return eigencore.Problem(
        model=model, data=data, loss=nn.CrossEntropyLoss(), **({"reduction": "mean"} | fields)
    )


def vector(operator):
    return torch.randn(operator.shape[0], generator=torch.Generator().manual_seed(1), dtype=operator.dtype)


# -- the setting -------------------------------------------------------------------------------------------


def inherited():
    assign(("generic", "all"), "ieee")


def of_the_library():
    assign(("mkldnn", "all"), "tf32")


def own():
    assign(("mkldnn", "matmul"), "ieee")


def responses():
    """The value in effect under every value of the settings above, which shows the setting's own."""
    before, seen = read(("generic", "all")), []
    for value in ("ieee", "tf32"):
        assign(("generic", "all"), value)
        seen.append(read())
    assign(("generic", "all"), before)
    return seen


@has_tree
@pytest.mark.parametrize("user", [lambda: None, inherited, of_the_library, own])
@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_the_setting_is_restored_exactly(user, error):
    user()
    before = [read(setting) for setting in SETTINGS], responses()
    try:
        with onednn_products():
            assert read() == "bf16"
            if error is not None:
                raise error
    except (ZeroDivisionError, KeyboardInterrupt):
        pass
    assert ([read(setting) for setting in SETTINGS], responses()) == before


@has_tree
@pytest.mark.parametrize("first_out", [0, 1])
def test_passes_that_overlap_in_two_threads_restore_the_value_of_before_both(first_out):
    own()
    inside, leave = [threading.Event() for _ in range(2)], [threading.Event() for _ in range(2)]

    def hold(index):
        with onednn_products():
            inside[index].set()
            leave[index].wait()

    threads = [threading.Thread(target=hold, args=(index,)) for index in range(2)]
    for thread, entered in zip(threads, inside, strict=True):
        thread.start()
        entered.wait()
    leave[first_out].set()
    threads[first_out].join()
    assert read() == "bf16"
    leave[1 - first_out].set()
    threads[1 - first_out].join()
    assert read() == "ieee"


@has_tree
def test_many_threads_at_once_restore_the_value():
    own()

    def often():
        for _ in range(200):
            with onednn_products():
                seen.add(read())

    seen = set()
    threads = [threading.Thread(target=often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"bf16"}
    assert read() == "ieee"


@has_tree
def test_a_session_within_sets_full_precision_and_returns_to_onednn():
    with onednn_products():
        with precise_products(CPU):
            assert read() == "ieee"
            torch.get_float32_matmul_precision()
        assert read() == "bf16"
    assert read() == "none"


# -- products ----------------------------------------------------------------------------------------------


@available
@pytest.mark.parametrize("memory", ["auto", "none"])
@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_products_agree_with_those_of_the_other_kernels(memory, batch_norm):
    model = nn.Sequential(nn.Linear(128, 128), nn.BatchNorm1d(128), nn.Tanh(), perceptron())
    exact = bind(problem(model), TorchOptions(batch_norm=batch_norm), dtype="float64").operator()
    truth = exact.matvec(vector(exact))
    for name in ("plain", "onednn"):
        options = TorchOptions(kernels=name, memory=memory, batch_norm=batch_norm)
        operator = bind(problem(model), options).operator()
        first = operator.matvec(vector(exact).float())
        error = torch.linalg.vector_norm(first - truth) / torch.linalg.vector_norm(truth)
        assert error < 1e-6
        assert bool(operator.notes) == (name == "onednn")
        again = operator.matvec(vector(exact).float())
        torch.testing.assert_close(again, first, rtol=1e-5, atol=1e-6)


@available
def test_only_passes_backward_are_switched_and_forward_code_may_read_the_older_switch():
    own()
    model, forward, backward = watched(perceptron())
    operator = bind(problem(model), TorchOptions(kernels="onednn", memory="none", check=False)).operator()
    operator.matvec(vector(operator))
    assert forward == ["ieee"] * 2
    assert set(backward) == {"bf16"}
    assert read() == "ieee"
    assert operator.notes == ("matrix products used the float32 kernels of oneDNN (torch.kernels)",)


@available
def test_minibatches_use_the_kernels_of_the_operator(trial):
    trial(FASTER)
    model, forward, backward = watched(perceptron())
    operator = bind(problem(model), TorchOptions(check=False)).operator()
    sample, _ = operator.minibatch(0, 0)
    sample.matvec(vector(operator))
    assert (forward[-1], backward[-1]) == ("none", "bf16")


@available
def test_a_backward_pass_that_reads_the_older_switch_is_computed_by_the_other_kernels():
    class Reading(nn.Module):
        def forward(self, x):
            y = nn.functional.linear(x, self_weight)
            if y.requires_grad:
                y.register_hook(lambda gradient: read_precisions.append(torch.get_float32_matmul_precision()))
            return y

    read_precisions = []
    model = Reading()
    model.weight = self_weight = nn.Parameter(torch.randn(10, 128) / 10)
    plain = bind(problem(model), TorchOptions(kernels="plain")).operator()
    operator = bind(problem(model), TorchOptions(kernels="onednn")).operator()
    for _ in range(2):
        torch.testing.assert_close(
            operator.matvec(vector(operator)), plain.matvec(vector(plain)), rtol=0, atol=0
        )
    assert set(read_precisions) == {"highest"}
    assert "because a product with those of oneDNN failed" in operator.notes[0]
    assert read() == "none"


@available
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_within_a_pass_leaves_the_setting_as_it_was(error):
    def fail(gradient):
        if read() == "bf16" or error is ValueError:
            raise error("a hook failed")

    class Failing(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            y.register_hook(fail)
            return y

    own()
    operator = bind(problem(Failing(128, 10)), TorchOptions(kernels="onednn", check=False)).operator()
    with pytest.raises(ProblemError if error is ValueError else error, match="a hook failed"):
        operator.matvec(vector(operator))
    assert read() == "ieee"


@available
def test_the_result_says_so_in_one_note(trial):
    trial(FASTER)
    result = eigencore.solve(bind(problem(), TorchOptions()).operator(), 2, tol=1e-2)
    assert [note for note in result.notes if "oneDNN" in note] == [
        "matrix products used the float32 kernels of oneDNN (torch.kernels)"
    ]
    plain = eigencore.solve(bind(problem(), TorchOptions(kernels="plain")).operator(), 2, tol=1e-2)
    assert not any("oneDNN" in note for note in plain.notes)
    torch.testing.assert_close(result.values, plain.values, rtol=1e-5, atol=0)


# -- where it is not available -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["auto", "plain"])
def test_float64_is_left_alone(name, trial):
    calls = trial(FASTER)
    operator = bind(problem(), TorchOptions(kernels=name), dtype="float64").operator()
    operator.matvec(vector(operator))
    assert operator.notes == ()
    assert calls == []


def test_float64_and_a_gpu_are_refused():
    with pytest.raises(OptionError, match=r"onednn is not available: it concerns float32, and .* is float64"):
        bind(problem(), TorchOptions(kernels="onednn"), dtype="float64")
    assert "the device is cuda" in kernels.obstacle(torch.device("cuda"), FLOAT32)


def without_setting(monkeypatch):
    monkeypatch.setattr(kernels, "has_tree", lambda: False)


def with_a_matrix_unit(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)


def on_arm(monkeypatch):
    monkeypatch.setattr(kernels.platform, "machine", lambda: "aarch64")


def switched_off(monkeypatch):
    monkeypatch.setattr(kernels, "_onednn_enabled", lambda: False)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (without_setting, "has no setting for it"),
        (with_a_matrix_unit, "AMX"),
        (on_arm, "this one is aarch64"),
        (switched_off, "oneDNN is not part of this PyTorch, or torch.backends.mkldnn.enabled is off"),
    ],
)
def test_without_onednn_auto_is_plain_and_onednn_is_refused(change, why, trial, monkeypatch):
    calls = trial(FASTER)
    monkeypatch.setattr(kernels.platform, "machine", lambda: "x86_64")
    if TREE:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    change(monkeypatch)
    operator = bind(problem(), TorchOptions()).operator()
    operator.matvec(vector(operator))
    assert operator.notes == ()
    assert calls == []
    with pytest.raises(OptionError, match=why) as caught:
        bind(problem(), TorchOptions(kernels="onednn"))
    assert "torch.kernels at auto" in caught.value.hint


@available
def test_kernels_with_the_precision_of_16_bits_are_refused(trial):
    trial(ROUGH)
    with pytest.raises(OptionError, match=r"a relative error of 0\.001 on this processor"):
        bind(problem(), TorchOptions(kernels="onednn"))
    trial(SLOWER)
    bind(problem(), TorchOptions(kernels="onednn"))


# -- when it pays ------------------------------------------------------------------------------------------


@available
@pytest.mark.parametrize(("outcome", "selected"), [(FASTER, True), (SLOWER, False), (ROUGH, False)])
def test_auto_needs_a_trial_that_is_faster_and_as_exact(outcome, selected, trial):
    calls = trial(outcome)
    operator = bind(problem(), TorchOptions()).operator()
    operator.matvec(vector(operator))
    operator.matvec(vector(operator))
    assert bool(operator.notes) == selected
    assert len(calls) == 1


@available
def test_the_trial_measures_once_and_leaves_the_random_state(monkeypatch):
    kernels.trial.cache_clear()
    before, random = read(), torch.get_rng_state()
    measured = kernels.trial()
    assert kernels.trial() is measured
    assert measured.gain > 0
    assert measured.exact
    assert read() == before
    torch.testing.assert_close(torch.get_rng_state(), random, rtol=0, atol=0)


@available
@pytest.mark.parametrize(("onednn", "gain"), [(1.0, 2.0), (2.0, 1.0), (4.0, 0.5)])
def test_the_gain_is_the_ratio_of_the_shortest_times_after_the_first(onednn, gain, monkeypatch):
    """The first call of each takes longest; another one is interrupted."""
    times = iter([9.0, 99.0, 2.0, onednn, 7.0, 50.0, 2.5, onednn + 1])
    clock = iter(value for seconds in times for value in (0.0, seconds))
    monkeypatch.setattr(kernels, "_clock", lambda: next(clock))
    assert kernels.trial.__wrapped__().gain == gain


class Encoder(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.body, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.body(x).mean(1))


class Recurrent(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body, self.head = nn.LSTM(width, width, batch_first=True), nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.body(x)[0][:, -1])


def images(channels=16):
    return nn.Sequential(
        nn.Conv2d(3, channels, 3), nn.ReLU(), nn.Conv2d(channels, channels, 3), nn.ReLU(), nn.Flatten()
    )


# Networks, the shape of an input, the samples in a batch, and whether large products are most of the work.
SHAPES = {
    "the MLP of the benchmarks": (lambda: perceptron(512, 784), (784,), (256,), True),
    "the same MLP on four samples": (lambda: perceptron(512, 784), (784,), (4,), True),
    "a tiny MLP": (lambda: perceptron(8, 16), (16,), (256,), False),
    "one sample": (lambda: perceptron(2048, 784), (784,), (1,), False),
    "the transformer of the benchmarks": (Encoder, (32, 64), (128,), True),
    "a tiny transformer": (lambda: Encoder(8), (4, 8), (8,), False),
    "an LSTM": (lambda: Recurrent(128), (8, 128), (128,), True),
    "a tiny LSTM": (lambda: Recurrent(8), (8, 8), (128,), False),
    "a CNN": (lambda: nn.Sequential(images(), nn.Linear(16 * 16, 10)), (3, 8, 8), (256,), False),
    "a CNN with a large head": (
        lambda: nn.Sequential(images(4), nn.Linear(4 * 16, 1024), nn.ReLU(), nn.Linear(1024, 10)),
        (3, 8, 8),
        (64,),
        True,
    ),
}


@available
@pytest.mark.parametrize(("network", "inputs", "samples", "large"), SHAPES.values(), ids=SHAPES)
def test_auto_decides_by_the_shapes_in_the_first_graph(network, inputs, samples, large, trial):
    calls = trial(FASTER)
    operator = bind(problem(network(), inputs, samples), TorchOptions(check=False)).operator()
    operator.matvec(vector(operator))
    assert bool(operator.notes) == large
    assert len(calls) == large


def test_a_graph_without_nodes_has_no_large_products():
    assert not mostly_large_products([])
    assert not mostly_large_products([None])
