"""The monitor on PyTorch: textbook checks, and training that is the same to the last bit."""

from __future__ import annotations

import copy
import json
import math
import random
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import eigencore
from eigencore.errors import ProblemError, UnknownNameError, UsageError
from eigencore_torch.training.optimizer_steps import next_update, step_rule

ALL = ("lambda_max", "preconditioned_sharpness", "critical_sharpness", "alignment")


class Quadratic(nn.Module):
    """Weights w, whose loss is w'Aw / 2 whatever the inputs."""

    def __init__(self, A):
        super().__init__()
        self.register_buffer("A", A)
        self.w = nn.Parameter(torch.arange(1.0, len(A) + 1, dtype=A.dtype))

    def forward(self, x):
        return (self.w @ self.A @ self.w / 2).expand(len(x))


def mean(outputs, targets):
    return (outputs + 0 * targets).mean()


def quadratic(dtype=torch.float64):
    """The model, data of four samples, and the matrix A with eigenvalues 1, 2, 3 and 10."""
    torch.manual_seed(3)
    Q = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    A = (Q @ torch.diag(torch.tensor([1.0, 2.0, 3.0, 10.0], dtype=torch.float64)) @ Q.T).to(dtype)
    x = torch.zeros(4, 1, dtype=dtype)
    return Quadratic((A + A.T) / 2), [(x, torch.zeros(4, dtype=dtype))], A


# -- textbook ----------------------------------------------------------------------------------------------


def test_gradient_descent_on_digits_settles_at_two_over_the_learning_rate():
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images[:200] / 16, dtype=torch.float32)
    x, y = x - x.mean(0), nn.functional.one_hot(torch.tensor(labels[:200]), 10).float()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 10))
    loss = lambda outputs, targets: (outputs - targets).square().sum(1).mean() / 2  # noqa: E731
    rate = 0.5
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    quantities = ["lambda_max", "critical_sharpness", "alignment"]
    monitor = eigencore.Monitor(model, loss, [(x, y)], every=25, quantities=quantities)
    for _ in range(900):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
        monitor.step(optimizer)
    found = monitor.columns
    assert (found["threshold"] == 2 / rate).all()
    ratio = found["lambda_max"] * rate / 2
    assert ratio[0] < 0.85
    assert (np.abs(ratio[-12:] - 1) < 0.15).all(), ratio
    assert np.abs(found["critical_sharpness"][-12:] * rate / 2 - 1).mean() < 0.1
    # Several eigenvalues have reached the threshold, and are followed.
    assert np.isfinite(found["lambda_3"][-4:]).all()
    # At the edge, the gradient is in the space of the sharpest directions (Gur-Ari et al. 2018).
    assert found["gradient_share"][-12:].min() > 0.9 > 0.5 > found["gradient_share"][0]


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_the_critical_sharpness_of_a_quadratic_is_that_of_its_gradient(scale):
    """2 / eta_c = s g'Hg / |g|^2 for a step along s g."""
    model, data, A = quadratic()
    g = A @ model.w.detach()
    optimizer = torch.optim.SGD([{"params": [model.w], "lr": 0.05}])
    row = eigencore.Monitor(model, mean, data, every=1, quantities=["critical_sharpness"]).step(optimizer)
    exact = float(g @ A @ g / (g @ g))
    assert row.numbers["critical_sharpness"] == pytest.approx(exact, rel=1e-6)
    assert row.numbers["critical_low"] <= exact <= row.numbers["critical_high"]
    # As the step of a second group with another learning rate, relative to the largest, is s g.
    other = nn.Parameter(torch.zeros(1))
    groups = [{"params": [model.w], "lr": 0.05 * scale}, {"params": [other], "lr": 0.05}]
    row = eigencore.Monitor(model, mean, data, every=1, quantities=["critical_sharpness"]).step(
        torch.optim.SGD(groups)
    )
    assert row.numbers["critical_sharpness"] == pytest.approx(scale * exact, rel=1e-6)


