"""Which kinds of operator can be computed with the options of the backend, and from weights in shards."""

from __future__ import annotations

from eigencore.errors import CapabilityError
from eigencore_torch.options import TorchOptions

# The kinds that multiply by the Hessian, exactly or by differences of the gradient.
HESSIAN_KINDS = frozenset({"hessian", "scaled", "preconditioned"})


def check_kind(kind: str, options: TorchOptions, *, sharded: bool) -> None:
    """Raises CapabilityError if a kind is not available.

    Args:
        kind: the name of the kind, with or without that of its distribution.
        sharded: whether the weights are cut into shards.
    """
    name = kind.partition("@")[0]
    for option, value, default in (
        ("derivative", options.derivative, "exact"),
        ("route", options.route, "graph"),
        ("vocabulary_chunk", options.vocabulary_chunk, None),
    ):
        if value != default and name not in HESSIAN_KINDS:
            known = ", ".join(sorted(HESSIAN_KINDS))
            raise CapabilityError(
                f"torch.{option}={value} multiplies by the Hessian only, not by the matrix of {kind}",
                hint=f"Leave torch.{option} at {default or 'none'}, or choose from {known}.",
            )
    if sharded and name != "hessian":
        raise CapabilityError(
            f"the kind {kind} is not available for weights that are cut into shards (DTensor)",
            hint="Choose the kind hessian, or give a model whose weights are not cut.",
        )
