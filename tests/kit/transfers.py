"""Counts the transfers to the host that a solver makes, in total and before each of its products."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from eigencore import arrays
from eigencore.operators import FunctionOperator
from eigencore.testing.libraries import Library

if TYPE_CHECKING:
    from eigencore.space import Floats


def counted_transfers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the functions of `arrays` that bring numbers to the host, one more for each transfer."""
    made: list[str] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **keywords: Any) -> Any:
            made.append(name)
            return function(*given, **keywords)

        return call

    for name in ("to_host", "scalar"):  # the others call one of these for each transfer
        monkeypatch.setattr(arrays, name, counted(name, getattr(arrays, name)))
    return made


def diagonal_operator(
    library: Library, spectrum: Floats, at: list[int], transfers: list[str]
) -> FunctionOperator:
    """A diagonal operator that notes how many transfers there were before each call of it."""
    diagonal = library.array(spectrum)

    def product(V: Any) -> Any:
        at.append(len(transfers))
        return diagonal * V if V.ndim == 1 else diagonal[:, None] * V

    device = arrays.device_of(diagonal)
    return FunctionOperator(
        product, len(spectrum), xp=library.xp, dtype=library.dtype, device=device, matmat=product
    )
