"""Results that are tables, with one row for each eigenpair or sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from eigencore.errors import EigencoreError


class HasColumns(Protocol):
    """Arrays by name, all of the same length."""

    @property
    def columns(self) -> Mapping[str, Any]: ...


class Tabular:
    """Gives a result with `columns` the method `to_pandas`."""

    def to_pandas(self: HasColumns) -> Any:
        """The columns as a pandas DataFrame, with one row for each eigenpair or sample.

        Raises:
            EigencoreError: pandas is not installed.

        Example:
            import numpy as np
            import eigencore

            frame = eigencore.solve(np.diag(np.arange(1.0, 51.0)), k=3).to_pandas()
            print(frame[frame.converged].eigenvalue.max())
        """
        try:
            from pandas import DataFrame
        except ModuleNotFoundError as error:
            raise EigencoreError("pandas is not installed", hint="Run: pip install pandas") from error
        return DataFrame(dict(self.columns))
