"""One declaration of an option serves validation, the command line, Python keywords and the listings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any, Literal, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigencore.errors import EigencoreError, OptionError, UnknownNameError
from eigencore.options import OptionSpec, check, describe, describe_keywords, option, resolve


@dataclass(frozen=True)
class Options:
    basis: int | None = option(None, low=3, high=100, help="vectors kept", when="gaps are small")
    momentum: float | Literal["auto"] = option("auto", low=0, high=1, help="its weight", when="never")
    repeated: bool = option(True, help="search for repeated eigenvalues", when="a bound is enough")
    route: Literal["kept", "fresh"] = option("kept", help="how", when="memory is short")
    label: str = option("", help="a text", when="you like")
    depth: int = option(1, high=9, help="how deep", when="you like")


def resolved(**values: object) -> Options:
    return resolve(Options, values, entry="mine")


def refusal(**values: object) -> str:
    with pytest.raises(OptionError) as raised:
        resolved(**values)
    assert raised.value.exit_code == 2
    return str(raised.value)


# -- what is accepted --------------------------------------------------------------------------------------


def test_without_values_the_declared_defaults_are_used():
    assert resolved() == Options()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("basis", "20", 20),
        ("basis", "none", None),
        ("basis", "None", None),
        ("momentum", "auto", "auto"),
        ("momentum", "0.25", 0.25),
        ("momentum", "1", 1.0),
        ("momentum", "1e-3", 1e-3),
        ("repeated", "false", False),
        ("repeated", "No", False),
        ("repeated", "on", True),
        ("route", "fresh", "fresh"),
        ("label", "3", "3"),
        ("label", "none", "none"),
        ("label", "true", "true"),
        ("label", "", ""),
    ],
)
def test_text_from_the_command_line_is_parsed_according_to_the_type(name, text, expected):
    value = getattr(resolved(**{name: text}), name)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("basis", 3, 3),
        ("basis", 100, 100),
        ("basis", np.int64(7), 7),
        ("basis", None, None),
        ("momentum", 0, 0.0),
        ("momentum", np.float32(0.5), 0.5),
        ("momentum", np.int64(1), 1.0),
        ("repeated", False, False),
        ("depth", -(10**400), -(10**400)),
    ],
)
def test_values_from_python_become_python_numbers(name, given, expected):
    value = getattr(resolved(**{name: given}), name)
    assert value == expected
    assert type(value) is type(expected)


@given(st.integers(3, 100), st.floats(0, 1))
def test_a_value_written_as_text_is_read_back(basis, momentum):
    assert resolved(basis=str(basis), momentum=repr(momentum)) == resolved(basis=basis, momentum=momentum)


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [2, 101, -1, "2", "101", 10**400])
def test_a_value_out_of_range_is_refused_with_the_option_the_value_and_the_range(value):
    message = refusal(basis=value)
    assert message == f"mine.basis is {value!r}; expected a whole number from 3 to 100, or none"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("basis", 3.5, "a whole number from 3 to 100, or none"),
        ("basis", "3.5", "a whole number from 3 to 100, or none"),
        ("basis", True, "a whole number from 3 to 100, or none"),
        ("basis", [5], "a whole number from 3 to 100, or none"),
        ("basis", np.array([5, 6]), "a whole number from 3 to 100, or none"),
        ("basis", "many", "a whole number from 3 to 100, or none"),
        ("momentum", "automatic", "a number from 0 to 1, or 'auto'"),
        ("momentum", float("nan"), "a number from 0 to 1, or 'auto'"),
        ("momentum", "nan", "a number from 0 to 1, or 'auto'"),
        ("momentum", 10**400, "a number from 0 to 1, or 'auto'"),
        ("momentum", None, "a number from 0 to 1, or 'auto'"),
        ("momentum", False, "a number from 0 to 1, or 'auto'"),
        ("repeated", 1, "true or false"),
        ("repeated", "maybe", "true or false"),
        ("repeated", None, "true or false"),
        ("route", "keep", "'kept' or 'fresh'"),
        ("route", None, "'kept' or 'fresh'"),
        ("label", 3, "text"),
        ("depth", 10, "a whole number of at most 9"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_the_accepted_values(name, value, expected):
    message = refusal(**{name: value})
    assert message.startswith(f"mine.{name} is ")
    assert message.endswith(f"; expected {expected}")


@given(
    st.sampled_from([spec.name for spec in describe(Options)]),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.complex_numbers(),
        st.lists(st.integers()),
    ),
)
def test_any_value_is_either_as_declared_or_refused_with_a_clear_error(name, value):
    spec = next(spec for spec in describe(Options) if spec.name == name)
    try:
        accepted = getattr(resolved(**{name: value}), name)
    except EigencoreError:
        return
    assert accepted in spec.choices or type(accepted) in spec.types
    if type(accepted) in (int, float):
        assert spec.low is None or accepted >= spec.low
        assert spec.high is None or accepted <= spec.high


def test_an_unknown_option_suggests_a_near_name():
    with pytest.raises(UnknownNameError) as raised:
        resolved(bases=3)
    assert str(raised.value) == "unknown option of mine: 'bases'\nDid you mean basis?"
    with pytest.raises(UnknownNameError, match="Available: basis, depth, label, momentum, repeated, route"):
        resolved(xyzzy=3)


# -- the declaration ---------------------------------------------------------------------------------------


def test_a_declaration_contains_all_that_a_listing_shows():
    basis, momentum, *_ = describe(Options)
    assert basis == OptionSpec(
        "basis", (int,), (None,), None, low=3, high=100, help="vectors kept", when="gaps are small"
    )
    assert momentum.default == "auto"
    assert [spec.range for spec in describe(Options)] == [
        "a whole number from 3 to 100, or none",
        "a number from 0 to 1, or 'auto'",
        "true or false",
        "'kept' or 'fresh'",
        "text",
        "a whole number of at most 9",
    ]


@pytest.mark.parametrize(
    ("annotation", "accepted"),
    [
        (Literal["a"], "'a'"),
        (Literal["a"] | None, "'a' or none"),
        (Literal["a", "b", "c"], "'a', 'b' or 'c'"),
        (int | Literal["a"] | None, "a whole number of at least 2, 'a', or none"),
        (int | float, "a whole number of at least 2, or a number of at least 2"),
        (Any, "any value"),
    ],
    ids=str,
)
def test_the_accepted_values_are_listed_as_text(annotation, accepted):
    (spec,) = describe(make_dataclass("Made", [("x", annotation, option(None, low=2, help="", when=""))]))
    assert spec.range == accepted


def test_optional_is_the_same_as_a_union_with_none():
    @dataclass(frozen=True)
    class Old:
        basis: Optional[int] = option(None, low=3, help="", when="")  # noqa: UP045

    (spec,) = describe(Old)
    assert (spec.types, spec.choices) == ((int,), (None,))
    assert resolve(Old, {"basis": "none"}, entry="old").basis is None


def test_a_dataclass_without_declarations_can_be_used():
    @dataclass(frozen=True)
    class Plain:
        size: int
        rate: float = 0.5
        names: list[str] = field(default_factory=list)

    assert [spec.required for spec in describe(Plain)] == [True, False, False]
    assert resolve(Plain, {"size": "3"}, entry="plain") == Plain(3)
    with pytest.raises(OptionError) as raised:
        resolve(Plain, {"rate": 1}, entry="plain")
    assert str(raised.value) == (
        "plain needs a value for size\nSet it with --set plain.size=VALUE, or with a keyword in Python."
    )


# -- a factory's keywords ----------------------------------------------------------------------------------


def make(
    file: Path,
    n: int = 100,
    decay: float = 0.5,
    kind: Literal["power", "flat"] = "power",
    *,
    seed=0,
    anything: Any = None,
    nothing=None,
    weights: Mapping[str, float] | None = None,
    **more: object,
) -> None:
    """The factory of a problem in user code: some keywords are annotated, some are not."""


def test_the_keywords_of_a_factory_are_read_from_its_signature():
    specs = {spec.name: spec for spec in describe_keywords(make)}
    assert list(specs) == ["file", "n", "decay", "kind", "seed", "anything", "nothing", "weights"]
    assert [name for name, spec in specs.items() if spec.required] == ["file"]
    assert specs["n"].default == 100
    assert specs["kind"].choices == ("power", "flat")
    assert specs["seed"].types == (int,)
    assert specs["anything"].range == "any value"


def test_the_keywords_of_a_factory_are_checked_like_options():
    specs = describe_keywords(make)
    given = {"file": "a/b.npz", "n": "5", "decay": "1", "kind": "flat", "anything": [1], "nothing": "x"}
    checked = check(specs, given, entry="problem")
    assert checked == {**given, "file": Path("a/b.npz"), "n": 5, "decay": 1.0}
    assert check(specs, {"file": Path("x"), "weights": {"a": 1.0}}, entry="problem")["weights"] == {"a": 1.0}
    for wrong in ({"n": "many"}, {"kind": "steep"}, {"seed": 0.5}, {"weights": 3}):
        with pytest.raises(OptionError):
            check(specs, {"file": "x", **wrong}, entry="problem")
    with pytest.raises(OptionError, match="problem needs a value for file"):
        check(specs, {}, entry="problem")
    with pytest.raises(UnknownNameError, match="Did you mean decay"):
        check(specs, {"file": "x", "decoy": 1}, entry="problem")


def test_a_class_is_a_factory_with_the_keywords_of_its_constructor():
    class Made:
        n: str

        def __init__(self, n: int):
            self.n = str(n)

    assert check(describe_keywords(Made), {"n": "3"}, entry="made") == {"n": 3}


def test_if_annotations_cannot_be_evaluated_the_defaults_determine_the_types():
    def factory(n: NotImportedHere = 3, x: NotImportedHere = None): ...  # noqa: F821

    n, x = describe_keywords(factory)
    assert n.types == (int,)
    assert x.range == "any value"
