"""Configuration files: keys, types, values, and files that can't be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rows import Row

from eigencore.errors import OptionError, UnknownNameError, UsageError

QUADRATIC = 'problem = "demo:quadratic"'


def writes(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "run.toml").write_bytes(content)


def config(
    given: str,
    content: str | bytes,
    *words: str,
    error: type[UsageError] = UsageError,
    command: str = "analyze",
    file: str = "run.toml",
) -> Row:
    """A command with `--config run.toml`; the message names the file."""
    encoded = content if isinstance(content, bytes) else content.encode()
    line = (command, "--config", file)
    return Row(f"config: {given}", error, (file, *words), command=line, prepare=writes(encoded))


ROWS = [
    # -- files
    config("no such file", "", "No such file", file="nowhere.toml"),
    config("a folder", "", "Is a directory", file="."),
    config("no UTF-8", b'problem = "a"\nparams = "gew\xe4hlt"', "not UTF-8", "line 2", "0xe4"),
    config("UTF-16", "k = 3".encode("utf-16"), "not UTF-8", "line 1", "Save the file"),
    config("no value", "k = 3\ntol =", "not valid TOML", "line 2, column 6"),
    config("an open string", 'problem = "demo', "not valid TOML", "line 1"),
    config("a key that is given twice", "k = 3\nk = 4\n", "not valid TOML", "line 2, column 6"),
    config("nested too deeply", "k = " + "[" * 5000, "not valid TOML"),
    config("a number of 5,000 digits", "k = " + "9" * 5000, "not valid TOML"),
    config("JSON", '{"k": 3}', "not valid TOML", "line 1"),
    # -- keys
    config("a misspelt key", 'solvr = "lanczos"', "unknown key 'solvr'", "Did you mean 'solver'?"),
    config("a misspelt key with a dash", "max-matvec = 3", "unknown key 'max-matvec'", "'max_matvecs'"),
    config("a misspelt key of a study", "job = 3", "unknown key 'job'", "'jobs'", command="study"),
    config("an unknown key", "zzz = 3", "unknown key 'zzz'", "eigen analyze --help"),
    config("a key of another command", "eps = 0.1", "eps is not an option of eigen analyze", "eigen attack"),
    config("a key of two others", "probes = 3", "eigen layers", "eigen density", command="attack"),
    config("a key in two spellings", "max-seconds = 1\nmax_seconds = 1", "max_seconds is given twice"),
    config("a configuration in it", 'config = "other.toml"', "unknown key 'config'"),
    config("a table without set", "[lanczos]\nbasis = 30", "lanczos", "[set.lanczos]"),
    # -- types
    config("text for a whole number", 'k = "3"', "k is '3'; expected a whole number"),
    config("a fraction for a whole number", "k = 2.5", "k is 2.5; expected a whole number"),
    config("a boolean for a whole number", "seed = true", "seed is true; expected a whole number"),
    config("a boolean for a number", "tol = true", "tol is true; expected a number"),
    config("text for a number", 'max_matvecs = "few"', "max_matvecs is 'few'; expected a number"),
    config("a list for a number", "tol = [1e-3]", "tol is [0.001]; expected a number"),
    config("a number for text", "solver = 3", "solver is 3; expected text"),
    config("a date for text", "out = 2026-01-01", "out is 2026-01-01; expected text"),
    config("a table for text", "[solver]\nname = 3", "solver is a table; expected text"),
    config("a list for text", 'kind = ["ggn"]', "kind is ['ggn']; expected text"),
    config("text for a switch", 'json = "yes"', "json is 'yes'; expected true or false"),
    config("numbers for names", "analyses = [1]", "analyses is 1; expected text, or a list"),
    config("a boolean among patterns", 'params = ["W*", true]', "params is true; expected text, or a list"),
    config("a list of lists", "eps = [[0.1]]", "eps is [0.1]; expected text, a number", command="attack"),
    config("a number for a group", "[group]\na = 3", "group.a is 3; expected text", command="layers"),
    config("text for all options", 'set = "lanczos.basis=3"', "set is", "as in [set.lanczos]"),
    config("a number for options", "[set]\nlanczos = 30", "set.lanczos is 30; expected a table"),
    # -- values
    config("an unknown choice", 'which = "top"', "which", "'top' is not one of"),
    config("a word for a probability", 'complete = "often"', "complete is often", "a probability"),
    config("no radius", 'eps = ["1/0"]', "eps is 1/0; expected numbers or fractions", command="attack"),
    config("a group without patterns", 'group.a = ""', "a=; expected NAME=A,B", command="layers"),
    config("tol = 3", "tol = 3", "tol is 3", "below 1"),
    config("an unknown solver", 'solver = "lanzcos"', "lanzcos", "lanczos", error=UnknownNameError),
    config("an unknown entry", "set.lanzcos.basis = 3", "lanzcos", "lanczos", error=UnknownNameError),
    config("an unknown option", "set.lanczos.bsis = 3", "bsis", "basis", error=UnknownNameError),
    config("an option out of range", "set.lanczos.basis = 2", "lanczos.basis is 2", error=OptionError),
    config("an option of a wrong type", "set.lanczos.basis = [9]", "lanczos.basis is", error=OptionError),
    config("options of an unused solver", f"{QUADRATIC}\nset.lobpcg.block = 1", "lobpcg", "does not use"),
    config("a problem that is no file", 'problem = "no.py:make"', "there is no file no.py", "Relative paths"),
]
