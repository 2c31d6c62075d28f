"""A solver that was selected for a solve, with its options and what its entry declares."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eigencore.errors import Culprit, PluginError, UsageError, blame
from eigencore.interfaces import LinearOperator, Snapshot, Solver

if TYPE_CHECKING:
    from eigencore.request import Request
    from eigencore.space import Array


@dataclass(frozen=True)
class SelectedSolver:
    """A solver with its resolved options.

    Attributes:
        once: whether it yields a single snapshot, at the end.
        refuses_non_finite, on_device: as in its entry.
        vectors: the function that its entry declares, if it does.
    """

    name: str
    solver: Solver
    options: Any
    once: bool = False
    refuses_non_finite: bool = False
    on_device: bool = True
    vectors: Callable[[Any, int, int], int] | None = None

    def options_as_dict(self) -> dict[str, Any]:
        return dict(vars(self.options))

    def start(
        self, operator: LinearOperator, request: Request, state: Any = None
    ) -> Generator[Snapshot, Array | None, None]:
        """The solver's snapshots; the solver is called when the first one is requested.

        Raises:
            TypeError: the solver returned something else than a generator.
        """
        snapshots = self.solver(operator, request, self.options, state=state)
        if not isinstance(snapshots, Generator):
            raise TypeError(f"it returned a {type(snapshots).__name__}; expected a generator")
        yield from snapshots

    def failure(self, error: BaseException) -> BaseException:
        """The error for an exception of the solver. Only the caller is responsible for an invalid request."""
        if isinstance(error, UsageError) or not isinstance(error, Exception | SystemExit):
            return error
        return blame(error, Culprit.SOLVER, PluginError, f"the solver {self.name} failed")
