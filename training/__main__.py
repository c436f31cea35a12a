"""The command line of training: `python -m training COMMAND`, with a module for each command."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

# Each command, the module that has its `main`, and what it does. Modules are imported when they are needed: some of
# them import libraries that take a second.
COMMANDS: Final = {
    "train": ("training.run", "train a recipe, evaluate it on the test set, and export it as a bundle"),
    "export": ("training.export", "evaluate a finished run again, and export it as a bundle"),
    "refine": ("training.refine", "give a bundle an encoder that refines its posteriors, without training"),
    "evaluate": ("training.evaluate", "measure the figures of a bundle again"),
    "statistics": ("training.statistics", "add statistics to a bundle that was exported without them"),
    "sharpen": ("training.sharpen", "choose sharpness and temperature of a bundle's samples anew"),
    "typicality": ("training.typicality", "measure how well typicality tells test images from other pictures"),
    "compare": ("training.compare", "show the figures of all runs side by side"),
}
USAGE: Final = "\n".join(
    [
        "usage: python -m training COMMAND ...",
        "",
        *(f"  {name:<12}{purpose}" for name, (_, purpose) in COMMANDS.items()),
        "",
        "python -m training COMMAND --help shows the options of a command. Without a command, train is meant.",
    ]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--help"], ["-h"]):
        print(USAGE)
        return 0
    if not given or given[0].startswith("-"):
        given.insert(0, "train")
    name, *rest = given
    if name not in COMMANDS:
        print(f"There is no command {name}; known are {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    status: int = importlib.import_module(COMMANDS[name][0]).main(rest)
    return status


def end(status: int) -> NoReturn:
    """End this process with an exit status, when all that it had to write is written.

    One of several that torchrun has started ends at once, without what C++ libraries do at an exit. There PyTorch
    aborted in one of 150 groups ("terminate called without an active exception", SIGABRT), after everything was done.
    """
    if "WORLD_SIZE" in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    end(main())
