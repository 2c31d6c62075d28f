"""The options that are for the Hessian only, and the kinds of operator that multiply by it."""

from __future__ import annotations

from eigencore.errors import CapabilityError
from eigencore_torch.options import TorchOptions

# The kinds that multiply by the Hessian, exactly or by differences of the gradient.
HESSIAN_KINDS = frozenset({"hessian", "scaled", "preconditioned"})


def require_hessian(options: TorchOptions, kind: str) -> None:
    """Raises CapabilityError for another kind if an option is set that is for the Hessian only."""
    for name, value, default in (
        ("derivative", options.derivative, "exact"),
        ("route", options.route, "graph"),
        ("vocabulary_chunk", options.vocabulary_chunk, None),
    ):
        if value != default:
            known = ", ".join(sorted(HESSIAN_KINDS))
            raise CapabilityError(
                f"torch.{name}={value} multiplies by the Hessian only, not by the matrix of {kind}",
                hint=f"Leave torch.{name} at {default or 'none'}, or choose from {known}.",
            )
