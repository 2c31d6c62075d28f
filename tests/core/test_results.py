"""A saved run is loaded unchanged; anything else is refused with a clear error."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import eigencore
from eigencore.cli.print_run import print_run
from eigencore.errors import ResultError, UsageError
from eigencore.figures import Figure, Table
from eigencore.results import AnalysisResult, Certificate, EigenResult, Run, Status, Step
from eigencore.runs import check_folder, from_json, load, plain, save, to_json
from eigencore.runs import folder as storage
from eigencore.runs.folder import ARRAYS, RESULT, VECTORS
from eigencore.runs.result_json import schema

ROWS = (
    Step(1.0, 0.1, (3.0,), 0, 3.0, 0.5, 0),
    Step(2.5, 0.2, (3.0, math.nan), 2, None, None, 1),
)


def eigen(k: int = 3, n: int = 7, dtype: type = np.float64) -> EigenResult:
    rng = np.random.default_rng(k + n)
    return EigenResult(
        values=rng.standard_normal(k),
        vectors=rng.standard_normal((n, k)).astype(dtype),
        residuals=rng.standard_normal(k) ** 2,
        converged=np.arange(k) % 2 == 0,
        status=Status.BUDGET,
        advice="raise max_matvecs to 23",
        matvecs=12.25,
        seconds=0.1,
        certificate=Certificate(level="sketch", matvecs=3.0, bound=0.1, confidence=0.99, not_proved="all"),
        solver="lanczos",
        k=k,
        which="LM",
        tol=1e-3,
        seed=4,
        n=n,
        dtype=np.dtype(dtype).name,
        device="cpu",
        history=ROWS,
        notes=("größer",),
        options={"basis": None},
    )


ANALYSIS = AnalysisResult(
    verdict="it is so",
    numbers={"rho": 0.25, "n": 3, "word": "x", "flag": True, "none": None, "wide": np.float32(0.5)},
    tables={"by class": Table(("class", "rho"), (("a", 0.5), ("b", None)))},
    columns={
        "margin": np.arange(4.0),
        "right": np.array([True, False, True, True]),
        "name": np.array(list("abcd")),
    },
    figures=(Figure("scatter", "title", "x", "y", {"x": np.arange(2.0), "y": np.arange(2)}),),
    warnings=("few samples",),
    remarks=("it may be so elsewhere",),
    shown=("by class",),
)
RUN = Run(eigen(), {"robustness": ANALYSIS}, {"problem": "demo:made-up", "exact": [1.0, 2.0, 3.0], "seed": 4})


def same(one: object, other: object) -> bool:
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return type(one) is type(other) and all(same(getattr(one, x), getattr(other, x)) for x in names)
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(same(one[x], other[x]) for x in one)
        )
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, tuple):
        return isinstance(other, tuple) and len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


# -- saving and loading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [0, 1, 3])
def test_a_saved_run_is_loaded_unchanged(tmp_path, k, dtype):
    run = Run(eigen(k, dtype=dtype), RUN.analyses, RUN.manifest)
    save(run, tmp_path / "new" / "folder")
    back = eigencore.load(tmp_path / "new" / "folder")
    assert same(back.eigen, run.eigen)
    assert back.analyses.keys() == run.analyses.keys()
    assert same(back.analyses["robustness"], dataclasses.replace(ANALYSIS, numbers=plain(ANALYSIS.numbers)))
    assert {name: back.manifest[name] for name in run.manifest} == run.manifest


def test_the_file_equals_the_json_byte_for_byte_also_after_loading(tmp_path):
    save(RUN, tmp_path / "a")
    written = (tmp_path / "a" / RESULT).read_bytes()
    assert written == to_json(RUN).encode()
    save(load(tmp_path / "a"), tmp_path / "b")
    for name in (RESULT, VECTORS):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()
    assert load(tmp_path / "b").analyses["robustness"].columns.keys() == ANALYSIS.columns.keys()


def test_the_json_object_has_the_documented_keys():
    data = json.loads(to_json(RUN))
    documented = (
        "schema problem backend operator solver k which tol seed eigenvalues residuals converged status "
        "advice matvecs seconds certificate history notes sampling analyses run exact"
    )
    assert data.keys() == set(documented.split())
    assert data["schema"] == 1
    assert data["operator"] == {"n": 7, "dtype": "float64", "device": "cpu"}
    assert data["eigenvalues"] == RUN.eigen.values.tolist()
    assert data["history"][1]["values"] == [3.0, None]
    assert data["run"]["options"] == {"lanczos": {"basis": None}}


def test_the_json_object_fits_its_schema(tmp_path):
    """Of a run that was made by hand, and of one that `analyze` made."""
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(schema())
    check.check_schema(schema())
    run = eigencore.analyze("demo:quadratic", 2, options={"problem": {"n": 30}})
    alone = eigencore.analyze(np.diag([3.0, 2.0, 1.0]), k=0, analyses="norms")
    for one in (RUN, run, alone):
        check.validate(json.loads(to_json(one)))
    wrong = {**json.loads(to_json(RUN)), "residuals": ["small", 0.0, 0.0]}
    (error,) = check.iter_errors(wrong)
    # The run is either one with eigenpairs or one without; only the latter must have no eigenvalues.
    assert [list(one.path) for one in error.context] == [["residuals", 0], ["eigenvalues"]]


def test_values_that_json_cannot_represent_become_null_or_their_type():
    data = plain(
        {"a": math.nan, "b": -math.inf, "c": np.float64(2), "d": object(), 5: Path("x"), "e": {2, 1}}
    )
    assert data == {"a": None, "b": None, "c": 2.0, "d": "<builtins.object>", "5": "x", "e": [1, 2]}
    json.dumps(data, allow_nan=False)


def test_vectors_are_memory_mapped_and_every_array_can_be_written_without_changing_the_files(tmp_path):
    save(RUN, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    run = load(tmp_path)
    assert isinstance(run.eigen.vectors, np.memmap)
    analysis = run.analyses["robustness"]
    for array in (
        *(run.eigen.values, run.eigen.vectors, run.eigen.residuals, run.eigen.converged),
        *(analysis.columns["margin"], analysis.figures[0].series["x"]),
    ):
        array[...] = 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert same(load(tmp_path).eigen, RUN.eigen)
    assert same(pickle.loads(pickle.dumps(run)).eigen, run.eigen)
    run.save(tmp_path)  # into the folder that the vectors are mapped from
    assert not np.any(load(tmp_path).eigen.vectors)


@pytest.mark.parametrize("vectors", ["numpy", "torch"])
def test_eigenpairs_can_be_saved_alone(tmp_path, vectors):
    result = eigen()
    if vectors == "torch":
        torch = pytest.importorskip("torch")
        result = dataclasses.replace(result, vectors=torch.as_tensor(result.vectors))
    assert result.save(tmp_path / "a") == tmp_path / "a"
    back = eigencore.load(tmp_path / "a")
    assert same(back.eigen, eigen())
    assert not back.analyses
    assert back.folder == tmp_path / "a"
    assert back.save(str(tmp_path / "b")) == tmp_path / "b"
    for name in (RESULT, VECTORS):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()
    print_run(back)


def test_tensors_are_saved_in_their_own_precision(tmp_path):
    torch = pytest.importorskip("torch")
    vectors = torch.randn(7, 3, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
    run = Run(
        dataclasses.replace(eigen(), vectors=vectors),
        {"a": dataclasses.replace(ANALYSIS, columns={"x": torch.arange(3)})},
    )
    save(run, tmp_path)
    back = load(tmp_path)
    assert back.eigen.vectors.dtype == np.float32
    assert np.array_equal(back.eigen.vectors, vectors.numpy())
    assert np.array_equal(back.analyses["a"].columns["x"], [0, 1, 2])


# -- finished and unfinished runs --------------------------------------------------------------------------


def of_status(status: Status, k: int = 3, **manifest: object) -> Run:
    return Run(dataclasses.replace(eigen(k), status=status), manifest=manifest)


FINISHED = of_status(Status.CONVERGED)
UNFINISHED = {
    **{str(status): of_status(status, 1) for status in Status if status is not Status.CONVERGED},
    "analyses interrupted": of_status(Status.CONVERGED, 1, finished=False),
    "an analysis failed": of_status(Status.CONVERGED, 1, failed={"robustness": "ValueError: x"}),
}


@pytest.mark.parametrize("unfinished", UNFINISHED.values(), ids=UNFINISHED.keys())
def test_an_unfinished_run_replaces_no_finished_one_but_is_saved_beside_it(tmp_path, unfinished):
    folder = tmp_path / "run"
    assert FINISHED.save(folder) == folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert unfinished.save(folder) == tmp_path / "run-unfinished"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert load(tmp_path / "run-unfinished").eigen.k == 1
    assert unfinished.save(folder) == tmp_path / "run-unfinished"  # an unfinished run is replaced
    assert of_status(Status.CONVERGED, 2).save(folder) == folder  # a finished one replaces a finished one
    assert load(folder).eigen.k == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-unfinished"]


def test_an_unfinished_run_is_replaced_by_any_run(tmp_path):
    for run in (UNFINISHED["budget"], UNFINISHED["interrupted"], FINISHED):
        assert run.save(tmp_path) == tmp_path
    assert load(tmp_path).eigen.status is Status.CONVERGED


def test_an_unfinished_run_is_saved_in_the_first_folder_that_holds_nothing_else(tmp_path):
    FINISHED.save(tmp_path / "run")
    FINISHED.save(tmp_path / "run-unfinished")
    (tmp_path / "run-unfinished-2").write_text("a file")
    (tmp_path / "run-unfinished-3").mkdir()
    (tmp_path / "run-unfinished-3" / "thesis.tex").write_text("mine")
    assert UNFINISHED["budget"].save(tmp_path / "run") == tmp_path / "run-unfinished-4"
    assert load(tmp_path / "run-unfinished").eigen.status is Status.CONVERGED


def test_the_name_of_the_current_folder_is_its_own(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    FINISHED.save(folder)
    monkeypatch.chdir(folder)
    assert UNFINISHED["budget"].save(".") == tmp_path / "run-unfinished"


@pytest.mark.skipif(os.geteuid() == 0, reason="root has permission to write anywhere")
def test_an_unfinished_run_that_can_be_saved_nowhere_is_in_the_error(tmp_path):
    FINISHED.save(tmp_path / "above" / "run")
    (tmp_path / "above").chmod(0o500)
    with pytest.raises(UsageError, match="can't be written to") as failure:
        UNFINISHED["budget"].save(tmp_path / "above" / "run")
    assert failure.value.partial is UNFINISHED["budget"].eigen
    (tmp_path / "above").chmod(0o700)


# -- writing -----------------------------------------------------------------------------------------------


def test_a_new_run_replaces_an_earlier_one_and_nothing_else(tmp_path):
    save(RUN, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    save(Run(eigen(1)), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", RESULT, VECTORS]
    assert load(tmp_path).eigen.vectors.shape == (7, 1)


def test_a_failed_write_leaves_the_earlier_run_intact_and_no_other_files(tmp_path, monkeypatch):
    save(RUN, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.np, "save", full)
    with pytest.raises(ResultError, match="No space left") as failure:
        save(Run(eigen(1)), tmp_path)
    assert failure.value.partial is not None
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_folder_never_contains_parts_of_two_runs_even_if_killed_while_renaming(
    tmp_path, monkeypatch, after
):
    save(RUN, tmp_path)
    renamed = []

    def replace(self: Path, target: Path) -> None:
        if len(renamed) == after:
            raise SystemExit
        renamed.append(target)
        os.replace(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(SystemExit):
        save(Run(eigen(1), RUN.analyses), tmp_path)
    with pytest.raises(ResultError, match=RESULT):
        load(tmp_path)
    monkeypatch.undo()
    save(RUN, tmp_path)  # the remaining files are eigencore's own and can be overwritten
    assert load(tmp_path).eigen.k == 3


def test_a_folder_may_be_missing_empty_or_an_earlier_run(tmp_path):
    assert check_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert check_folder(tmp_path) == tmp_path
    save(RUN, tmp_path)
    assert check_folder(tmp_path) == tmp_path
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("name", "content", "out", "words"),
    [
        ("file", "x", "file", "is a file"),
        ("file", "x", "file/below", "is a file"),
        ("file", "x", "file/below/that", "is a file"),
        ("thesis.tex", "x", "", "contains thesis.tex, which is not part of a run"),
        (RESULT, "{}", "", "is not a result of this version"),
        (RESULT, "\\x80 no JSON", "", "is not a result of this version"),
        (RESULT, '{"schema": 2, "eigenvalues": []}', "", "is not a result of this version"),
    ],
)
def test_foreign_files_are_not_overwritten(tmp_path, name, content, out, words):
    (tmp_path / name).write_text(content)
    for attempt in (check_folder, lambda folder: save(RUN, folder)):
        with pytest.raises(UsageError, match=words):
            attempt(tmp_path / out)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == content


@pytest.mark.skipif(os.geteuid() == 0, reason="root has permission to write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="can't be written to"):
        check_folder(tmp_path / "new")


def test_objects_are_not_pickled(tmp_path):
    result = dataclasses.replace(ANALYSIS, columns={"x": np.array([{}, []], dtype=object)})
    with pytest.raises(ResultError, match="Python objects"):
        save(Run(eigen(), {"a": result}), tmp_path)
    assert not list(tmp_path.iterdir())


# -- reading damaged files ---------------------------------------------------------------------------------


def test_a_missing_folder_or_result_is_reported(tmp_path):
    with pytest.raises(ResultError, match="no folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(ResultError, match=f"no {RESULT}"):
        load(tmp_path)


@pytest.mark.parametrize("name", [RESULT, VECTORS, ARRAYS])
def test_truncated_files_are_refused(tmp_path, name):
    save(RUN, tmp_path)
    whole = (tmp_path / name).read_bytes()
    for length in sorted({0, 1, 7, len(whole) - 2, *range(0, len(whole), max(1, len(whole) // 60))}):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(ResultError):
            load(tmp_path)


@pytest.mark.parametrize("name", [VECTORS, ARRAYS])
def test_a_missing_file_is_reported(tmp_path, name):
    save(RUN, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ResultError):
        load(tmp_path)


@pytest.mark.parametrize("name", [RESULT, VECTORS, ARRAYS])
def test_a_flipped_byte_is_harmless_or_refused(tmp_path, name):
    save(RUN, tmp_path)
    whole = (tmp_path / name).read_bytes()
    refused = 0
    for position in range(0, len(whole), max(1, len(whole) // 300)):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        (tmp_path / name).write_bytes(damaged)
        try:
            assert load(tmp_path).eigen.vectors.shape == (7, 3)
        except ResultError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("key", sorted(json.loads(to_json(RUN))))
@pytest.mark.parametrize("value", ["deleted", None, 3, "word", [], [[1]], {"a": 1}], ids=repr)
def test_no_damage_to_the_json_causes_another_error(key, value):
    data = json.loads(to_json(RUN))
    if value == "deleted":
        del data[key]
    else:
        data[key] = value
    columns = {f"robustness/{name}": column for name, column in ANALYSIS.columns.items()}
    try:
        from_json(json.dumps(data), RUN.eigen.vectors, columns)
    except ResultError:
        return
    assert value != "deleted"


def test_pickles_are_not_opened(tmp_path):
    save(RUN, tmp_path)

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    (tmp_path / VECTORS).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ResultError):
        load(tmp_path)
    np.save(tmp_path / VECTORS, np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(ResultError):
        load(tmp_path)
    save(RUN, tmp_path / "again")
    np.savez(tmp_path / "again" / ARRAYS, **{"robustness/margin": np.array([Trap()], dtype=object)})
    (tmp_path / "again" / "arrays.npz").rename(tmp_path / "again" / ARRAYS)
    with pytest.raises(ResultError):
        load(tmp_path / "again")
    assert not (tmp_path / "sprung").exists()


def test_vectors_of_another_run_are_refused(tmp_path):
    save(RUN, tmp_path)
    np.save(tmp_path / VECTORS, np.zeros((7, 2)))
    with pytest.raises(ResultError, match=r"\(7, 3\)"):
        load(tmp_path)


def test_a_later_schema_is_reported(tmp_path):
    save(RUN, tmp_path)
    data = json.loads((tmp_path / RESULT).read_text())
    (tmp_path / RESULT).write_text(json.dumps({**data, "schema": 2}))
    with pytest.raises(ResultError, match="schema 2; this version of eigencore reads schema 1"):
        load(tmp_path)
