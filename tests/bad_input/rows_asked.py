"""Invalid requests: numbers, names, options, flags."""

from __future__ import annotations

import numpy as np
from rows import QUADRATIC, Row, asked, made

import eigencore
from eigencore.errors import CapabilityError, OptionError, ProblemError, UnknownNameError, UsageError

NAN = float("nan")


def solved(given: str, *words: str, error: type[BaseException] = UsageError, **keywords: object) -> Row:
    """A request to `solve`, by a keyword that has no flag, or by a value that a flag can't have."""
    return Row(given, error, words, lambda: eigencore.solve(np.eye(9), **keywords))


ROWS = [
    # -- k, which, tol, seed and the budget
    asked("k = 0", "k is 0", "at least 1", flags=("-k", "0"), keywords={"k": 0}),
    asked("k = -1", "k is -1", flags=("-k", "-1"), keywords={"k": -1}),
    asked("k above n", "k is 61", "60 eigenvalues", "k <= 60", flags=("-k", "61"), keywords={"k": 61}),
    asked("k is a fraction", "k", "1.5", flags=("-k", "1.5"), keywords={"k": 1.5}),
    asked("k is a boolean", "k", flags=("-k", "true"), keywords={"k": True}),
    asked("k is text", "k", "many", flags=("-k", "many"), keywords={"k": "many"}),
    asked("k is None", "k is None", keywords={"k": None}),
    asked("k is a list", "k is [1, 2]", keywords={"k": [1, 2]}),
    asked("k without a number", "-k", "argument", flags=("-k",)),
    asked("tol = 0", "tol is 0", "above 0", flags=("--tol", "0"), keywords={"tol": 0}),
    asked("tol negative", "tol is -1", flags=("--tol", "-1"), keywords={"tol": -1}),
    asked("tol NaN", "tol is nan", flags=("--tol", "nan"), keywords={"tol": NAN}),
    asked("tol = 1", "tol is 1", "below 1", flags=("--tol", "1"), keywords={"tol": 1}),
    asked("tol is text", "tol", "small", flags=("--tol", "small"), keywords={"tol": "small"}),
    asked("tol is None", "tol is None", keywords={"tol": None}),
    asked("seed negative", "seed is -1", flags=("--seed", "-1"), keywords={"seed": -1}),
    asked("seed is a fraction", "seed", "0.5", flags=("--seed", "0.5"), keywords={"seed": 0.5}),
    asked("seed is text", "seed", "luck", flags=("--seed", "luck"), keywords={"seed": "luck"}),
    asked("seed is None", "seed is None", keywords={"seed": None}),
    asked("a budget of 0", "max_matvecs is 0", flags=("--max-matvecs", "0"), keywords={"max_matvecs": 0}),
    asked(
        "a budget below 0", "max_matvecs is -3", flags=("--max-matvecs", "-3"), keywords={"max_matvecs": -3}
    ),
    asked(
        "a budget of NaN", "max_matvecs is nan", flags=("--max-matvecs", "nan"), keywords={"max_matvecs": NAN}
    ),
    asked("a budget of text", "max", "matvecs", "few", flags=("--max-matvecs", "few")),
    solved("a budget of text, in Python", "max_matvecs is 'few'", max_matvecs="few"),
    asked("a time limit of 0", "max_seconds is 0", flags=("--max-seconds", "0"), keywords={"max_seconds": 0}),
    asked(
        "a time limit below 0",
        "max_seconds is -1",
        flags=("--max-seconds", "-1"),
        keywords={"max_seconds": -1},
    ),
    asked(
        "a time limit of NaN",
        "max_seconds is nan",
        flags=("--max-seconds", "nan"),
        keywords={"max_seconds": NAN},
    ),
    solved("a time limit of text", "max_seconds is 'an hour'", max_seconds="an hour"),
    asked("an unknown end", "which", "top", flags=("--which", "top"), keywords={"which": "top"}),
    asked("an unknown certificate", "certify", "some", flags=("--certify", "some")),
    solved("an unknown certificate, in Python", "certify is 'some'", "sketch", certify="some"),
    solved("a start of another length", "start", "(4,)", "(9,)", start=np.ones(4)),
    solved("a start of NaN", "start contains NaN", start=np.full(9, NAN)),
    solved("a start of zeros", "start is all zeros", start=np.zeros(9)),
    solved("a start that is text", "start", start="random"),
    # -- names
    asked(
        "a misspelt solver",
        "lanzcos",
        "Did you mean lanczos",
        error=UnknownNameError,
        flags=("--solver", "lanzcos"),
        keywords={"solver": "lanzcos"},
    ),
    asked(
        "no solver",
        "unknown solver: ''",
        "lanczos",
        error=UnknownNameError,
        flags=("--solver", ""),
        keywords={"solver": ""},
    ),
    asked(
        "an attack in place of a solver",
        "pgd is an attack",
        error=UnknownNameError,
        flags=("--solver", "pgd"),
        keywords={"solver": "pgd"},
    ),
    asked("a solver that is a number", "solver is a int", keywords={"solver": 3}),
    asked(
        "a misspelt analysis",
        "robustnes",
        "Did you mean robustness",
        error=UnknownNameError,
        flags=("--analyses", "robustnes"),
        keywords={"analyses": ["robustnes"]},
    ),
    asked(
        "none together with an analysis",
        "unknown analysis: 'none'",
        error=UnknownNameError,
        flags=("--analyses", "none,robustness"),
        keywords={"analyses": "none,robustness"},
    ),
    asked(
        "an analysis that needs more than the problem offers",
        "robustness needs",
        "demo:quadratic offers products",
        "has no inputs",
        error=CapabilityError,
        flags=("--analyses", "robustness"),
        keywords={"analyses": "robustness"},
    ),
    asked(
        "a backend for a matrix",
        "backend can't be used: demo:quadratic is given directly as an operator",
        flags=("--backend", "torch"),
        keywords={"backend": "torch"},
    ),
    asked(
        "params for a matrix",
        "params can't be used: demo:quadratic is given directly as an operator",
        flags=("--params", "head.*"),
        keywords={"params": "head.*"},
    ),
    asked(
        "a dtype for a matrix",
        "dtype can't be used: demo:quadratic is given directly as an operator",
        flags=("--dtype", "float64"),
    ),
    Row(
        "a misspelt problem",
        UnknownNameError,
        ("demo:quadratik", "Did you mean demo:quadratic"),
        lambda: eigencore.analyze("demo:quadratik"),
        ("analyze", "demo:quadratik"),
    ),
    Row("no problem at all", UnknownNameError, ("''",), lambda: eigencore.analyze(""), ("analyze", "")),
    Row(
        "a number in place of a problem",
        ProblemError,
        ("of type int: 7", "expected"),
        lambda: eigencore.analyze(7),
    ),
    Row("bound without a problem", ProblemError, ("a value of type int: 7",), lambda: eigencore.bind(7)),
    Row("a misspelt command", UnknownNameError, ("analize", "Did you mean analyze"), command=("analize",)),
    Row("a misspelt flag", UsageError, ("--sead", "--seed"), command=(*QUADRATIC, "--sead", "1")),
    Row("one word too many", UsageError, ("extra",), command=(*QUADRATIC, "extra")),
    Row(
        "a flag before the command",
        UsageError,
        ("-k", "follow its name"),
        command=("-k", "3", "analyze"),
    ),
    Row(
        "an unknown plugin to disable",
        UnknownNameError,
        ("krilov", "krylov"),
        command=("-p", "no:krilov", "plugins"),
    ),
    made(
        "sound",
        "troch",
        "torch",
        error=UnknownNameError,
        flags=("--backend", "troch"),
        keywords={"backend": "troch"},
    ),
    made(
        "sound",
        "hesian",
        "hessian",
        error=UnknownNameError,
        flags=("--kind", "hesian"),
        keywords={"kind": "hesian"},
    ),
    made(
        "sound",
        "'heads.*'",
        "head.*",
        error=UnknownNameError,
        flags=("--params", "heads.*"),
        keywords={"params": "heads.*"},
    ),
    made(
        "sound",
        "'haed.*'",
        "head.*",
        error=UnknownNameError,
        flags=("--params", "head.weight,haed.*"),
        keywords={"params": ["head.weight", "haed.*"]},
    ),
    Row(
        "a number for params",
        UsageError,
        ("params is 3; expected a pattern", "params=['head.*'"),
        lambda: eigencore.analyze("demo:digits-numpy", params=3),  # type: ignore[arg-type]
    ),
    Row(
        "an empty list for params",
        UsageError,
        ("params is []; expected a pattern", "params=['head.*'"),
        lambda: eigencore.analyze("demo:digits-numpy", params=[]),
    ),
    made(
        "sound",
        "the regular expression '^head[', which is invalid",
        "unterminated character set at position 5",
        error=UsageError,
        flags=("--params", "re:^head["),
        keywords={"params": "re:^head["},
    ),
    made(
        "sound",
        "unknown parameter: 're:haed'",
        error=UnknownNameError,
        flags=("--params", "head.*,re:haed"),
        keywords={"params": ["head.*", "re:haed"]},
    ),
    Row(
        "a function for params that returns no bool",
        UsageError,
        ("the function builtins.len returns 2 for the parameter 'W1'", "expected True or False"),
        lambda: eigencore.analyze("demo:digits-numpy", params=len),  # type: ignore[arg-type]
    ),
    Row(
        "a function for params that fails",
        UsageError,
        ("the function builtins.abs fails for the parameter 'W1': TypeError: bad operand",),
        lambda: eigencore.analyze("demo:digits-numpy", params=abs),  # type: ignore[arg-type]
    ),
    Row(
        "a function for params that selects nothing",
        UsageError,
        ("selects none of the 4 parameters", "W1, b1, W2, ..."),
        lambda: eigencore.analyze("demo:digits-numpy", params=str.isspace),
    ),
    made("sound", "'[]'", error=UnknownNameError, flags=("--params", "[]"), keywords={"params": "[]"}),
    made("sound", "''", error=UnknownNameError, flags=("--params", ""), keywords={"params": ""}),
    made(
        "sound",
        "float16",
        "float32 or float64",
        error=UsageError,
        flags=("--dtype", "float16"),
        keywords={"dtype": "float16"},
    ),
    made(
        "sound",
        "doubles",
        "float32",
        error=UsageError,
        flags=("--dtype", "doubles"),
        keywords={"dtype": "doubles"},
    ),
    made(
        "sound", "'gpu'", "cpu, cuda", error=UsageError, flags=("--device", "gpu"), keywords={"device": "gpu"}
    ),
    made(
        "sound", "'mps'", "cpu, cuda", error=UsageError, flags=("--device", "mps"), keywords={"device": "mps"}
    ),
    made("sound", "cuda:99", error=UsageError, flags=("--device", "cuda:99"), keywords={"device": "cuda:99"}),
    # -- options
    asked(
        "an option of the wrong type",
        "lanczos.basis is 'two'",
        "whole number of at least 3",
        error=OptionError,
        flags=("--set", "lanczos.basis=two"),
        options={"lanczos": {"basis": "two"}},
    ),
    asked(
        "an option out of range",
        "lanczos.basis is ",
        "at least 3",
        error=OptionError,
        flags=("--set", "lanczos.basis=2"),
        options={"lanczos": {"basis": 2}},
    ),
    asked(
        "a misspelt option",
        "bases",
        "Did you mean basis",
        error=UnknownNameError,
        flags=("--set", "lanczos.bases=9"),
        options={"lanczos": {"bases": 9}},
    ),
    asked(
        "an option of a misspelt entry",
        "lanzcos",
        "Did you mean lanczos",
        error=UnknownNameError,
        flags=("--set", "lanzcos.basis=9"),
        options={"lanzcos": {"basis": 9}},
    ),
    asked(
        "an option of an entry that is not used",
        "arpack, which this run does not use",
        flags=("--set", "arpack.ncv=9"),
        options={"arpack": {"ncv": 9}},
    ),
    asked(
        "a keyword of the problem of the wrong type",
        "problem.n is 'many'",
        error=OptionError,
        flags=("--set", "problem.n=many"),
        options={"problem": {"n": "many"}},
    ),
    asked(
        "a keyword of the problem out of range",
        "problem.n is -5",
        error=OptionError,
        flags=("--set", "problem.n=-5"),
        options={"problem": {"n": -5}},
    ),
    asked(
        "an unknown keyword of the problem",
        "unknown option of problem: 'm'",
        "outliers",
        error=UnknownNameError,
        flags=("--set", "problem.m=5"),
        options={"problem": {"m": 5}},
    ),
    asked(
        "more than memory holds",
        "demo:quadratic failed: MemoryError",
        error=ProblemError,
        flags=("--set", "problem.n=99999999999999"),
        options={"problem": {"n": 99999999999999}},
    ),
    asked(
        "an option without a value",
        "--set lanczos.basis",
        "ENTRY.OPTION=VALUE",
        flags=("--set", "lanczos.basis"),
    ),
    asked("an option without an entry", "--set basis=9", "ENTRY.OPTION=VALUE", flags=("--set", "basis=9")),
    asked("options that are not a mapping", "options", keywords={"options": 3}),
    asked("options of an entry that are not a mapping", "lanczos", keywords={"options": {"lanczos": 3}}),
    solved("an unknown option of a solver", "bases", error=UnknownNameError, bases=9),
    Row(
        "keywords for a problem that has no factory",
        UsageError,
        ("n can't be set", "not given by name"),
        lambda: eigencore.analyze(np.eye(9), options={"problem": {"n": 3}}),
    ),
]
