"""`--resume DIR` and `--save-every`: continues the run in a folder, with the arguments that it began with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eigencore.cli.completion import run_folders
from eigencore.cli.config_file import use_file
from eigencore.errors import UsageError
from eigencore.processes import is_first

if TYPE_CHECKING:
    from collections.abc import Iterator

RESUMED = f"{__name__}.folder"  # key of `Context.meta`
# Options that say what is done with the run, and do not determine it.
_ALLOWED = {"csv", "html", "log", "as_json", "verbose", "save_every", "resume", "max_matvecs", "max_seconds"}


class _ResumeOption(click.Option):
    """Reads the arguments from the folder before click looks for them on the command line."""

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        folder, args = super().handle_parse_result(ctx, opts, args)
        if isinstance(folder, str) and not ctx.resilient_parsing:
            _refuse_arguments(ctx, opts)
            _use(ctx, folder)
        return folder, args


resume_option = click.option(
    "--resume",
    cls=_ResumeOption,
    is_eager=True,
    expose_value=False,
    metavar="DIR",
    shell_complete=run_folders,
    help="Continue the run in this folder, with the arguments that it began with; one that has ended is "
    "printed.",
)


def _seconds(ctx: click.Context, parameter: click.Parameter, text: str) -> float | None:
    """The number, or None for "none"."""
    if text.strip().lower() == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--save-every is {text}; expected seconds of at least 0, or none") from None


save_every_option = click.option(
    "--save-every",
    type=click.UNPROCESSED,
    callback=_seconds,
    default="300",
    show_default=True,
    metavar="S",
    help="With --out, make the products so far durable every S seconds; 0: after every product; none: keep "
    "nothing while the run works.",
)


def resumed_folder() -> str | None:
    """The folder that --resume names."""
    folder: str | None = click.get_current_context().meta.get(RESUMED)
    return folder


@contextmanager
def begun(arguments: Mapping[str, Any]) -> Iterator[bool]:
    """Locks the folder of a run and writes its arguments there; nothing for a run without --out.

    If the request is invalid, the folder is left as it was.

    Args:
        arguments: those of `analyze`.

    Returns:
        Whether the run in the folder is to be resumed, which one that has just begun is as well.

    Raises:
        UsageError: as for `analyze(out=...)`.
    """
    from eigencore.runs.config_text import arguments_text
    from eigencore.runs.folder import check_folder, make_folder
    from eigencore.runs.unfinished import abandon, begin, locked

    if arguments["out"] is None or not is_first():
        yield arguments["out"] is not None
        return
    folder, new = check_folder(arguments["out"]), resumed_folder() is None
    existed = os.path.isdir(folder)
    make_folder(folder)
    try:
        with locked(folder):
            if new:
                begin(folder, arguments_text(arguments))
            try:
                yield True
            except UsageError:
                if new:
                    abandon(folder)
                raise
    except UsageError:
        if not existed and not os.listdir(folder):
            folder.rmdir()
        raise


def _refuse_arguments(ctx: click.Context, opts: Mapping[str, Any]) -> None:
    """Raises UsageError if there are arguments beside --resume that determine the run."""
    given = {
        name
        for name, value in opts.items()
        if value is True or (isinstance(value, str | tuple | list) and value)
    }
    others = [one for one in ctx.command.params if one.name in given - _ALLOWED]
    if others:
        named = ", ".join(max(one.opts, key=len) for one in others)
        raise UsageError(
            f"{named} can't be given with --resume: the run goes on with the arguments that it began with",
            hint="Start a new run in another folder to change them. A sweep over checkpoints is continued by "
            "its own command, without --resume.",
        )


def _use(ctx: click.Context, name: str) -> None:
    """Makes the arguments of the run in the folder those of the command."""
    from eigencore.pipeline.studies.run_folders import SWEEP_ROWS
    from eigencore.runs.folder import CONFIG, RESULT
    from eigencore.runs.unfinished import is_unfinished

    folder = Path(name)
    ctx.meta[RESUMED] = name
    if not is_unfinished(folder) and not os.path.isfile(folder / CONFIG):
        if os.path.isfile(folder / RESULT):
            return
        if os.path.isfile(folder / SWEEP_ROWS):
            raise UsageError(
                f"{folder} holds the rows of several checkpoints, which --resume does not continue",
                hint="Give the command of the sweep again: it computes the rows that are missing.",
            )
        raise UsageError(
            f"there is no run in {folder}",
            hint="Name a folder that `eigen analyze --out` wrote, or start the run with it.",
        )
    if not os.path.isfile(folder / CONFIG):
        raise UsageError(
            f"{folder} does not have the arguments of its run: there is no {CONFIG}",
            hint="A run that was started from Python is continued by analyze(..., out=..., resume=True).",
        )
    use_file(ctx, str(folder / CONFIG), {})
    ctx.default_map = {**(ctx.default_map or {}), "out": name}
