"""The command `eigen`: a file a command, each of which parses, makes one call of the library, and prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from eigencore.cli.failures import INTERRUPTED, WORDED, report, report_unwritten
from eigencore.cli.shell import open_streams, reader_is_gone, termination, unwritten
from eigencore.entries import CommandEntry
from eigencore.errors import PluginError, UsageError
from eigencore.registry import PluginRecord, Registered, Registry, disable, load, registry

_FILES = {
    "analyze": ("analyze", "top eigenpairs of a problem, certified, and what they say"),
    "show": ("show", "print a run that was saved with --out"),
    "plugins": ("listings", "what is installed, and what became of it"),
    "problems": ("listings", "problems that have a name"),
    "backends": ("listings", "what makes operators of models"),
    "solvers": ("listings", "eigensolvers and their options"),
    "attacks": ("listings", "adversarial attacks and their options"),
    "analyses": ("listings", "what can be made of eigenpairs"),
}
OWN = {
    name: CommandEntry(name=name, summary=summary, load=f"eigencore.cli.{file}:{name}")
    for name, (file, summary) in _FILES.items()
}
TERMINATED, UNREAD = 143, 141  # 128 and the number of SIGTERM, of SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "_EIGEN_COMPLETE" in os.environ:
        eigen.main(given, prog_name="eigen")
    open_streams()
    with termination() as terminated:
        code = _run(given)
    why = unwritten()
    if isinstance(why, BrokenPipeError):
        return UNREAD
    if why is not None and not code:
        code = report_unwritten(why)
        unwritten()  # stderr may be on the same disk
    return TERMINATED if terminated and code == INTERRUPTED else code


def _run(arguments: list[str]) -> int:
    try:
        with eigen.make_context("eigen", list(arguments)) as context:
            code = eigen.invoke(context)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except BrokenPipeError as error:  # of our output, or of something else's
        return UNREAD if reader_is_gone() else report(error, arguments)
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        return report(error, arguments)


class _Commands(click.Group):
    """Commands are listed by their entries alone; one is imported when it is invoked."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.is_eager = False  # so that -p comes first wherever it stands
        return option

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(dict.fromkeys(one.entry.name for one in _commands().entries(CommandEntry)))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        named = (one.entry for one in _commands().entries(CommandEntry) if one.entry.name == cmd_name)
        entry = next(named, None)
        return None if entry is None else click.Command(entry.name, help=entry.summary)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if ctx.resilient_parsing and name not in self.list_commands(ctx):  # a shell asks, of a misspelt one
            return None, None, []
        command = load(_commands().find(CommandEntry, name))
        if not isinstance(command, click.Command):
            raise PluginError(
                f"the command {name} is of type {type(command).__name__}; expected a click.Command"
            )
        return name, command, args[1:]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (*WORDED, OSError):
            raise
        except (Exception, SystemExit) as error:
            if ctx.invoked_subcommand in OWN:
                raise
            if isinstance(error, SystemExit) and not isinstance(error.code, str):
                return error.code
            told = f"{type(error).__name__}: {error}"
            raise PluginError(f"the command {ctx.invoked_subcommand} failed: {told}") from error


def _commands() -> Registry:
    """The registry, with our own commands in place of plugins' commands of the same names."""
    here = PluginRecord("cli", "eigencore", "")
    others = [one for one in registry().registered if one.entry.name not in OWN]
    return Registry(registry().records, (*(Registered(entry, here) for entry in OWN.values()), *others))


def _leave_out(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> None:
    for value in values:
        word, colon, name = value.partition(":")
        if word != "no" or not colon or not name:
            raise UsageError(f"-p {value}; expected no:NAME", hint="`eigen plugins` lists their names.")
        disable(name)


@click.group(cls=_Commands, invoke_without_command=True)
@click.version_option(package_name="eigencore", prog_name="eigen", message="%(prog)s %(version)s")
@click.option(
    "-p",
    metavar="no:NAME",
    multiple=True,
    is_eager=True,
    expose_value=False,
    callback=_leave_out,
    help="Leave a plugin out; can be given more than once.",
)
@click.pass_context
def eigen(ctx: click.Context) -> None:
    """Top eigenvalues of a network's Hessian, certified, and what they say about how easily it is fooled."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
