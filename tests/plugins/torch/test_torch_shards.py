"""Weights and vectors that are cut into shards over several processes: the answer is that of one process."""

from __future__ import annotations

import pytest

from kit import shard_programs as programs
from kit.processes import values


def assert_no_gaps(ranks: list[dict[str, dict[str, float]]], *, whole: tuple[str, ...] = ()) -> None:
    """Every process agrees with one alone, and holds its share of the vectors, except of the `whole` ones."""
    for name in ranks[0]:
        for found in ranks:
            one = found[name]
            assert max(one[what] for what in ("product", "gradient", "loss")) <= 1e-12, (name, one)
        rows, n = [found[name]["rows"] for found in ranks], ranks[0][name]["n"]
        if any(name.endswith(end) for end in whole):
            assert rows == [n] * len(ranks)
        else:
            assert sum(rows) == n
            assert max(found[name]["dot"] for found in ranks) <= 1e-12
            assert max(rows) <= 1.5 * n / len(ranks)  # a dimension of 10 is cut into 3, 3, 3 and 1


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_the_products_of_dtensors_equal_those_of_one_process(count):
    assert_no_gaps(values(programs.products, count, count == 2))


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_the_products_of_fsdp_models_equal_those_of_one_process(count):
    assert_no_gaps(values(programs.fsdp, count, count == 2), whole=(", whole",))


def test_training_under_fsdp_is_not_affected_by_analyses_in_between():
    assert values(programs.trained, 2) == [True, True]


def test_solves_and_analyses_of_shards_equal_those_of_one_process(tmp_path):
    first, second = values(programs.solved, 2, str(tmp_path))
    for name in ("DTensor", "FSDP2"):
        one, other = first[name], second[name]
        assert max(one["values"], other["values"]) <= 1e-6
        assert one["rows"] + other["rows"] == 43
        assert one["aligned"] == pytest.approx(1, abs=1e-3)  # saved whole
        assert one["verdicts"] == first["verdicts"]
    gap, floor = first["difference"]
    assert gap <= max(floor, 1e-6)


def test_sums_that_are_forgotten_would_be_found():
    for answer in values(programs.forgetful, 2):
        assert "NotSymmetricError" in answer


def test_what_is_not_available_or_differs_between_processes():
    first, second = values(programs.faults, 2)
    expected = {
        "batches": "the data have 1 batches in process 0, and 2 in process 1",
        "numbers": "batch 0 differs between processes 0 and 1",
        "weights": "4.weight differs between processes 0 and 1",
        "kind": "the kind ggn is not available for weights that are cut into shards",
        "route": "torch.route=recorded is not available for weights that are cut into shards",
        "samples": "samples of the data are not available for weights that are cut into shards",
        "solver": "the solver lobpcg needs whole vectors",
        "blocks": "products with diagonal blocks are not available",
        "classifier": "a classifier is not available for weights that are cut into shards",
        "seed": "seed differs between the processes: 0 in process 0, 1 in process 1",
        "second derivative": "torch.derivative=difference",
    }
    for name, text in expected.items():
        for found in (first, second):
            assert text in found[name] or "process" in found[name], (name, found[name])
        assert text in first[name], (name, first[name])
