"""`vae`: errors become a sentence on standard error and an exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NoReturn

from vae_client import errors
from vae_client.cli import commands
from vae_client.cli.arguments import (
    BAD_INPUT,
    BROKEN_PIPE,
    FAILED,
    INTERRUPTED,
    LATER,
    NOT_ANSWERED,
    REFUSED,
    UNREACHABLE,
    USAGE,
    parser,
)
from vae_client.cli.inputs import Unusable
from vae_client.cli.parquet import NoParquet

_COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "encode": commands.encode,
    "reconstruct": commands.reconstruct,
    "score": commands.score,
    "sample": commands.sample,
    "decode": commands.decode,
    "interpolate": commands.interpolate,
    "traverse": commands.traverse,
    "models": commands.models,
    "health": commands.health,
}

# The first class that an error is of decides.
_STATUSES: Final[Sequence[tuple[type[Exception], int]]] = (
    (Unusable, BAD_INPUT),
    (commands.UnreadableInput, BAD_INPUT),
    (errors.NothingUsable, BAD_INPUT),
    (errors.Unreachable, UNREACHABLE),
    (errors.DeadlineExceeded, LATER),
    (errors.Overloaded, LATER),
    (errors.ServiceFailed, NOT_ANSWERED),
    (errors.BadAnswer, NOT_ANSWERED),
    (errors.Refused, REFUSED),
    (NoParquet, USAGE),
    (ValueError, USAGE),
    (OSError, FAILED),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Gives the exit status; wrong arguments exit by themselves, with status 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["serve"]:
        return commands.serve(given[1:])
    options = parser().parse_args(given)
    try:
        return _COMMANDS[options.command](options)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the interpreter's own flush is silent
        return BROKEN_PIPE
    except KeyboardInterrupt:
        print("vae: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        for kind, status in _STATUSES:
            if isinstance(error, kind):
                print(f"vae: {error}", file=sys.stderr)
                return status
        raise


def run() -> NoReturn:
    """Run `vae` as a process. After Ctrl-C it ends at once, without the answers that are still on their way."""
    status = main()
    if status == INTERRUPTED:
        os._exit(status)
    sys.exit(status)
