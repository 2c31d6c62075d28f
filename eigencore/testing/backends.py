"""Conformance checks for backends.

    import pytest
    from eigencore.testing import backend_checks

    @pytest.mark.parametrize("check", backend_checks(small_problem, backend="mine", dtype="float32"))
    def test_mine(check):
        check()

Each check holds a law of `eigencore.testing.bound_laws`, `weight_laws` or `classifier_laws`, and bears its
name; what the bound problem offers decides which. Derivatives are held to finite differences in float64, and
what is said in another precision to what float64 says. Give a small problem that is not trained to the end:
where all gradients are zero nothing can be seen.

A check that can't hold is a known failure and gives its reason, as with `solver_checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from eigencore.entries import Capability
from eigencore.interfaces import Backend, Problem
from eigencore.problems import find_problem
from eigencore.testing import bound_laws, classifier_laws, weight_laws
from eigencore.testing.bound_subject import BoundSubject
from eigencore.testing.check import Check, run_all, with_known_failures

BackendLaw = Callable[[BoundSubject], None]

# The laws that hold of a bound problem which offers all of these.
LAWS: tuple[tuple[frozenset[Capability], tuple[BackendLaw, ...]], ...] = (
    (
        frozenset({Capability.PRODUCTS}),
        (
            bound_laws.products_are_well_formed,
            bound_laws.products_are_linear,
            bound_laws.products_are_symmetric,
            bound_laws.blocks_are_products,
            bound_laws.numbers_repeat,
            bound_laws.two_binds_agree,
            bound_laws.float64_agrees,
            bound_laws.what_is_not_there_is_refused,
            bound_laws.global_randomness_is_left_alone,
            bound_laws.prints_nothing,
        ),
    ),
    (frozenset({Capability.MINIBATCHES}), (bound_laws.minibatches_are_unbiased,)),
    (
        frozenset({Capability.WEIGHT_LOSS}),
        (
            weight_laws.layout_covers_the_vector,
            weight_laws.loss_is_that_of_the_weights,
            weight_laws.products_are_differences_of_the_loss,
            weight_laws.parameters_are_parts_of_the_whole,
        ),
    ),
    (
        frozenset({Capability.LOGITS}),
        (
            classifier_laws.samples_are_well_formed,
            classifier_laws.few_samples_are_the_first,
            classifier_laws.logits_are_well_formed,
            classifier_laws.rows_are_independent,
            classifier_laws.float64_comes_when_asked,
            classifier_laws.arguments_are_left_alone,
        ),
    ),
    (
        frozenset({Capability.INPUT_GRADIENT}),
        (classifier_laws.values_are_the_objectives, classifier_laws.gradients_are_differences),
    ),
    (
        frozenset({Capability.INPUT_PRODUCTS}),
        (
            classifier_laws.input_products_are_linear,
            classifier_laws.input_products_are_symmetric,
            classifier_laws.input_products_are_differences_of_gradients,
            classifier_laws.kept_products_stay,
        ),
    ),
    (
        frozenset({Capability.WEIGHT_LOSS, Capability.LOGITS}),
        (
            weight_laws.sample_curvature_is_well_formed,
            weight_laws.sample_curvature_is_each_samples_own,
            weight_laws.sample_curvatures_add_up_to_the_operator,
            weight_laws.parameters_have_curvature_of_their_own,
        ),
    ),
)


def backend_checks(
    problem: str | Problem | Callable[[], Problem],
    *,
    backend: str | Backend | None = None,
    device: str | None = None,
    dtype: str | None = None,
    known_failures: Mapping[str, str] | None = None,
    **options: Any,
) -> list[Check[BoundSubject]]:
    """The checks that apply to a backend, on a problem that it can bind; it is bound here, once.

    Args:
        problem: a registered name, a Problem, or a function that returns one.
        backend: a registered name, or a Backend that is not registered; None: the problem's own.
        device, dtype: what the problem is bound with.
        known_failures: name of a check, with * for any text -> the reason it can't hold.
        **options: of the backend.

    Raises:
        EigencoreError: the problem can't be bound.
        ValueError: the problem is an operator, which no backend binds; or a known failure fits no check.
    """
    if isinstance(problem, str):
        problem = find_problem(problem)
    elif not isinstance(problem, Problem):
        problem = problem()
    if problem.operator is not None:
        raise ValueError("the problem is an operator as it is: there is no backend to check")
    subject = BoundSubject(problem, backend, device, dtype, options)
    return with_known_failures(list(_of(subject)), known_failures, "this backend")


def check_backend(problem: str | Problem | Callable[[], Problem], **as_for_backend_checks: Any) -> None:
    """Runs every check that applies, without pytest.

    Raises:
        AssertionError: with all that failed, and how.
    """
    run_all(backend_checks(problem, **as_for_backend_checks))


def _of(subject: BoundSubject) -> Iterator[Check[BoundSubject]]:
    where = subject.bound.description.replace(" ", "-")
    for needs, laws in LAWS:
        if subject.offers(*needs):
            for law in laws:
                yield Check(law.__name__, where, subject, law)
