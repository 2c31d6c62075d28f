"""The command `eigen`. Each of its commands parses arguments, makes one call of the library, and prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from eigencore.cli.failures import (
    ARGUMENTS,
    FLAGS,
    INTERRUPTED,
    USER_ERRORS,
    report,
    report_unwritten,
)
from eigencore.cli.shell import flush_streams, only_first_prints, prepare_streams, reader_has_left
from eigencore.entries import CommandEntry
from eigencore.errors import PluginError, UsageError
from eigencore.processes import launched_command
from eigencore.registry import PluginRecord, Registered, Registry, disable, load, registry
from eigencore.solving.interrupt import sigterm_as_interrupt

_FILES = {
    "analyze": ("analyze", "compute certified top eigenpairs of a problem and analyze them"),
    "layers": ("layers", "compute the top eigenvalues and traces of every layer"),
    "attack": ("attack", "search for adversarial inputs near the samples of a problem"),
    "show": ("show", "print a run that was saved with --out"),
    "compare": ("compare", "print saved runs side by side, and what differs between them"),
    "plugins": ("listings", "list the installed plugins and their status"),
    "problems": ("listings", "list the registered problems"),
    "backends": ("listings", "list the backends, which turn models into operators"),
    "kinds": ("listings", "list the kinds of operator and their options"),
    "solvers": ("listings", "list the eigensolvers and their options"),
    "attacks": ("listings", "list the adversarial attacks and their options"),
    "analyses": ("listings", "list the analyses and their options"),
    "renderers": ("listings", "list what draws figures and pages, and its options"),
}
OWN = {
    name: CommandEntry(name=name, summary=summary, load=f"eigencore.cli.{file}:{name}")
    for name, (file, summary) in _FILES.items()
}
TERMINATED, BROKEN_PIPE = 143, 141  # 128 plus the number of SIGTERM and of SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "_EIGEN_COMPLETE" in os.environ:
        from eigencore.cli import shell_completion  # noqa: F401 - in place of click's own

        eigen.main(given, prog_name="eigen")
    prepare_streams()
    with sigterm_as_interrupt() as terminated, launched_command(), only_first_prints():
        code = _run(given)
    error = flush_streams()
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    if error is not None and not code:
        code = report_unwritten(error)
        flush_streams()  # stderr may be on the same full disk
    return TERMINATED if terminated and code == INTERRUPTED else code


def _run(given: list[str]) -> int:
    arguments = list(given)
    try:
        with eigen.make_context("eigen", list(given)) as context:
            context.meta[FLAGS] = arguments  # a command adds the flags that its file has
            context.meta[ARGUMENTS] = tuple(given)
            code = eigen.invoke(context)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except BrokenPipeError as error:  # may be a pipe other than our output
        return BROKEN_PIPE if reader_has_left() else report(error, arguments)
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        return report(error, arguments)


class _Commands(click.Group):
    """The commands. Listing them reads only their entries; a command is imported when it is invoked."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.is_eager = False  # so that -p takes effect first, in any position
        return option

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(dict.fromkeys(registered.entry.name for registered in _commands().entries(CommandEntry)))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entries = (registered.entry for registered in _commands().entries(CommandEntry))
        entry = next((entry for entry in entries if entry.name == cmd_name), None)
        return None if entry is None else click.Command(entry.name, help=entry.summary)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if ctx.resilient_parsing and name not in self.list_commands(ctx):
            return None, None, []  # the shell completes the arguments of a misspelt command
        command = load(_commands().find(CommandEntry, name))
        if not isinstance(command, click.Command):
            raise PluginError(
                f"the command {name} is of type {type(command).__name__}; expected a click.Command"
            )
        return name, command, args[1:]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (*USER_ERRORS, OSError):
            raise
        except (Exception, SystemExit) as error:
            if ctx.invoked_subcommand in OWN:
                raise
            if isinstance(error, SystemExit) and not isinstance(error.code, str):
                return error.code
            reason = f"{type(error).__name__}: {error}"
            raise PluginError(f"the command {ctx.invoked_subcommand} failed: {reason}") from error


def _commands() -> Registry:
    """The registry with our own commands, which take precedence over commands of plugins."""
    record = PluginRecord("cli", "eigencore", "")
    own = [Registered(entry, record) for entry in OWN.values()]
    others = [registered for registered in registry().registered if registered.entry.name not in OWN]
    return Registry(registry().records, (*own, *others))


def _disable_plugins(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> None:
    for value in values:
        word, colon, name = value.partition(":")
        if word != "no" or not colon or not name:
            raise UsageError(
                f"-p {value} is not valid; expected no:NAME, which disables the plugin NAME",
                hint="`eigen plugins` lists the names of the plugins.",
            )
        disable(name)


@click.group(cls=_Commands, invoke_without_command=True)
@click.version_option(package_name="eigencore", prog_name="eigen", message="%(prog)s %(version)s")
@click.option(
    "-p",
    metavar="no:NAME",
    multiple=True,
    is_eager=True,
    expose_value=False,
    callback=_disable_plugins,
    help="Disable a plugin; can be given several times.",
)
@click.pass_context
def eigen(ctx: click.Context) -> None:
    """Compute certified top eigenvalues of a network's Hessian and relate them to its robustness."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
