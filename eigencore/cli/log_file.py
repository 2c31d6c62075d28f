"""The option --log FILE: what happens in a command, as lines with date and time that are added to a file."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import datetime

import click

from eigencore.cli.completion import files
from eigencore.cli.output import named_once
from eigencore.errors import UsageError, described
from eigencore.processes import is_first

_KEY = "eigencore.log"


def _remember(ctx: click.Context, parameter: click.Parameter, place: str | None) -> None:
    ctx.meta[_KEY] = named_once(ctx, parameter, place)


log_option = click.option(
    "--log",
    metavar="FILE",
    callback=_remember,
    expose_value=False,
    shell_complete=files,
    help="Add a line with date and time to this file for all that happens: progress, how each solve and "
    "analysis ended, and failures.",
)


@contextlib.contextmanager
def log_file() -> Iterator[Callable[[object], None] | None]:
    """A function that adds a line to the file of --log; None without that option, or outside a command.

    Meanwhile, what the library logs under "eigencore" at level INFO goes to the file, too.

    Raises:
        UsageError: the file can't be written.
    """
    context = click.get_current_context(silent=True)
    place = None if context is None else context.meta.get(_KEY)
    if context is None or place is None or not is_first():
        yield None
        return
    try:
        handler = _LogFile(place, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"--log {place} can't be written: {error.strerror}", hint="Give a file in an existing folder."
        ) from None
    logger = logging.getLogger("eigencore")
    before = logger.level
    logger.addHandler(handler)
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)
    given = (
        f"{name}={value}" for name, value in context.params.items() if value not in (None, False, (), {})
    )
    handler.add(f"{context.command_path} begins: {', '.join(given)}")
    try:
        yield handler.add
        handler.add(f"{context.command_path} has computed its result")
    except BaseException as error:
        handler.add(f"{context.command_path} ends with {described(error)}")
        raise
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        handler.close()


class _LogFile(logging.FileHandler):
    """The file, whose lines are written at once. A full disk does not end a run; it is reported once."""

    failed = False

    def add(self, news: object) -> None:
        self.handle(logging.makeLogRecord({"msg": str(news)}))

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        return f"{when} {record.getMessage()}".rstrip().replace("\n", "\n    ")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is that of logging
        if not self.failed:
            self.failed = True
            click.echo(f"the log {self.baseFilename} is incomplete: {sys.exc_info()[1]}", err=True)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # of a line that could not be written before either
            super().close()
