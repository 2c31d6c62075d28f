"""Conformance kits for plugin authors.

    from eigencore.testing import analysis_checks, attack_checks, backend_checks, solver_checks

Each kind of plugin has a folder with the same files: `checks` selects the laws that apply to a plugin, the
modules named `*laws` hold the laws, and `subject` runs the plugin under test. The kits share `checks` (what a
check is), `side_effects`, `gallery` (matrices with known spectra) and `libraries` (the array libraries);
`fixtures` has a fixture for pytest. The names below are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eigencore.testing.analyses.checks import analysis_checks as analysis_checks
    from eigencore.testing.analyses.checks import check_analysis as check_analysis
    from eigencore.testing.attacks.checks import attack_checks as attack_checks
    from eigencore.testing.attacks.checks import check_attack as check_attack
    from eigencore.testing.backends.checks import backend_checks as backend_checks
    from eigencore.testing.backends.checks import check_backend as check_backend
    from eigencore.testing.solvers.checks import check_solver as check_solver
    from eigencore.testing.solvers.checks import solver_checks as solver_checks
    from eigencore.testing.trainings.checks import check_training as check_training
    from eigencore.testing.trainings.checks import training_checks as training_checks

_FOLDERS = {
    "analysis": "analyses",
    "attack": "attacks",
    "backend": "backends",
    "solver": "solvers",
    "training": "trainings",
}
_HOMES = {name: folder for kind, folder in _FOLDERS.items() for name in (f"{kind}_checks", f"check_{kind}")}

__all__ = sorted(_HOMES)


if not TYPE_CHECKING:  # a type checker sees the names above and no others

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name not in _HOMES:
            raise AttributeError(f"module 'eigencore.testing' has no attribute {name!r}")
        return getattr(import_module(f"eigencore.testing.{_HOMES[name]}.checks"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
