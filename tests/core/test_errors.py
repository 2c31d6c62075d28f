"""Errors say what is wrong, what was expected and what to do; each kind has its exit code."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from eigencore import errors
from eigencore.errors import (
    Culprit,
    EigencoreError,
    Interrupted,
    OperatorError,
    UnknownNameError,
    UsageError,
    attach,
    blame,
    described,
)

KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, BaseException)
}


def test_the_documented_tree_is_that_of_the_classes():
    documented = dict(re.findall(r"(\w+)\s+(\d+)\s", errors.__doc__))
    assert documented == {name: str(kind.exit_code) for name, kind in KINDS.items()}
    depth = {name: errors.__doc__.splitlines()[i].index(name) for name, i in _lines(documented).items()}
    for name, kind in KINDS.items():
        parent = kind.__mro__[1].__name__
        if parent in depth:
            assert depth[name] > depth[parent]
            assert _lines(documented)[name] > _lines(documented)[parent]


def _lines(names):
    lines = errors.__doc__.splitlines()
    return {name: next(i for i, line in enumerate(lines) if f"{name} " in line) for name in names}


def test_a_message_is_followed_by_its_hint():
    assert str(UsageError("k is 0")) == "k is 0"
    error = UsageError("k is 0", hint="Ask for more.", partial="so far")
    assert str(error) == "k is 0\nAsk for more."
    assert (error.message, error.hint, error.partial) == ("k is 0", "Ask for more.", "so far")
    assert error.culprit is None
    assert isinstance(error, ValueError)


def test_interruption_is_a_keyboard_interrupt_that_carries_the_result():
    error = Interrupted("result")
    assert isinstance(error, KeyboardInterrupt)
    assert not isinstance(error, Exception | EigencoreError)
    assert error.result == "result"


def made(kind):
    if kind is UnknownNameError:
        return kind("solver", "lanczso", ["lanczos"], also="See the list.")
    if issubclass(kind, Interrupted):
        return kind({"a": "result"})
    return kind("k is 0", hint="Ask for more.", partial=[1, 2])


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_an_error_pickles_with_all_that_it_says(kind):
    error = made(kind)
    error.add_note("more")
    for back in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(back) is kind
        assert (str(back), back.args) == (str(error), error.args)
        assert vars(back) == vars(error)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lanczso", "Did you mean lanczos?"),
        ("power", "Did you mean accel_power or deflated_power?"),
        ("xyz", "Available: accel_power, arpack, deflated_power, lanczos."),
    ],
)
def test_an_unknown_name_suggests_near_names(name, hint):
    known = ["lanczos", "arpack", "deflated_power", "accel_power"]
    error = UnknownNameError("solver", name, known)
    assert error.message == f"unknown solver: {name!r}"
    assert error.hint == hint
    assert UnknownNameError("solver", name, known, also="Look.").hint == f"{hint} Look."


def test_the_hint_says_if_no_name_is_known():
    assert UnknownNameError("attack", "pgd", []).hint == "Available: none."


def test_blame_keeps_the_text_and_the_culprit_that_is_known():
    cause = ValueError("bad shape")
    failure = blame(cause, Culprit.OPERATOR, OperatorError, "a product failed")
    assert type(failure) is OperatorError
    assert failure.message == "a product failed: ValueError: bad shape"
    assert failure.culprit == "operator"
    assert failure.__cause__ is cause
    assert blame(failure, Culprit.SOLVER, EigencoreError, "the solver failed") is failure
    assert failure.culprit == "operator"


def test_an_exception_is_described_also_without_text():
    class SilentError(Exception):
        def __str__(self):
            raise TypeError("no text")

    assert described(KeyError("x")) == "KeyError: 'x'"
    assert described(MemoryError()) == "MemoryError"
    assert described(SilentError()) == "SilentError"


def test_a_result_is_attached_to_exceptions_of_any_type():
    class ClosedError(Exception):
        def __setattr__(self, name, value):
            raise AttributeError(name)

    error = ValueError()
    attach(error, partial="so far", culprit=Culprit.CALLBACK)
    assert (error.partial, error.culprit) == ("so far", "callback")
    attach(error, partial="more")
    assert (error.partial, error.culprit) == ("more", "callback")
    attach(ClosedError(), partial="so far")
