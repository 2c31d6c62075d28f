"""Plugins are discovered by real entry points and loaded separately, so that a broken one affects no other.

The tests do not depend on the version of pluggy: they concern rules of this project.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import textwrap
import typing
from dataclasses import dataclass
from pathlib import Path

import pytest

from eigencore import hookspecs
from eigencore.entries import (
    AnalysisEntry,
    BackendEntry,
    Capability,
    Entry,
    KindEntry,
    ProblemEntry,
    SolverEntry,
)
from eigencore.errors import CapabilityError, PluginError, UnknownNameError, UsageError
from eigencore.registry import PluginRecord, disable, load, load_options, loading, registry, require
from eigencore.registry import catalogue as registry_module
from eigencore.registry.wording import entry_kind, type_of

BUNDLED = {
    *(
        "arpack",
        "attacks",
        "demo",
        "jax",
        "krylov",
        "numpy",
        "power",
        "report",
        "robustness",
        "spectrum",
        "torch",
    )
}

HEADER = """
from eigencore.hookspecs import hookimpl
from eigencore.interfaces import *
def solver(name, **more):
    return SolverEntry(name=name, summary="made up", load="made_up:solve", **more)
"""

GOOD = """
@hookimpl
def eigen_solvers():
    return [solver("steady")]
"""


@dataclass
class Site:
    """A folder on sys.path, for distributions with plugins."""

    folder: Path

    def install(
        self,
        plugin: str,
        code: str,
        *,
        distribution: str | None = None,
        version: str = "1.0",
        value: str | None = None,
        points: str | None = None,
    ) -> str:
        """Writes a module and the metadata of its distribution, and returns the module's name."""
        distribution = distribution or f"dist-{plugin}"
        module = re.sub(r"\W", "_", f"made_up_{distribution}_{plugin}")
        (self.folder / f"{module}.py").write_text(HEADER + textwrap.dedent(code))
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = points or f"[eigencore]\n{plugin} = {value or module}\n"
        with (info / "entry_points.txt").open("a") as file:
            file.write(lines)
        importlib.invalidate_caches()
        return module

    def run(self, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs code in a new interpreter with the folder on its path."""
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, "PYTHONPATH": str(self.folder), **environment},
            capture_output=True,
            text=True,
            timeout=600,
        )


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("EIGEN_DISABLE_PLUGINS", raising=False)
    monkeypatch.setattr(registry_module, "_switched_off", set())
    registry.cache_clear()
    yield Site(tmp_path)
    registry.cache_clear()
    for name in [name for name in sys.modules if name.startswith("made_up_")]:
        del sys.modules[name]


def record(name: str, distribution: str | None = None) -> PluginRecord:
    found = [
        one for one in registry().records if one.name == name and distribution in (None, one.distribution)
    ]
    assert len(found) == 1
    return found[0]


def names(kind: type[Entry] = Entry) -> list[str]:
    return [one.entry.name for one in registry().entries(kind)]


def assert_only_broken(name: str, *words: str) -> None:
    broken = record(name)
    assert broken.status == "broken"
    assert broken.error is not None
    assert "\n" not in broken.error
    for word in words:
        assert word in broken.error
    assert {one.name for one in registry().records if one.status == "loaded"} == BUNDLED | {"good"}
    assert "steady" in names()
    assert not [one for one in registry().registered if one.plugin.name == name]


# -- discovery ---------------------------------------------------------------------------------------------


def test_the_hooks_are_those_of_the_specification():
    specified = {
        name: typing.get_type_hints(
            spec, vars(hookspecs) | dict.fromkeys(("interfaces", "entries"), sys.modules[Entry.__module__])
        )
        for name, spec in vars(hookspecs).items()
        if name.startswith("eigen_")
    }
    kinds = {name: typing.get_args(hints["return"])[0] for name, hints in specified.items()}
    assert kinds == loading.HOOKS


def test_the_bundled_plugins_are_discovered_like_any_other(site):
    assert {one.name for one in registry().records} >= BUNDLED
    assert {one.distribution for one in registry().records if one.name in BUNDLED} == {"eigencore"}
    assert {"lanczos", "arpack", "deflated_power", "accel_power", "lobpcg"} <= set(names(SolverEntry))
    assert registry().find(BackendEntry, "torch").extra == "torch"


def test_a_plugin_is_recorded_with_its_distribution_and_its_entries_by_kind(site):
    site.install(
        "mine",
        """
        @hookimpl
        def eigen_solvers():
            return [solver("zz_last"), solver("aa_first")]

        @hookimpl
        def eigen_problems():
            return [ProblemEntry(name="mine:well", summary="s", load="a.b:c.d")]
        """,
        distribution="my-dist",
        version="2.3",
    )
    assert record("mine") == PluginRecord("mine", "my-dist", "2.3", "loaded", None)
    mine = [one for one in registry().entries(SolverEntry) if one.plugin.name == "mine"]
    assert [one.entry.name for one in mine] == ["aa_first", "zz_last"]
    assert "mine:well" in names(ProblemEntry)
    assert "mine:well" not in names(SolverEntry)
    assert registry().find(ProblemEntry, "mine:well").load == "a.b:c.d"


@pytest.mark.parametrize("shape", ["instance", "plain_class"])
def test_a_plugin_may_be_an_object(site, shape):
    module = site.install(
        "objects",
        """
        class Base:
            @hookimpl
            def eigen_solvers(self):
                return [solver(self.name)]

        class Plugin(Base):
            name = "from_instance"

            @property
            def eigen_attacks(self):
                raise AssertionError("a property was called")

            @hookimpl
            def eigen_problems(self):
                return []

        instance = Plugin()

        class plain_class:
            @staticmethod
            @hookimpl
            def eigen_solvers():
                return [solver("from_plain_class")]

            @classmethod
            @hookimpl
            def eigen_problems(cls):
                return [ProblemEntry(name=cls.__name__, summary="s", load="a:b")]
        """,
        points="\n",
    )
    site.install("holder", "", points=f"[eigencore]\nobjects = {module}:{shape}\n")
    assert record("objects").error is None
    assert f"from_{shape}" in names(SolverEntry)
    assert ("plain_class" in names(ProblemEntry)) == (shape == "plain_class")


def test_a_lazy_attribute_of_a_module_is_not_accessed(site):
    module = site.install(
        "lazy",
        """
        accessed = []

        def __getattr__(name):
            accessed.append(name)
            raise AssertionError(f"{name} was accessed")

        def __dir__():
            accessed.append("dir")
            return ["eigen_solvers", "torch_things"]

        @hookimpl
        def eigen_solvers():
            return [solver("lazy_one")]
        """,
    )
    assert record("lazy").status == "loaded"
    assert "lazy_one" in names(SolverEntry)
    assert sys.modules[module].accessed == []


def test_a_hook_may_have_another_name_and_a_hook_of_a_later_version_is_optional(site):
    site.install(
        "renamed",
        """
        @hookimpl(specname="eigen_solvers")
        def eigen_my_solvers():
            return [solver("renamed")]

        @hookimpl(optionalhook=True)
        def eigen_things_to_come():
            return [1]
        """,
    )
    assert record("renamed").error is None
    assert "renamed" in names(SolverEntry)


# -- broken plugins ----------------------------------------------------------------------------------------


def returning(value: str, hook: str = "eigen_solvers", *, mark: str = "@hookimpl") -> str:
    return f"{mark}\ndef {hook}():\n    return {value}\n"


A_PROBLEM = "ProblemEntry(name='twin', summary='s', load='a:b')"

A_RENDERER = "name='one', summary='s', load='a:b'"

BROKEN = {
    "import error": ("import not_there_at_all", ["ModuleNotFoundError", "not_there_at_all"]),
    "syntax error": ("def (", ["SyntaxError"]),
    "sys.exit at import": ("import sys; sys.exit(3)", ["sys.exit(3)"]),
    "an abort that is not an Exception": (
        "class Panic(BaseException): ...\nraise Panic('rust')",
        ["Panic: rust"],
    ),
    "hook raises": (returning("[]") + returning("1 / 0", "eigen_problems"), ["ZeroDivisionError: division"]),
    "hook raises in two lines": ("raise ValueError('first\\nsecond')", ["ValueError: first second"]),
    "hook calls sys.exit": ("@hookimpl\ndef eigen_solvers():\n    raise SystemExit", ["sys.exit()"]),
    "returns None": (returning("None"), ["eigen_solvers returned None", "a list of SolverEntry"]),
    "returns one entry": (returning("solver('one')"), ["returned a SolverEntry", "a list"]),
    "is a generator": (returning("(yield solver('one'))"), ["returned a generator", "a list"]),
    "entry of another kind": (
        returning("[solver('one')]", "eigen_problems"),
        ["eigen_problems returned a list with a SolverEntry", "expected ProblemEntry"],
    ),
    "entry is a dict": (returning("[{'name': 'one'}]"), ["returned a list with a dict"]),
    "illegal name": (returning("[solver('a.b')]"), ["'a.b'", "letters"]),
    "name with @": (returning("[solver('a@b')]"), ["'a@b'"]),
    "name of two colons": (returning("[solver('a:b:c')]"), ["'a:b:c'"]),
    "empty name": (returning("[solver('')]"), ["''"]),
    "no name": (returning("[solver(None)]"), ["None"]),
    "reserved name": (returning("[solver('problem')]"), ["--set problem."]),
    "duplicate name": (returning("[solver('twin'), solver('twin')]"), ["2 solver entries named 'twin'"]),
    "duplicate in another hook": (
        returning(f"[{A_PROBLEM}, {A_PROBLEM}]", "eigen_problems"),
        ["2 problem entries named 'twin'"],
    ),
    "load is not an import string": (
        returning(f"[{A_PROBLEM}]".replace("a:b", "a.b"), "eigen_problems"),
        ["the load of twin is 'a.b'", "module:attribute"],
    ),
    "options is the class itself": (
        returning("[solver('one', options=dict)]"),
        ["the options of one is", "module:attribute"],
    ),
    "computes an unknown end": (
        returning("[solver('one', which=('LM', 'XX'))]"),
        ["the which of one has 'XX'", "BE"],
    ),
    "writes files without a suffix": (
        returning(f"[RendererEntry({A_RENDERER}, suffixes=('.tex',))]", "eigen_renderers"),
        ["the suffixes of one are ('.tex',)", "without the dot"],
    ),
    "needs an unknown capability": (
        returning("[solver('one', needs=frozenset({'gradients'}))]"),
        ["one needs gradients", "input_gradient"],
    ),
    "misspelt hook": (
        returning("[]", "eigen_solver"),
        ["no hook eigen_solver", "did you mean eigen_solvers?"],
    ),
    "misspelt hook without the prefix": (returning("[]", "solvers"), ["did you mean eigen_solvers?"]),
    "hook unlike any other": (
        returning("[]", "xyz"),
        ["no hook xyz", "the hooks are eigen_problems, eigen_backends"],
    ),
    "unmarked": (returning("[]", mark=""), ["eigen_solvers lacks @hookimpl"]),
    "unmarked and misspelt": (returning("[]", "eigen_solver", mark=""), ["eigen_solver lacks @hookimpl"]),
    "takes an argument": ("@hookimpl\ndef eigen_solvers(config):\n    return []", ["config"]),
    "is a wrapper": (returning("(yield)", mark="@hookimpl(wrapper=True)"), ["eigen_solvers is a wrapper"]),
    "is an old wrapper": (returning("(yield)", mark="@hookimpl(hookwrapper=True)"), ["is a wrapper"]),
    "is not a plain function": (
        "import functools\n" + returning("[]", mark="@hookimpl\n@functools.cache"),
        ["eigen_solvers is a", "must be a plain function"],
    ),
}


@pytest.mark.parametrize(("code", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_plugin_is_recorded_and_affects_no_other(site, code, words):
    site.install("aaa_broken", code)
    site.install("good", GOOD)
    assert_only_broken("aaa_broken", *words)


def test_an_entry_point_that_refers_to_nothing_is_broken(site):
    site.install("good", GOOD)
    module = site.install("bad", "", value="not a module!")
    assert record("bad").status == "broken"
    site.install("missing", "", value=f"{module}:nothing_here")
    registry.cache_clear()
    assert "nothing_here" in (record("missing").error or "")
    assert "steady" in names()


def test_unreadable_entry_points_are_recorded_unless_they_belong_to_other_programs(site):
    site.install("good", GOOD)
    site.install("garbled", "", points="[eigencore]\nno equals sign\n")
    site.install("unrelated", "", points="[console_scripts]\nno equals sign\n")
    (site.folder / "dist_binary-1.0.dist-info").mkdir()
    (site.folder / "dist_binary-1.0.dist-info" / "entry_points.txt").write_bytes(
        b"[eigencore]\n\xff\xfe = a\n"
    )
    importlib.invalidate_caches()
    assert_only_broken("dist-garbled", "can't be read")
    assert not [one for one in registry().records if "unrelated" in one.distribution]


def test_keyboard_interrupt_is_never_suppressed(site):
    site.install("interrupted", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        registry()
    site.install("interrupted", "@hookimpl\ndef eigen_solvers():\n    raise KeyboardInterrupt", points="\n")
    with pytest.raises(KeyboardInterrupt):
        registry()


def test_output_of_a_plugin_while_loading_goes_to_stderr(site):
    site.install("loud", "print('hello from loud')\n" + GOOD)
    ran = site.run("from eigencore.registry import registry; print(len(registry().records))")
    assert ran.stdout.strip() == str(len(BUNDLED) + 1)
    assert "hello from loud" in ran.stderr


# -- names -------------------------------------------------------------------------------------------------


def test_an_unknown_name_suggests_near_names_and_lists_plugins_that_are_not_loaded(site, monkeypatch):
    site.install("good", GOOD)
    site.install("torn", "import not_there_at_all")
    monkeypatch.setenv("EIGEN_DISABLE_PLUGINS", "power")
    with pytest.raises(UnknownNameError) as raised:
        registry().find(SolverEntry, "lanczso")
    message = str(raised.value)
    assert "unknown solver: 'lanczso'" in message
    assert "Did you mean lanczos?" in message
    assert "Plugin torn failed to load: ModuleNotFoundError: No module named 'not_there_at_all'." in message
    assert "Plugin power is disabled." in message


def test_the_error_says_if_a_name_is_of_another_kind(site):
    with pytest.raises(UnknownNameError, match="torch is a backend") as raised:
        registry().find(SolverEntry, "torch")
    assert "unknown solver: 'torch'" in str(raised.value)
    with pytest.raises(UnknownNameError, match="unknown analysis: "):
        registry().find(AnalysisEntry, "torch")


def test_entries_of_the_same_name_are_both_listed_and_distinguished_by_distribution(site):
    site.install("first", GOOD, distribution="alpha-dist")
    site.install("second", GOOD.replace('"steady"', '"steady", which=("SA",)'), distribution="beta.dist")
    assert record("first").status == record("second").status == "loaded"
    assert names(SolverEntry).count("steady") == 2
    with pytest.raises(UsageError) as raised:
        registry().find(SolverEntry, "steady")
    assert not isinstance(raised.value, UnknownNameError)
    assert "first@alpha-dist" in str(raised.value)
    assert "second@beta.dist" in str(raised.value)
    assert "Use steady@alpha-dist or steady@beta.dist" in str(raised.value)
    assert registry().find(SolverEntry, "steady@alpha-dist").which == ("LM", "LA", "SA", "BE")
    assert registry().find(SolverEntry, "steady@Beta_Dist").which == ("SA",)
    with pytest.raises(UnknownNameError, match="Did you mean steady@alpha-dist"):
        registry().find(SolverEntry, "steady@alpa-dist")


def test_the_same_name_in_two_kinds_of_entry_is_that_of_two_things(site):
    site.install("first", GOOD, distribution="alpha-dist")
    code = (
        "@hookimpl\ndef eigen_problems():\n    return [ProblemEntry(name='steady', summary='s', load='a:b')]"
    )
    site.install("second", code, distribution="beta-dist")
    assert registry().find(SolverEntry, "steady").load == "made_up:solve"
    assert registry().find(ProblemEntry, "steady").load == "a:b"
    assert registry().find(SolverEntry, "steady@alpha-dist").name == "steady"
    assert registry().find(ProblemEntry, "steady@beta-dist").name == "steady"


def test_an_ambiguity_within_one_distribution_is_resolved_by_disabling_a_plugin(site):
    module = site.install("first", GOOD, distribution="alpha-dist")
    site.install("second", GOOD, distribution="alpha-dist")
    for name in ("steady", "steady@alpha-dist"):
        with pytest.raises(UsageError, match="Disable one of the plugins") as raised:
            registry().find(SolverEntry, name)
        assert "Use " not in str(raised.value)
    disable("second")
    assert registry().find(SolverEntry, "steady").load == "made_up:solve"
    assert module in sys.modules


def test_two_distributions_with_an_entry_point_of_the_same_name_are_both_loaded(site):
    site.install("twin", GOOD, distribution="alpha-dist")
    site.install("twin", GOOD.replace("steady", "other"), distribution="beta-dist")
    assert record("twin", "alpha-dist").status == record("twin", "beta-dist").status == "loaded"
    assert {"steady", "other"} <= set(names(SolverEntry))
    disable("twin@beta-dist")
    assert record("twin", "alpha-dist").status == "loaded"
    assert record("twin", "beta-dist").status == "disabled"


def test_a_second_copy_of_a_distribution_is_shadowed(site, tmp_path, monkeypatch):
    site.install("twin", GOOD, distribution="alpha-dist", version="2.0")
    later = tmp_path / "later"
    later.mkdir()
    Site(later).install("twin", "raise AssertionError", distribution="Alpha.Dist", version="1.0")
    monkeypatch.setattr(sys, "path", [*sys.path, str(later)])
    assert record("twin", "alpha-dist").status == "loaded"
    shadowed = record("twin", "Alpha.Dist")
    assert (shadowed.status, shadowed.version) == ("shadowed", "1.0")
    assert str(tmp_path) in (shadowed.error or "")
    assert registry().find(SolverEntry, "steady").name == "steady"


def test_a_folder_that_is_on_the_path_twice_is_not_a_second_copy(site, tmp_path, monkeypatch):
    site.install("twin", GOOD)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path), str(link)])
    assert record("twin").status == "loaded"
    assert names(SolverEntry).count("steady") == 1


# -- kinds of operator -------------------------------------------------------------------------------------

KINDS = """
def kind(backend, name, **more):
    return KindEntry(backend=backend, name=name, summary="made up", load="made_up:operator", **more)

@hookimpl
def eigen_kinds():
    return [{}]
"""


def test_a_kind_is_unique_within_its_backend(site):
    code = KINDS.format("kind('numpy', 'mine'), kind('torch', 'mine', semidefinite=True)")
    site.install("kinds", code, distribution="my-kinds")
    assert record("kinds").error is None
    assert not registry().find_kind("numpy", "mine").semidefinite
    assert registry().find_kind("torch", "mine").semidefinite
    assert [one.entry.backend for one in registry().kinds_named("mine")] == ["numpy", "torch"]
    assert [one.entry.backend for one in registry().kinds_named("torch:mine")] == ["torch"]
    assert [one.entry.backend for one in registry().kinds_named("torch:mine@my-kinds")] == ["torch"]
    assert {"hessian", "ggn", "mine"} <= {one.entry.name for one in registry().kinds("numpy")}
    assert "mine" not in {one.entry.name for one in registry().entries(SolverEntry)}


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ("kind('torch', 'mine'), kind('torch', 'mine')", ["2 kinds of operator named 'mine' on torch"]),
        ("solver('mine')", ["eigen_kinds returned a list with a SolverEntry", "expected KindEntry"]),
        ("kind('torch', 'a.b')", ["'a.b'"]),
        ("kind('torch', 'none')", ["none"]),
        ("kind('torch', 'a', needs={'all'})", ["a needs all"]),
    ],
)
def test_kinds_that_cannot_be(site, kinds, words):
    site.install("aaa_broken", KINDS.format(kinds))
    site.install("good", GOOD)
    assert_only_broken("aaa_broken", *words)
    with pytest.raises(UnknownNameError, match="Plugin aaa_broken failed to load"):
        registry().find_kind("torch", "mine")
    with pytest.raises(UnknownNameError, match="Plugin aaa_broken failed to load"):
        registry().kinds_named("mine")


def test_one_plugin_may_give_a_kind_of_operator_and_a_solver_the_same_name(site):
    site.install("both", KINDS.format("kind('torch', 'steady')") + GOOD)
    assert record("both").status == "loaded"
    assert registry().find_kind("torch", "steady").load == "made_up:operator"
    assert registry().find(SolverEntry, "steady").load == "made_up:solve"


def test_a_kind_of_another_package_does_not_hide_an_entry_of_the_same_name(site):
    site.install("kinds", KINDS.format("kind('torch', 'lanczos')"))
    assert registry().find(SolverEntry, "lanczos").load.startswith("eigencore_krylov")
    assert registry().find_kind("torch", "lanczos").load == "made_up:operator"


def test_the_same_kind_by_two_packages_is_ambiguous_for_those_who_ask(site):
    site.install("first", KINDS.format("kind('numpy', 'ggn', semidefinite=True)"), distribution="alpha-dist")
    assert record("first").status == "loaded"
    with pytest.raises(UsageError) as raised:
        registry().find_kind("numpy", "ggn")
    message = str(raised.value)
    assert not isinstance(raised.value, UnknownNameError)
    assert "'ggn' is the name of 2 entries: a kind of plugin first@alpha-dist" in message
    assert "Use ggn@alpha-dist or ggn@eigencore" in message
    assert registry().find_kind("numpy", "ggn@Alpha.Dist").load == "made_up:operator"
    assert registry().find_kind("numpy", "ggn@eigencore").load == "eigencore_numpy.kinds:ggn"
    assert registry().find_kind("torch", "ggn").load.startswith("eigencore_torch")
    with pytest.raises(UnknownNameError, match="'ggn@beta-dist'"):
        registry().find_kind("numpy", "ggn@beta-dist")


def test_a_kind_on_a_backend_that_is_not_installed_is_listed_and_harms_nobody(site):
    site.install("kinds", KINDS.format("kind('tinygrad', 'hessian')"))
    assert record("kinds").status == "loaded"
    assert registry().find_kind("tinygrad", "hessian").load == "made_up:operator"
    assert registry().find_kind("numpy", "hessian").load == "eigencore_numpy.kinds:hessian"
    assert "tinygrad" in {one.entry.backend for one in registry().entries(KindEntry)}
    with pytest.raises(UnknownNameError, match="unknown backend: 'tinygrad'"):
        registry().find(BackendEntry, "tinygrad")


def test_an_unknown_kind_suggests_the_nearest_on_its_backend(site):
    with pytest.raises(UnknownNameError, match="kind of operator on the backend torch: 'fischer'") as raised:
        registry().find_kind("torch", "fischer")
    assert "Did you mean fisher or" in str(raised.value)
    with pytest.raises(UnknownNameError, match="on the backend numpy: 'fisher'"):
        registry().find_kind("numpy", "fisher")
    with pytest.raises(UnknownNameError, match="unknown kind of operator: 'hessain'") as raised:
        registry().kinds_named("hessain")
    assert "Did you mean hessian or" in str(raised.value)


# -- disabling ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["variable", "call"])
def test_a_disabled_plugin_is_not_imported(site, how):
    module = site.install("off", "raise AssertionError('imported')")
    statement = "" if how == "variable" else "disable('off')"
    code = f"""
        import sys
        from eigencore.registry import disable, registry
        {statement}
        print([(one.status, one.error) for one in registry().records if one.name == "off"])
        print({module!r} in sys.modules)
        """
    ran = site.run(code, EIGEN_DISABLE_PLUGINS=" krylov, off ," if how == "variable" else "")
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == ["[('disabled', None)]", "False"]


def test_disable_rebuilds_a_registry_that_is_already_built(site):
    site.install("good", GOOD)
    before = registry()
    assert registry() is before
    disable("good", "krylov")
    assert record("good").status == record("krylov").status == "disabled"
    assert "steady" not in names()
    assert "lanczos" not in names()
    assert "steady" in [one.entry.name for one in before.registered]


def test_disabling_an_unknown_plugin_is_an_error_or_in_the_environment_a_warning(site, monkeypatch):
    with pytest.raises(UnknownNameError, match="unknown plugin: 'krilov'") as raised:
        disable("torch", "krilov")
    assert "Did you mean krylov?" in str(raised.value)
    assert record("torch").status == "loaded"
    registry.cache_clear()
    monkeypatch.setenv("EIGEN_DISABLE_PLUGINS", "krilov,torch")
    with pytest.warns(UserWarning, match=r"EIGEN_DISABLE_PLUGINS: unknown plugin: 'krilov'.*krylov"):
        registry()
    assert record("torch").status == "disabled"


# -- wording -----------------------------------------------------------------------------------------------


def test_the_kind_of_an_entry_is_a_noun():
    assert [entry_kind(kind) for kind in loading.HOOKS.values()] == [
        *("problem", "backend", "kind", "solver", "attack", "analysis", "command", "renderer"),
        "monitor",
    ]
    assert entry_kind(entry("a:b")) == "solver"
    assert entry_kind(Entry) == "entry"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "None"), ({}, "a dict"), (3, "an int"), (len, "a builtin_function_or_method")],
    ids=repr,
)
def test_a_type_has_its_article(value, text):
    assert type_of(value) == text


# -- using an entry ----------------------------------------------------------------------------------------


def entry(load: str, **more: typing.Any) -> SolverEntry:
    return SolverEntry(name="made", summary="s", load=load, **more)


def test_load_follows_the_import_string():
    assert load(entry("os:path.join")) is os.path.join


def test_the_error_of_a_missing_extra_says_how_to_install_it(site):
    site.install(
        "needy",
        """
        @hookimpl
        def eigen_solvers():
            return [solver("needy", extra="gpu"), solver("plain")]
        """,
        distribution="needy-dist",
    )
    (site.folder / "made_up.py").write_text("import not_there.at_all\ndef solve(): ...\n")
    with pytest.raises(PluginError, match="solver needy needs not_there, which is not installed") as raised:
        load(registry().find(SolverEntry, "needy"))
    assert raised.value.hint == 'Run: pip install "needy-dist[gpu]"'
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)
    with pytest.raises(PluginError, match="plain can't be loaded from made_up:solve: ModuleNotFoundError"):
        load(registry().find(SolverEntry, "plain"))
    with pytest.raises(PluginError) as raised:
        load(entry("not_there:solve", extra="torch"))
    assert raised.value.hint is None, "its own module is missing, which no extra installs"
    with pytest.raises(PluginError) as raised:
        load(entry("made_up:solve", extra="torch"))
    assert raised.value.hint == 'Run: pip install "eigencore[torch]"'


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise OSError('libcuda.so: cannot open')", "OSError: libcuda.so: cannot open"),
        ("import sys; sys.exit(2)", "sys.exit(2)"),
        ("", "has no attribute 'solve'"),
    ],
)
def test_an_entry_that_fails_when_it_is_loaded_is_a_plugin_error(site, code, words):
    module = site.install("late", code, points="\n")
    with pytest.raises(PluginError) as raised:
        load(entry(f"{module}:solve", extra="torch"))
    assert raised.value.message.startswith(f"made can't be loaded from {module}:solve: ")
    assert words in raised.value.message
    assert raised.value.exit_code == 4


def test_interruptions_and_errors_of_eigencore_while_loading_are_not_converted(site):
    module = site.install("late", "raise KeyboardInterrupt", points="\n")
    with pytest.raises(KeyboardInterrupt):
        load(entry(f"{module}:solve"))
    module = site.install("refuses", "from eigencore.errors import *\nraise UsageError('so')", points="\n")
    with pytest.raises(UsageError, match=r"^so$"):
        load(entry(f"{module}:solve"))


def test_options_are_a_dataclass_or_none(site):
    module = site.install(
        "late",
        """
        from dataclasses import dataclass

        @dataclass(frozen=True)
        class Options:
            basis: int = 3

        class Plain: ...
        """,
        points="\n",
    )
    assert load_options(entry("a:b")) is None
    assert load_options(entry("a:b", options=f"{module}:Options")).__name__ == "Options"
    for wrong in ("Plain", "dataclass"):
        with pytest.raises(PluginError, match=f"{wrong}, the options of made, is not a dataclass"):
            load_options(entry("a:b", options=f"{module}:{wrong}"))


def test_the_error_lists_the_capabilities_that_a_problem_does_not_offer():
    needy = entry("a:b", needs=frozenset({Capability.PRODUCTS, Capability.INPUT_GRADIENT}))
    require(needy, frozenset(Capability))
    require(entry("a:b"), frozenset())
    with pytest.raises(CapabilityError, match=r"^made needs input_gradient; this problem offers products$"):
        require(needy, frozenset({Capability.PRODUCTS}))
    with pytest.raises(
        CapabilityError, match=r"^made needs input_gradient, products; demo:x offers nothing$"
    ):
        require(needy, frozenset(), "demo:x")
