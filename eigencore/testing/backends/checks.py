"""Selects the conformance checks that apply to a backend.

The capabilities of the bound problem decide which checks apply, and one more applies if a loss is given that
is differentiated wrongly. Each check is a law of `operator_laws`, `weight_laws` or `classifier_laws` and has
its name. Derivatives are compared with finite differences in float64, and numbers in another precision with
those in float64; a backend without float64 is examined less strictly, in its own precision, and a warning
says so. The problem should be small and not fully trained: if all gradients are zero, the checks have
nothing to examine.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from eigencore.entries import DEFAULT_KIND, Capability, KindEntry
from eigencore.interfaces import Backend, BlockedOperator, MinibatchOperator, Problem
from eigencore.problems import find_problem
from eigencore.testing.backends import classifier_laws, operator_laws, weight_laws
from eigencore.testing.backends.subject import BackendSubject
from eigencore.testing.checks import Check, Law, checks_of, runner_of, with_known_failures

# The laws that hold for a bound problem that offers all of these capabilities.
IF_OFFERED: tuple[tuple[frozenset[Capability], tuple[Law[BackendSubject], ...]], ...] = (
    (
        frozenset({Capability.PRODUCTS}),
        (
            operator_laws.products_are_well_formed,
            operator_laws.products_are_linear,
            operator_laws.products_are_symmetric,
            operator_laws.block_products_equal_single_products,
            operator_laws.results_are_reproducible,
            operator_laws.two_binds_agree,
            operator_laws.agrees_with_float64,
            operator_laws.operators_have_the_precision_of_the_weights,
            operator_laws.invalid_requests_are_refused,
            operator_laws.global_random_state_is_unchanged,
            operator_laws.global_switches_are_unchanged,
            operator_laws.prints_nothing,
        ),
    ),
    (frozenset({Capability.MINIBATCHES}), (operator_laws.minibatches_are_unbiased,)),
    (
        frozenset({Capability.MINIBATCHES, Capability.WEIGHT_LOSS}),
        (weight_laws.gradients_of_minibatches_are_unbiased,),
    ),
    (
        frozenset({Capability.WEIGHT_LOSS}),
        (
            weight_laws.layout_covers_the_vector,
            weight_laws.loss_is_evaluated_at_the_weights,
            weight_laws.gradients_match_differences_of_the_loss,
            weight_laws.products_match_differences_of_the_loss,
            weight_laws.parameters_are_blocks_of_the_whole,
            weight_laws.several_patterns_select_their_parameters,
        ),
    ),
    (
        frozenset({Capability.LOGITS}),
        (
            classifier_laws.samples_are_well_formed,
            classifier_laws.channel_axis_is_that_of_the_inputs,
            classifier_laws.few_samples_are_the_first,
            classifier_laws.logits_are_well_formed,
            classifier_laws.rows_are_independent,
            classifier_laws.listed_precisions_are_available,
            classifier_laws.arguments_are_not_modified,
        ),
    ),
    (
        frozenset({Capability.INPUT_GRADIENT}),
        (classifier_laws.values_are_those_of_the_objective, classifier_laws.gradients_match_differences),
    ),
    (
        frozenset({Capability.INPUT_PRODUCTS}),
        (
            classifier_laws.input_products_are_linear,
            classifier_laws.input_products_are_symmetric,
            classifier_laws.input_products_match_differences_of_gradients,
            classifier_laws.earlier_products_stay_valid,
        ),
    ),
    (
        frozenset({Capability.WEIGHT_LOSS, Capability.LOGITS}),
        (
            weight_laws.sample_curvature_is_well_formed,
            weight_laws.sample_curvature_has_the_requested_precision,
            weight_laws.sample_curvature_is_that_of_the_sample_alone,
            weight_laws.sample_curvatures_add_up_to_the_operator,
            weight_laws.sample_curvature_agrees_along_one_parameter,
            weight_laws.classifiers_at_moved_weights_have_their_loss,
            weight_laws.classifiers_at_moved_weights_are_independent,
        ),
    ),
)

# The laws over the weights that hold for every kind of operator over them.
OVER_WEIGHTS: tuple[Law[BackendSubject], ...] = (
    weight_laws.layout_covers_the_vector,
    weight_laws.parameters_are_blocks_of_the_whole,
    weight_laws.several_patterns_select_their_parameters,
)


def backend_checks(
    problem: str | Problem | Callable[[], Problem],
    *,
    backend: str | Backend | None = None,
    device: str | None = None,
    dtype: str | None = None,
    kind: str | KindEntry = DEFAULT_KIND,
    wrong_loss: Any = None,
    known_failures: Mapping[str, str] | None = None,
    **options: Any,
) -> list[Check[BackendSubject]]:
    """The checks that apply to a backend or one of its kinds, on a problem that is bound here, once.

    Known failures are run as well. Such a check is reported as skipped, with its reason, while it fails, and
    as failed once it passes.

    Args:
        problem: a registered name, a Problem, or a function that returns one.
        backend: a registered name, or a Backend that is not registered; None: the problem's own.
        device, dtype: where and in which precision the problem is bound.
        kind: the kind of operator: its name, or its entry if the backend is not registered. For other kinds
            than the Hessian, the laws that compare it with the loss and the laws of the classifier are left
            out, and a semidefinite kind has one more law.
        wrong_loss: a loss for the same model and data that is differentiated wrongly without an error, such
            as one with a detached factor. The backend has to refuse it; None leaves this check out.
        known_failures: name of a check or NAME/WHERE, with * for any text -> why the check fails.
        **options: options of the backend.

    Raises:
        EigencoreError: the backend cannot bind the problem.
        UnknownNameError: no backend or problem has this name.
        ValueError: the problem is an operator, which no backend binds, or a known failure matches no check.

    Example:
        import pytest
        from eigencore.testing import backend_checks

        @pytest.mark.parametrize("check", backend_checks("demo:digits-numpy", backend="numpy"))
        def test_conforms(check):
            check()
    """
    if isinstance(problem, str):
        problem = find_problem(problem)
    elif not isinstance(problem, Problem):
        problem = problem()
    if problem.operator is not None:
        raise ValueError("the problem is an operator and needs no backend; expected one with a model")
    name, entry = (kind, None) if isinstance(kind, str) else (kind.name, kind)
    subject = BackendSubject(backend, problem, device, dtype, options, wrong_loss, name, entry)
    if subject.exact_dtype is None:
        warnings.warn(
            f"{subject.where} has no float64: derivatives are compared with finite differences in its own "
            "precision, which detect errors above a few percent only",
            stacklevel=2,
        )
    laws = [law for needed, laws in IF_OFFERED if subject.offers(*needed) for law in laws]
    if subject.kind != DEFAULT_KIND:
        laws = _laws_of_kind(subject, laws)
    if isinstance(subject.operator, BlockedOperator):
        laws.append(weight_laws.block_products_are_those_of_the_blocks)
    laws += [operator_laws.wrong_derivatives_are_refused] * (wrong_loss is not None)
    return with_known_failures(checks_of(subject, laws), known_failures, "this backend")


def _laws_of_kind(subject: BackendSubject, laws: list[Law[BackendSubject]]) -> list[Law[BackendSubject]]:
    """Those of the given laws that hold for an operator of another kind than the Hessian."""
    about_the_kind = IF_OFFERED[0][1] + (OVER_WEIGHTS if subject.kind_entry.over_weights else ())
    own = [law for law in laws if law in about_the_kind]
    if isinstance(subject.operator, MinibatchOperator):
        own.append(operator_laws.minibatches_are_unbiased)
    return own + [operator_laws.products_are_semidefinite] * subject.kind_entry.semidefinite


check_backend = runner_of(
    backend_checks,
    example="""from eigencore.testing import check_backend

        check_backend("demo:digits-numpy", backend="numpy", dtype="float64")""",
)