def test_the_alignment_on_a_quadratic_is_the_cosine_with_its_eigenvector():
    model, data, A = quadratic()
    vectors = torch.linalg.eigh(A).eigenvectors.flip(1)
    g = A @ model.w.detach()
    along = (vectors.T @ g / g.norm()).abs()
    monitor = eigencore.Monitor(model, mean, data, every=1, quantities=["alignment"], threshold=3.2)
    optimizer = torch.optim.SGD([model.w], lr=0.0)
    rows = [monitor.step(optimizer) for _ in range(3)]
    # 10 is above 90 % of the threshold, so that one more pair is followed; 3 is above it as well.
    for row, followed in zip(rows, (1, 2, 3), strict=True):
        assert row.numbers["alignment"] == pytest.approx(float(along[0]), abs=1e-3)
        share = float((along[:followed] ** 2).sum())
        assert row.numbers["gradient_share"] == pytest.approx(share, abs=1e-3)


def test_the_preconditioned_sharpness_of_adam_on_a_quadratic_is_that_of_its_state():
    model, data, A = quadratic()
    optimizer = torch.optim.Adam([model.w], lr=1e-3, betas=(0.8, 0.99))
    model.w.grad = A @ model.w.detach()
    optimizer.step()
    quantities = ["preconditioned_sharpness", "critical_sharpness"]
    row = eigencore.Monitor(model, mean, data, every=1, quantities=quantities).step(optimizer)
    v, t = optimizer.state[model.w]["exp_avg_sq"], 1
    P = (1 - 0.8**t) * ((v / (1 - 0.99**t)).sqrt() + 1e-8)
    exact = float(torch.linalg.eigvals(torch.diag(1 / P) @ A).real.max())
    assert row.numbers["preconditioned_sharpness"] == pytest.approx(exact, rel=1e-3)
    assert row.numbers["preconditioned_threshold"] == pytest.approx(2 * 1.8 / (0.2 * 1e-3))
    # And the step of Adam from the state after it, by hand.
    g = A @ model.w.detach()
    m = 0.8 * optimizer.state[model.w]["exp_avg"] + 0.2 * g
    u = m / (1 - 0.8**2) / (((0.99 * v + 0.01 * g**2) / (1 - 0.99**2)).sqrt() + 1e-8)
    assert row.numbers["critical_sharpness"] == pytest.approx(float(u @ A @ u / (g @ u)), rel=1e-6)


