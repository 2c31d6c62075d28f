"""Code written for hessian-eigenthings 0.0.2 runs with one changed import, and gives right values."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import eigencore
import eigencore_torch
from eigencore.errors import ProblemError, UsageError
from eigencore_torch import (
    HVPOperator,
    LambdaOperator,
    compute_hessian_eigenthings,
    deflated_power_iteration,
    lanczos,
    power_iteration,
)
from eigencore_torch.eigenthings import Operator
from kit.dense_kinds import Dense

SPECTRUM = torch.tensor([10.0, -9.0, 8.0, -7.0, *torch.linspace(-1, 1, 40)])
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


class Study:
    """A small network in training mode with batches of 64, 64 and 17 samples, and its dense Hessian."""

    def __init__(self) -> None:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Dropout(0.3), nn.Linear(9, 4))
            self.x, self.y = torch.randn(145, 6), torch.randint(4, (145,))
        self.loss = nn.functional.cross_entropy

    def loader(self, **arguments) -> DataLoader:
        return DataLoader(TensorDataset(self.x, self.y), batch_size=64, **arguments)

    def dense(self) -> tuple[np.ndarray, np.ndarray]:
        """The eigenvalues in the order of their magnitude, and the Hessian, in float64."""
        dense = Dense(self.model, self.loss, self.x.double(), self.y)
        H = dense.hessian().numpy()
        values = np.linalg.eigvalsh(H)
        return values[np.argsort(-abs(values))], H


@pytest.fixture(scope="module")
def study() -> Study:
    return Study()


@pytest.fixture
def diagonal() -> LambdaOperator:
    return LambdaOperator(lambda v: SPECTRUM * v, len(SPECTRUM))


def assert_eigenpairs(values, vectors, H, expected, *, rtol=1e-4):
    k = len(expected)
    assert (values.shape, vectors.shape) == ((k,), (k, len(H)))
    assert (values.dtype, vectors.dtype) == (np.float64, np.float32)
    assert values.flags.c_contiguous
    assert vectors.flags.c_contiguous
    torch.from_numpy(vectors)  # which refuses the negative strides of 0.0.2
    np.testing.assert_allclose(values, expected, rtol=rtol)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(k), atol=1e-4)
    np.testing.assert_allclose(vectors @ H, values[:, None] * vectors, atol=1e-3 * abs(expected).max())


# -- compute_hessian_eigenthings ---------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("mode", "sign"), [("power_iter", -1), ("lanczos", 1)])
def test_both_modes_give_the_eigenpairs_of_the_whole_data(study, mode, sign, shuffle):
    top, H = study.dense()
    values, vectors = compute_hessian_eigenthings(
        study.model, study.loader(shuffle=shuffle), study.loss, 6, mode=mode, use_gpu=False
    )
    assert_eigenpairs(values, vectors, H, sign * np.sort(sign * top[:6]))


@no_gpu
def test_the_sample_of_the_readme(study):
    """Its lines, with the import changed, and a network and data in place of its dots."""
    model, dataloader = study.model, study.loader()
    from eigencore_torch import compute_hessian_eigenthings

    loss = torch.nn.functional.cross_entropy

    num_eigenthings = 20  # compute top 20 eigenvalues/eigenvectors

    with pytest.warns(RuntimeWarning, match="finds no GPU") as caught:
        eigenvals, eigenvecs = compute_hessian_eigenthings(model, dataloader, loss, num_eigenthings)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    top, H = study.dense()
    assert_eigenpairs(eigenvals, eigenvecs, H, -np.sort(-top[:20]))


def test_larger_batches_are_split_without_changing_the_values(study):
    arguments = study.model, [(study.x, study.y)], study.loss, 3
    whole, _ = compute_hessian_eigenthings(*arguments, use_gpu=False)
    split, _ = compute_hessian_eigenthings(*arguments, use_gpu=False, max_possible_gpu_samples=10)
    np.testing.assert_allclose(split, whole, rtol=1e-5)


def test_a_last_batch_that_a_shuffling_loader_drops_counts(study):
    loader = study.loader(shuffle=True, drop_last=True)
    values, _ = compute_hessian_eigenthings(study.model, loader, study.loss, 2, use_gpu=False)
    np.testing.assert_allclose(values, study.dense()[0][:2], rtol=1e-4)


def test_random_data_are_refused_as_everywhere(study):
    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return 64

        def __getitem__(self, i):
            return study.x[i] + torch.randn(6), study.y[i]

    with pytest.raises(ProblemError, match="two passes over the data differ"):
        compute_hessian_eigenthings(study.model, DataLoader(Noisy()), study.loss, 2, use_gpu=False)


def test_single_batches_converge_to_the_eigenpairs_of_the_whole_data(study):
    values, vectors = compute_hessian_eigenthings(
        study.model, study.loader(), study.loss, 2, full_dataset=False, use_gpu=False, power_iter_steps=500
    )
    top, H = study.dense()
    assert_eigenpairs(values, vectors, H, -np.sort(-top[:2]))
    with pytest.raises(UsageError, match="draws another batch for each"):
        compute_hessian_eigenthings(
            study.model, study.loader(), study.loss, 2, False, "lanczos", use_gpu=False
        )


def test_the_model_and_the_global_random_numbers_are_left_alone(study):
    before = {name: x.clone() for name, x in study.model.state_dict().items()}
    random = torch.get_rng_state()
    compute_hessian_eigenthings(study.model, study.loader(), study.loss, 2, use_gpu=False)
    assert study.model.training
    assert all(x.grad is None for x in study.model.parameters())
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(x, before[name]) for name, x in study.model.state_dict().items())


def test_fp16_is_computed_in_full_precision_with_a_warning(study):
    arguments = study.model, study.loader(), study.loss, 3
    with pytest.warns(RuntimeWarning, match="fp16=True is not used") as caught:
        values, vectors = compute_hessian_eigenthings(*arguments, use_gpu=False, fp16=True)
    assert len(caught) == 1
    top, H = study.dense()
    assert_eigenpairs(values, vectors, H, -np.sort(-top[:3]))


def test_a_mode_and_an_argument_that_do_not_exist(study):
    arguments = study.model, study.loader(), study.loss, 3
    with pytest.raises(ValueError, match="mode is 'arnoldi'; expected power_iter or lanczos"):
        compute_hessian_eigenthings(*arguments, mode="arnoldi", use_gpu=False)
    with pytest.raises(TypeError, match="which"):
        compute_hessian_eigenthings(*arguments, use_gpu=False, which="LA")


# -- HVPOperator -------------------------------------------------------------------------------------------


def test_products_are_ours_and_those_of_the_dense_hessian(study):
    operator = HVPOperator(study.model, study.loader(), study.loss, use_gpu=False)
    H = eigencore.operator(study.model, study.loader(), study.loss)
    vec = torch.randn(operator.size, generator=torch.Generator().manual_seed(1))
    product = operator.apply(vec)
    assert (operator.size, product.dtype) == (H.shape[0], torch.float32)
    assert not product.requires_grad
    torch.testing.assert_close(product, H @ vec)
    np.testing.assert_allclose(product, study.dense()[1] @ vec.numpy(), atol=1e-5)
    with pytest.raises(UsageError, match=r"vec has shape \(3,\)"):
        operator.apply(torch.ones(3))


def test_single_batches_average_to_the_product(study):
    operator = HVPOperator(study.model, study.loader(), study.loss, use_gpu=False, full_dataset=False)
    vec = torch.ones(operator.size)
    products = torch.stack([operator.apply(vec) for _ in range(600)])
    assert len(torch.unique(products, dim=0)) == 3
    whole = torch.from_numpy(study.dense()[1]).float() @ vec
    assert torch.linalg.norm(products.mean(0) - whole) < 0.1 * torch.linalg.norm(whole)


def test_products_follow_the_weights():
    study = Study()
    operator = HVPOperator(study.model, study.loader(), study.loss, use_gpu=False)
    vec = torch.ones(operator.size)
    operator.apply(vec)
    with torch.no_grad():
        study.model[0].weight.mul_(2)
    np.testing.assert_allclose(operator.apply(vec), study.dense()[1] @ vec.numpy(), atol=1e-5)


# -- the solvers, on any operator --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solve", "expected"), [(deflated_power_iteration, [10, 8, -7, -9]), (lanczos, [-9, -7, 8, 10])]
)
def test_the_order_is_that_of_0_0_2(diagonal, solve, expected):
    values, vectors = solve(diagonal, 4, use_gpu=False)
    assert_eigenpairs(values, vectors, np.diag(SPECTRUM.numpy()), np.array(expected, float))


@pytest.mark.parametrize(("which", "expected"), [("LM", [-9, 10]), ("LA", [8, 10]), ("SA", [-9, -7])])
def test_ends_of_the_spectrum(diagonal, which, expected):
    np.testing.assert_allclose(lanczos(diagonal, 2, which=which)[0], expected, rtol=1e-5)


def test_the_smallest_magnitude_is_refused_with_the_line_to_write(diagonal):
    with pytest.raises(UsageError, match=r"which is 'SM'(.|\n)*eigsh"):
        lanczos(diagonal, 2, which="SM")


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_momentum_does_not_shift_the_eigenvalues(diagonal, momentum):
    with pytest.warns(RuntimeWarning, match=f"momentum={momentum} is not used"):
        values, _ = deflated_power_iteration(diagonal, 2, momentum=momentum, use_gpu=False)
    np.testing.assert_allclose(values, [10, -9], rtol=1e-5)
    with pytest.warns(RuntimeWarning, match=f"momentum={momentum} is not used"):
        value, _ = power_iteration(diagonal, momentum=momentum, use_gpu=False)
    assert value == pytest.approx(10, rel=1e-5)


def test_power_iteration_returns_a_number_and_a_tensor(diagonal):
    value, vector = power_iteration(diagonal, use_gpu=False, init_vec=torch.ones(diagonal.size))
    assert isinstance(value, float)
    assert value == pytest.approx(10, rel=1e-5)
    assert vector.shape == (diagonal.size,)
    assert abs(vector[0]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("convert", [lambda x: x, lambda x: x.double().numpy(), lambda x: x[:, None]])
def test_the_iteration_starts_from_the_given_vector(convert):
    products = []

    def apply(v):
        products.append(v / torch.linalg.norm(v))
        return SPECTRUM * v

    operator, start = LambdaOperator(apply, len(SPECTRUM)), torch.arange(1.0, 45.0)
    for solve in (lanczos, power_iteration):
        products.clear()
        solve(operator, init_vec=convert(start), use_gpu=False)
        assert products[0] @ start > 0.95 * torch.linalg.norm(start)


def test_the_size_of_the_basis_is_used(diagonal):
    expected = [-9, -7, 8, 10]
    for vectors in (None, 1, 8, 44, 60):
        values, _ = lanczos(diagonal, 4, num_lanczos_vectors=vectors, max_steps=100)
        np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_a_tolerance_of_zero_is_that_of_the_data_type(diagonal):
    np.testing.assert_allclose(lanczos(diagonal, 2, tol=0)[0], [-9, 10], rtol=1e-6)
    values, _ = deflated_power_iteration(diagonal, 2, power_iter_err_threshold=0, use_gpu=False)
    np.testing.assert_allclose(values, [10, -9], rtol=1e-6)


def test_what_has_not_converged_is_said_with_the_argument_to_raise():
    spread = torch.linspace(1, 2, 2000)
    operator = LambdaOperator(lambda v: spread * v, 2000)
    with pytest.warns(
        RuntimeWarning, match=r"not converged.*power_iter_steps times num_eigenthings"
    ) as caught:
        values, vectors = deflated_power_iteration(operator, 5, power_iter_steps=2, use_gpu=False)
    assert caught[0].filename == __file__
    assert len(values) == len(vectors) <= 5
    with pytest.warns(RuntimeWarning, match=r"not converged.*max_steps times"):
        lanczos(operator, 5, max_steps=1)
    with pytest.warns(RuntimeWarning, match=r"not converged.*: steps\."):
        power_iteration(operator, steps=1, use_gpu=False)


def test_repeated_eigenvalues_are_found():
    repeated = torch.tensor([5.0, 5.0, 5.0, 4.0, 3.0, *[1.0] * 45])
    operator = LambdaOperator(lambda v: repeated * v, 50)
    np.testing.assert_allclose(lanczos(operator, 4)[0], [4, 5, 5, 5], rtol=1e-5)
    values, _ = deflated_power_iteration(operator, 4, use_gpu=False)
    np.testing.assert_allclose(values, [5, 5, 5, 4], rtol=1e-5)


def test_an_eigenvalue_that_may_have_been_missed_is_said():
    close = torch.linspace(1, 100, 1000)
    with pytest.warns(RuntimeWarning, match="an eigenvalue may have been missed") as caught:
        lanczos(LambdaOperator(lambda v: close * v, 1000), 1, tol=1e-3, max_steps=200)
    assert len(caught) == 1


def test_a_class_of_ones_own_with_a_shape_as_its_size():
    class Mine(Operator):
        def apply(self, vec):
            return SPECTRUM.double() * vec  # float64, where the vector is float32

    n = len(SPECTRUM)
    assert lanczos(Mine((n, n)), 2)[0] == pytest.approx([-9, 10], rel=1e-5)
    assert deflated_power_iteration(Mine(n), 2, use_gpu=False)[0] == pytest.approx([10, -9], rel=1e-5)
    with pytest.raises(NotImplementedError):
        Operator(n).apply(torch.ones(n))
    with pytest.raises(UsageError, match="expected an object with size and apply"):
        lanczos(np.eye(3), 2)


def test_a_random_matrix_as_in_the_tests_of_0_0_2():
    """Its `random_matrix_tests.py`: a matrix with a known spectrum, by both methods."""
    generator = torch.Generator().manual_seed(0)
    Q, _ = torch.linalg.qr(torch.randn(100, 100, generator=generator))
    matrix = Q @ torch.diag(torch.linspace(0, 1, 100) ** 8 * 10) @ Q.T
    operator = LambdaOperator(lambda x: torch.matmul(matrix, x), 100)
    expected = np.linalg.eigvalsh(matrix.double().numpy())
    values, vectors = deflated_power_iteration(
        operator,
        num_eigenthings=10,
        power_iter_steps=20,
        power_iter_err_threshold=1e-5,
        momentum=0,
        use_gpu=False,
    )
    assert_eigenpairs(values, vectors, matrix.numpy(), expected[:-11:-1])
    values, vectors = lanczos(operator, num_eigenthings=10, use_gpu=False)
    assert_eigenpairs(values, vectors, matrix.numpy(), expected[-10:])


# -- the GPU, and the names --------------------------------------------------------------------------------


@no_gpu
def test_without_a_gpu_it_is_said_once(study, diagonal):
    with pytest.warns(RuntimeWarning, match="finds no GPU") as caught:
        operator = HVPOperator(study.model, study.loader(), study.loss)
    assert len(caught) == 1
    assert not operator.use_gpu
    for solve in (deflated_power_iteration, lanczos, power_iteration):
        with pytest.warns(RuntimeWarning, match="finds no GPU") as caught:
            solve(diagonal, use_gpu=True)
        assert [one.filename for one in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        deflated_power_iteration(operator, 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("mode", ["power_iter", "lanczos"])
def test_on_a_gpu_the_values_are_the_same_and_the_model_stays(study, mode):
    top, H = study.dense()
    values, vectors = compute_hessian_eigenthings(study.model, study.loader(), study.loss, 4, mode=mode)
    order = np.argsort(-abs(values))
    assert_eigenpairs(values[order], vectors[order], H, top[:4])
    assert next(study.model.parameters()).device.type == "cpu"
    spectrum = SPECTRUM.cuda()
    on_gpu = LambdaOperator(lambda v: spectrum * v, len(spectrum))
    assert deflated_power_iteration(on_gpu, 2)[0] == pytest.approx([10, -9], rel=1e-5)


def test_the_names_are_lazy_and_no_others_exist():
    for name in eigencore_torch.EIGENTHINGS:
        assert getattr(eigencore_torch, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'HessianTracker'"):
        eigencore_torch.HessianTracker  # noqa: B018
    code = "import eigencore_torch, sys; print('torch' in sys.modules); eigencore_torch.lanczos"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert (ran.stdout.strip(), ran.stderr) == ("False", "")


def test_a_package_with_a_similar_name_is_a_caller_like_any_other():
    code = "import torch, eigencore_torch as e\nA = e.LambdaOperator(lambda v: v * torch.arange(1, 5), 4)\n"
    scope = {"__name__": "eigencore_torch.eigenthings_study"}
    with pytest.warns(RuntimeWarning) as caught:
        exec(compile(f"{code}e.lanczos(A, 1, fp16=True)", "study.py", "exec"), scope)
    assert caught[0].filename == "study.py"
