"""The flags that our commands share. `eigencore.cli.failures` reads them too, from the bare arguments."""

from __future__ import annotations

import click

json_flag = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, also on failure.")
verbose_flag = click.option(
    "--verbose", is_flag=True, expose_value=False, help="On failure, print where it happened too."
)
