"""The command line. Results go to stdout, everything else to stderr; nothing heavy is imported for help."""

from __future__ import annotations

import sys
import traceback

import click

from ecgbench.cli.board import board
from ecgbench.cli.compare import compare
from ecgbench.cli.data import data
from ecgbench.cli.names import info, list_
from ecgbench.cli.results import results
from ecgbench.cli.run import plan, run, why
from ecgbench.cli.union import union
from ecgbench.errors import EcgbenchError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ecgbench")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """How robust is this ECG classifier really?

    Example: ecgbench run --model mlp --defense none --defense adaptive --attack pgd100
    """


for command in (run, plan, why, list_, info, results, compare, union, board, data):
    cli.add_command(command)


def main() -> None:
    """Entry point: every expected fault is one sentence on stderr and an exit status of its own."""
    sys.exit(_status(sys.argv[1:]))


def _status(arguments: list[str]) -> int:
    try:
        result = cli.main(arguments, prog_name="ecgbench", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as fault:
        text = fault.format_message()
        click.echo(text if "\n" in text else f"error: {text}", err=True)  # a bare `ecgbench` is shown the help
        return fault.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; what was finished is kept, and the same command goes on from there.", err=True)
        return 130
    except Exception as fault:
        if "--debug" in arguments:
            traceback.print_exc()
        expected = isinstance(fault, EcgbenchError)
        text = (
            str(fault) if expected else f"internal error, {type(fault).__name__}: {fault} (see: ecgbench --debug ...)"
        )
        click.echo(f"error: {text}", err=True)
        return fault.exit_code if isinstance(fault, EcgbenchError) else 1