OPTIMIZERS = {
    "gradient descent": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "dampened": (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
    "Nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
}


@pytest.mark.parametrize(("kind", "settings"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_steps_are_stable_below_the_threshold_and_grow_above_it(kind, settings):
    for factor, stable in ((0.97, True), (1.03, False)):
        w = nn.Parameter(torch.ones((), dtype=torch.float64))
        optimizer = kind([w], lr=0.1, **settings)
        curvature = factor * step_rule(optimizer).threshold
        sizes = []
        for _ in range(1500):
            w.grad = curvature * w.detach()
            optimizer.step()
            sizes.append(abs(w.item()))
        assert (max(sizes[-50:]) < 1e-2) == stable
        assert (max(sizes[-50:]) > 1e2) == (not stable)


def test_the_threshold_of_adam_is_where_its_steps_with_a_fixed_preconditioner_grow():
    """The square of the gradient is replaced by a constant, as if P had settled (Cohen et al. 2022)."""
    for factor, stable in ((0.97, True), (1.03, False)):
        w = nn.Parameter(torch.ones((), dtype=torch.float64))
        optimizer = torch.optim.Adam([w], lr=0.01, betas=(0.9, 1 - 1e-12), eps=0.0)
        curvature, sizes = factor * step_rule(optimizer).preconditioned_threshold, []
        for step in range(3000):
            w.grad = curvature * w.detach()
            optimizer.step()
            # The bias correction of v is undone, so that P is one.
            optimizer.state[w]["exp_avg_sq"].fill_(1 - (1 - 1e-12) ** (step + 2))
            sizes.append(abs(w.item()))
        assert (max(sizes[-50:]) < max(sizes[500:550])) == stable


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        (torch.optim.Adam, {"amsgrad": True}),
        (torch.optim.AdamW, {"weight_decay": 0.1}),
        (torch.optim.RMSprop, {"momentum": 0.5, "centered": True}),
        (torch.optim.NAdam, {}),
    ],
)
def test_the_next_update_is_the_step_that_the_optimizer_then_makes(kind, settings):
    torch.manual_seed(0)
    w = nn.Parameter(torch.randn(5, dtype=torch.float64))
    optimizer = kind([w], lr=1e-3, **settings)
    for _ in range(3):
        w.grad = torch.randn(5, dtype=torch.float64)
        optimizer.step()
    state, gradient = copy.deepcopy(optimizer.state_dict()), torch.randn(5, dtype=torch.float64)
    before, kept = w.detach().clone(), w.grad
    update = next_update(optimizer, {w: gradient})[w]
    assert torch.equal(w, before)
    assert w.grad is kept
    for name, x in optimizer.state_dict()["state"][0].items():
        assert torch.equal(torch.as_tensor(x), torch.as_tensor(state["state"][0][name]))
    w.grad = gradient
    optimizer.step()
    assert torch.allclose(before - w.detach(), 1e-3 * update, rtol=1e-9, atol=0)


# -- the training is not disturbed -------------------------------------------------------------------------


class Noisy(nn.Module):
    """Convolutions with BatchNorm and dropout; it also draws from every generator while it is trained."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(64, 3)
        )

    def forward(self, x):
        x = self.features(x)
        return x * (1 + 0.01 * (random.random() + np.random.rand())) if self.training else x


def trained(monitored, steps=24, kind=torch.optim.Adam):
    """The state of everything after some steps of training with a shuffling loader."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model, loss = Noisy(), nn.CrossEntropyLoss()
    x, y = torch.randn(48, 1, 6, 6), torch.randint(3, (48,))
    data = TensorDataset(x, y)
    loader = DataLoader(data, batch_size=8, shuffle=True)
    optimizer = kind(model.parameters(), lr=0.01)
    monitor = monitored(model, loss, data) if monitored else None
    done, losses = 0, []
    while done < steps:
        for batch in loader:
            optimizer.zero_grad(set_to_none=done % 2 == 0)
            value = loss(model(batch[0]), batch[1])
            value.backward()
            optimizer.step()
            losses.append(value.item())
            done += 1
            if monitor is not None:
                gradients = [p.grad.clone() for p in model.parameters()]
                monitor.step(optimizer, batch=batch if done % 2 else None)
                assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
                assert all(module.training for module in model.modules())
    states = (torch.get_rng_state(), random.getstate(), np.random.get_state())
    return model.state_dict(), optimizer.state_dict(), losses, states, monitor


def all_equal(a, b):
    if isinstance(a, torch.Tensor | np.ndarray):
        return bool((torch.as_tensor(a) == torch.as_tensor(b)).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(all_equal(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(all_equal, a, b))
    return a == b


def test_training_is_the_same_to_the_last_bit_with_and_without_a_monitor():
    alone = trained(None)

    def with_loader(model, loss, data):
        loader = DataLoader(torch.utils.data.Subset(data, range(24)), batch_size=8)
        quantities = [*ALL, "trace", "batch_sharpness"]
        options = {"trace": {"products": 20}, "batch_sharpness": {"draws": 2}}
        return eigencore.Monitor(model, loss, loader, every=3, quantities=quantities, options=options)

    watched = trained(with_loader)
    assert all_equal(alone[:4], watched[:4])
    rows = watched[4].rows
    assert len(rows) == 8
    assert all(not row.failed for row in rows), rows
    assert {"trace", "batch_sharpness", "preconditioned_sharpness"} <= rows[0].numbers.keys()
    assert [row.complete for row in rows] == [True, *[None] * 7]
    # The comparison has power: a monitor that draws one number is noticed.
    assert not all_equal(alone[:4], trained(lambda *_: Drawing())[:4])


class Drawing:
    """Disturbs the training by one random number."""

    def step(self, optimizer, batch=None):
        torch.rand(())


def test_a_copy_in_another_data_type_follows_the_training():
    """In float64, the eigenvalue is that of the weights at the look; the training stays in float32."""

    def in_float64(model, loss, data):
        batch = [tuple(zip(*[data[i] for i in range(16)], strict=True))]
        x, y = torch.stack(batch[0][0]), torch.stack(batch[0][1])
        return eigencore.Monitor(model, loss, [(x, y)], every=6, dtype="float64", quantities=["lambda_max"])

    watched = trained(in_float64, kind=torch.optim.SGD)
    assert all_equal(trained(None, kind=torch.optim.SGD)[:4], watched[:4])
    rows = watched[4].rows
    assert len({row.numbers["lambda_max"] for row in rows}) == len(rows)
    model = Noisy()
    model.load_state_dict(watched[0])
    assert rows[-1].step == 24
    torch.manual_seed(0)
    Noisy()  # draws what the training drew before its data
    x, y = torch.randn(48, 1, 6, 6), torch.randint(3, (48,))
    A = eigencore.operator(model, [(x[:16], y[:16])], nn.CrossEntropyLoss(), dtype="float64")
    exact = eigencore.solve(A, k=1, which="LA", tol=1e-6).values[0]
    assert rows[-1].numbers["lambda_max"] == pytest.approx(exact, rel=1e-3)


# -- looks -------------------------------------------------------------------------------------------------


def test_a_look_that_fails_never_stops_the_training(tmp_path):
    model, data, _ = quadratic()
    optimizer = torch.optim.SGD([model.w], lr=0.01)
    quantities = ["lambda_max", "critical_sharpness", "alignment"]
    monitor = eigencore.Monitor(
        model, mean, data, every=1, quantities=quantities, out=tmp_path / "rows.jsonl"
    )
    monitor.step(optimizer)
    with torch.no_grad():
        model.w[0] = math.nan
    with pytest.warns(UserWarning, match="step 2: critical_sharpness failed: .*training goes on"):
        monitor.step(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # there is only one warning
        row = monitor.step(optimizer)
    # The Hessian of a quadratic does not depend on the weights, and its eigenvalue is there.
    assert row.failed.keys() == {"critical_sharpness", "alignment"}
    assert not row.numbers.keys() & {"alignment", "critical_sharpness"}
    with torch.no_grad():
        model.w[0] = 1.0
    assert not monitor.step(optimizer).failed
    assert [row.complete for row in monitor.rows] == [True, None, None, None]
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[3]["lambda_max"] == pytest.approx(10, rel=1e-3)
    assert "alignment" in lines[1]["failed"]
    assert math.isnan(monitor.columns["alignment"][1])
    assert "2 of 4 looks failed" in monitor.report().parts["training"].warnings[0]


def test_memory_that_runs_out_is_a_row_that_says_so(monkeypatch):
    model, data, _ = quadratic()
    monitor = eigencore.Monitor(model, mean, data, every=1, quantities=["lambda_max"])

    def forward(x):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model, "forward", forward)
    with pytest.warns(UserWarning, match="out of memory"):
        row = monitor.step(torch.optim.SGD([model.w], lr=0.1))
    assert list(row.failed) == ["look"]
    monkeypatch.undo()
    assert monitor.step(torch.optim.SGD([model.w], lr=0.1)).complete  # as nothing was found before


def test_an_optimizer_of_another_kind_has_no_threshold_and_can_have_no_preconditioner():
    model, data, _ = quadratic()
    monitor = eigencore.Monitor(model, mean, data, every=1, quantities=ALL)
    with pytest.warns(UserWarning, match="preconditioned_sharpness failed: the optimizer is a NAdam"):
        row = monitor.step(torch.optim.NAdam([model.w], lr=0.1))
    assert "threshold" not in row.numbers
    assert row.numbers["critical_threshold"] == pytest.approx(20)
    with pytest.warns(UserWarning, match="a copy of the optimizer, LBFGS, can't make a step: .*closure"):
        row = eigencore.Monitor(model, mean, data, every=1).step(torch.optim.LBFGS([model.w]))
    assert row.numbers["lambda_max"] == pytest.approx(10, rel=1e-3)
    row = eigencore.Monitor(model, mean, data, every=1, threshold=7.0).step(torch.optim.NAdam([model.w]))
    assert row.numbers["threshold"] == 7.0


def test_the_threshold_follows_the_learning_rate_and_the_figure_shows_it():
    model, data, _ = quadratic()
    optimizer = torch.optim.SGD([model.w], lr=0.02, momentum=0.5)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    quantities = ["lambda_max", "critical_sharpness", "alignment"]
    monitor = eigencore.Monitor(model, mean, data, every=1, quantities=quantities)
    for _ in range(4):
        optimizer.zero_grad()
        mean(model(data[0][0]), data[0][1]).backward()
        optimizer.step()
        monitor.step(optimizer)
        schedule.step()
    assert np.allclose(monitor.columns["threshold"], 3 / np.array([0.02, 0.02, 0.01, 0.01]))
    figures = {figure.title: figure for figure in monitor.report().figures}
    assert set(figures) == {"Largest eigenvalues", "Critical sharpness", "Alignment of the gradient"}
    drawn = figures["Largest eigenvalues"].series
    assert np.array_equal(drawn["stability threshold"], monitor.columns["threshold"])
    assert np.allclose(drawn["largest eigenvalue"], 10, rtol=1e-3)
    assert len(monitor.to_pandas()) == 4
    assert monitor.table.columns[:3] == ("step", "threshold", "lambda_max")
    assert [row[:2] for row in monitor.table.rows] == [(1, 150.0), (2, 150.0), (3, 300.0), (4, 300.0)]
    assert "times the threshold" in monitor._repr_html_()


def test_a_writer_gets_every_number_at_its_step(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    model, data, _ = quadratic()
    with tensorboard.SummaryWriter(tmp_path) as writer:
        monitor = eigencore.Monitor(model, mean, data, every=2, tensorboard=writer)
        for _ in range(4):
            monitor.step(torch.optim.SGD([model.w], lr=0.01))
    read = events.EventAccumulator(str(tmp_path)).Reload()
    assert {f"eigencore/{name}" for name in monitor.rows[0].numbers} == set(read.Tags()["scalars"])
    written = read.Scalars("eigencore/lambda_max")
    assert [one.step for one in written] == [2, 4]
    assert written[0].value == pytest.approx(10, rel=1e-3)


def test_what_the_monitor_cannot_do_is_refused_before_the_training(tmp_path):
    model, data, A = quadratic()
    for arguments, error, says in (
        ({"quantities": ["lambda_min"]}, UnknownNameError, "unknown quantity: 'lambda_min'"),
        ({"quantities": []}, UsageError, "quantities is empty"),
        ({"every": 0}, UsageError, "every is 0"),
        ({"every": True}, UsageError, "every is True"),
        ({"pairs": 0}, UsageError, "pairs is 0"),
        ({"share": 0}, UsageError, "share is 0"),
        ({"threshold": -1}, UsageError, "threshold is -1"),
        ({"options": {"trace": {}}}, UsageError, "options are given for trace, which this monitor"),
        ({"options": {"torch": {"mikrobatch": 3}}}, UnknownNameError, "mikrobatch"),
        ({"quantities": ["trace"], "options": {"trace": {"products": 0}}}, UsageError, "products"),
        ({"out": tmp_path}, UsageError, "is a folder"),
        ({"out": tmp_path / "no" / "rows"}, UsageError, "there is no folder"),
    ):
        with pytest.raises(error, match=says):
            eigencore.Monitor(model, mean, data, **arguments)
    with pytest.raises(UsageError, match="loss is missing"):
        eigencore.Monitor(model, data=data)
    with pytest.raises(UsageError) as raised:
        eigencore.Monitor(model, data, mean)
    assert "Monitor(model, loss, data)" in raised.value.hint
    with pytest.raises(UsageError, match="given as an operator"):
        eigencore.Monitor(eigencore.Problem(operator=A))
    with pytest.raises(ProblemError, match=r"expected a torch\.nn\.Module"):
        eigencore.Monitor(A, mean, data)
    with pytest.warns(UserWarning, match=r"the optimizer is a list; expected a torch\.optim\.Optimizer"):
        eigencore.Monitor(model, mean, data, every=1).step([])


def test_an_optimizer_of_another_model_fails_the_look() -> None:
    model, other = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    data = [(torch.randn(20, 4), torch.randint(3, (20,)))]
    monitor = eigencore.Monitor(model, torch.nn.CrossEntropyLoss(), data, every=1)
    with pytest.warns(UserWarning, match="none of the weights of the monitor's model"):
        row = monitor.step(torch.optim.SGD(other.parameters(), lr=0.1))
    assert row is not None
    assert not row.numbers


def test_weights_that_are_trained_later_begin_a_new_search() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
    model[0].requires_grad_(False)
    data, optimizer = (torch.randn(20, 4), torch.randint(3, (20,))), torch.optim.SGD(model.parameters(), 0.1)
    monitor = eigencore.Monitor(
        model, torch.nn.CrossEntropyLoss(), [data], every=1, quantities=["lambda_max"]
    )
    monitor.step(optimizer)
    model[0].requires_grad_(True)
    row = monitor.step(optimizer)
    assert row is not None
    assert not row.failed
    expected = eigencore.solve(eigencore.operator(model, [data], torch.nn.CrossEntropyLoss()), 1, which="LA")
    assert row.numbers["lambda_max"] == pytest.approx(float(expected.values[0]), rel=1e-2)
