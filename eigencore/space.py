"""The types of the arrays that eigencore passes around, and the space that an array lives in.

Shapes: a vector is flat `(n,)`; a block is `(n, b)`, one vector per column; a batch of samples is `(b, d)`,
one sample per row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]  # numbers on the host

Array: TypeAlias = Any  # an array of any library that follows the Python array API


class Space(Protocol):
    """Where arrays live: their array library, data type and device."""

    @property
    def xp(self) -> Any:
        """The array-API namespace."""

    @property
    def dtype(self) -> Any: ...
    @property
    def device(self) -> Any: ...
