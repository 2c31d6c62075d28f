"""The result of one analysis as bytes, for a journal: its part of the JSON object, and its arrays."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import numpy as np

from eigencore.results import Run
from eigencore.runs.result_json import from_json, to_json
from eigencore.runs.stored_arrays import stored_arrays

if TYPE_CHECKING:
    from eigencore.results import AnalysisResult

_LENGTH = struct.Struct("<Q")
# A run of this analysis alone: what the JSON object must have besides.
_ALONE = {"operator": {"n": 0, "dtype": "", "device": ""}, "options": {}}


def analysis_bytes(name: str, result: AnalysisResult) -> bytes:
    """The result as bytes, from which `read_analysis` makes what is loaded from the folder of a run.

    Example:
        from eigencore.results import AnalysisResult
        from eigencore.runs.stored_analysis import analysis_bytes, read_analysis

        content = analysis_bytes("mine", AnalysisResult(verdict="flat", numbers={"trace": 0.5}))
        print(read_analysis("mine", content).numbers)
    """
    text = to_json(Run(None, {name: result}, _ALONE)).encode("ascii")
    columns = io.BytesIO()
    np.savez(columns, **stored_arrays(name, result))
    return _LENGTH.pack(len(text)) + text + columns.getvalue()


def read_analysis(name: str, content: bytes | bytearray) -> AnalysisResult:
    """The result of the analysis of this name. Raises ResultError if it is damaged."""
    (length,) = _LENGTH.unpack(content[: _LENGTH.size])
    text, rest = content[_LENGTH.size : _LENGTH.size + length], content[_LENGTH.size + length :]
    with np.load(io.BytesIO(rest), allow_pickle=False) as stored:
        columns = {place: stored[place] for place in stored.files}
    result: AnalysisResult = from_json(text.decode("ascii"), None, columns).analyses[name]
    return result
