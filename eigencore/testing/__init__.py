"""What plugin authors test with.

    from eigencore.testing import analysis_checks, attack_checks, backend_checks, solver_checks

`checks`, `backends`, `attacks` and `analyses` say how; `gallery` and `spectra` hold matrices of known
spectrum. Imported when first used: pytest loads this package in every project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eigencore.testing.analyses import analysis_checks as analysis_checks
    from eigencore.testing.analyses import check_analysis as check_analysis
    from eigencore.testing.attacks import attack_checks as attack_checks
    from eigencore.testing.attacks import check_attack as check_attack
    from eigencore.testing.backends import backend_checks as backend_checks
    from eigencore.testing.backends import check_backend as check_backend
    from eigencore.testing.checks import check_solver as check_solver
    from eigencore.testing.checks import solver_checks as solver_checks

_MODULES = {"analysis": "analyses", "attack": "attacks", "backend": "backends", "solver": "checks"}
__all__ = [
    "analysis_checks",
    "attack_checks",
    "backend_checks",
    "check_analysis",
    "check_attack",
    "check_backend",
    "check_solver",
    "solver_checks",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name not in __all__:
            raise AttributeError(f"module 'eigencore.testing' has no attribute {name!r}")
        kind = name.removeprefix("check_").removesuffix("_checks")
        return getattr(import_module(f"eigencore.testing.{_MODULES[kind]}"), name)
