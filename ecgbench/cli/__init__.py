"""The command line. Results go to stdout, everything else to stderr; nothing heavy is imported for help."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress

import click

from ecgbench.cli.board import board
from ecgbench.cli.certify import certify
from ecgbench.cli.data import data
from ecgbench.cli.fakes import fakes
from ecgbench.cli.names import info, list_
from ecgbench.cli.results import results
from ecgbench.cli.run import explain, plan, run
from ecgbench.cli.study import study
from ecgbench.cli.submit import submit
from ecgbench.cli.susceptibility import susceptibility
from ecgbench.cli.tune import tune
from ecgbench.cli.union import union
from ecgbench.core.errors import EcgbenchError, refused


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ecgbench-robustness")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """How robust is this ECG classifier really?

    Example: ecgbench run --model mlp --defense none --defense adaptive --attack pgd100
    """


for command in (
    *(run, plan, explain, list_, info, results, study, susceptibility, tune, union),
    *(certify, board, submit, data, fakes),
):
    cli.add_command(command)


def main() -> None:
    """Entry point: every expected fault is one sentence on stderr and an exit status of its own."""
    status = _status(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError as fault:
        status = status or _unprinted(fault)
    sys.exit(status)


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
        if isinstance(fault, OSError):
            return _unprinted(fault) if fault.filename is None else _said(refused("a file", fault))
        if isinstance(fault, EcgbenchError):
            return _said(fault)
        click.echo(f"error: internal error, {type(fault).__name__}: {fault} (see: ecgbench --debug ...)", err=True)
        return 1


def _said(fault: EcgbenchError) -> int:
    click.echo(f"error: {fault}", err=True)
    return fault.exit_code


def _unprinted(fault: OSError) -> int:
    """The status of a command whose answer could not be printed; nothing is said to a reader who went away."""
    with suppress(OSError):  # what is still in the buffer is not tried again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1 if isinstance(fault, BrokenPipeError) else _said(refused("stdout", fault))
