"""The arguments of `vae`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import PurePath
from typing import Final, get_args

from vae_client import __version__
from vae_client.calls import Preprocess, Prior, WalkPath
from vae_client.cli import outputs, terminal
from vae_client.client import DEFAULT_URL, KEY_VARIABLE, URL_VARIABLE

# Exit statuses. Scripts rely on them; client/README.md lists them, too.
OK, FAILED, USAGE, BAD_INPUT, UNREACHABLE, REFUSED, LATER, NOT_ANSWERED = range(8)
INTERRUPTED: Final = 130  # as shells have it: 128 and the signal's number
BROKEN_PIPE: Final = 141

STATUSES: Final = {
    OK: "done",
    FAILED: "the output cannot be written",
    USAGE: "the command line is wrong",
    BAD_INPUT: "inputs cannot be used; standard error names them. encode, reconstruct and score do the others",
    UNREACHABLE: "the service cannot be reached",
    REFUSED: "the service refused the request: a key, a model, a label, a limit",
    LATER: "not now: the service is overloaded or not ready, or the time is over",
    NOT_ANSWERED: "the service failed, or the URL is that of something else",
    INTERRUPTED: "interrupted with Ctrl-C",
    BROKEN_PIPE: "whoever read the output has gone",
}

_FILES: Final = (
    "picture files, folders of them, patterns, .npy arrays (uint8 [N, h, w] or [N, h, w, 3]), or - for standard input: "
    "a picture, an array, or a list of paths"
)


def parser() -> argparse.ArgumentParser:
    """The parser of `vae`."""
    statuses = "\n".join(f"  {status:3} {meaning}" for status, meaning in STATUSES.items())
    main = argparse.ArgumentParser(
        prog="vae",
        description="Encode, reconstruct, score and draw pictures with a vae-service.",
        epilog=f"exit status:\n{statuses}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    main.add_argument("--version", action="version", version=f"vae-client {__version__}")
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help_text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help_text, description=help_text, allow_abbrev=False)
        made.add_argument("--url", help=f"of the service; default: {URL_VARIABLE}, else {DEFAULT_URL}. "
                          f"Its key, if it needs one, is in {KEY_VARIABLE}")  # fmt: skip
        made.add_argument(
            "--timeout", type=_seconds, default=None, metavar="SECONDS", help="for the whole command; default: none"
        )
        return made

    encode = command("encode", "Latents of pictures.")
    _pictures(encode)
    _draws(encode)
    _table(encode)

    reconstruct = command("reconstruct", "Pictures encoded and decoded again.")
    _pictures(reconstruct)
    _draws(reconstruct)
    _images(reconstruct)

    score = command("score", "How well the model explains pictures, and how typical they are.")
    _pictures(score)
    score.add_argument("-k", type=_positive, help="draws of each picture for its log-likelihood")
    score.add_argument("--seed", type=int, help="of the draws")
    _table(score)

    sample = command("sample", "New pictures.")
    sample.add_argument("-n", type=_positive, default=16, help="how many; default: 16")
    sample.add_argument("--label", type=_label, help="its number or its name, as in `vae models --json`")
    sample.add_argument("--prior", choices=get_args(Prior))
    sample.add_argument("--temperature", type=float, help="of the noise; default: the model's own")
    sample.add_argument("--seed", type=int, help="default: a new one, which is said")
    _model(sample)
    _images(sample)

    decode = command("decode", "Pictures of latents.")
    decode.add_argument("latents", metavar="LATENTS", help="what `vae encode` wrote, or - for standard input")
    _model(decode)
    _images(decode)

    interpolate = command("interpolate", "Pictures on the way from each picture, or each latent, to the next.")
    _points(interpolate)
    interpolate.add_argument(
        "--steps", type=_positive, default=8, help="from one to the next, both included; default: 8"
    )
    interpolate.add_argument("--path", choices=get_args(WalkPath))
    _images(interpolate)

    traverse = command("traverse", "What single latents do to a picture.")
    _points(traverse)
    traverse.add_argument("--dims", type=_integers, metavar="I,J...", help="indices; default: the five busiest")
    traverse.add_argument("--range", type=_range, metavar="LOW,HIGH", help="default: -3,3. Write --range=-3,3")
    traverse.add_argument("--steps", type=_positive, default=7, help="values of each latent; default: 7")
    _images(traverse)

    models = command("models", "What is served.")
    models.add_argument("--json", action="store_true", help="all that the service says of each, a line each")
    command("health", "Whether the service is ready; its exit status says so, too.")
    commands.add_parser("serve", help="Run the service, where it is installed.", add_help=False, allow_abbrev=False)
    return main


def _pictures(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", metavar="FILE", nargs="+", help=_FILES)
    command.add_argument(
        "--strict", action="store_true", help="stop at a picture that cannot be used, and write nothing"
    )
    command.add_argument("--batch-size", type=_positive, default=256, metavar="N", help="of one request; default: 256")
    _model(command)
    _preprocess(command)


def _points(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", metavar="FILE", nargs="*", help=_FILES)
    command.add_argument("--z", metavar="LATENTS", help="in place of pictures: what `vae encode` wrote")
    _model(command)
    _preprocess(command)


def _preprocess(command: argparse.ArgumentParser) -> None:
    command.add_argument("--preprocess", choices=get_args(Preprocess))


def _model(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", metavar="NAME[@VERSION]")


def _draws(command: argparse.ArgumentParser) -> None:
    command.add_argument("--sample", action="store_true", help="draw from the posterior in place of its mean")
    command.add_argument("--seed", type=int, help="of that draw")


def _table(command: argparse.ArgumentParser) -> None:
    kinds = ", ".join(outputs.TABLES)
    command.add_argument("-o", "--output", type=_of_suffix(*outputs.TABLES), default=outputs.STDOUT,
                         help=f"a file: {kinds}; default: JSON lines on standard output")  # fmt: skip


def _images(command: argparse.ArgumentParser) -> None:
    command.add_argument("--sharpness", type=float, help="contrast, 1 to 8; default: 1, of samples the model's own")
    command.add_argument(
        "-o",
        "--output",
        type=_of_suffix(*outputs.PICTURES, folder=True),
        help="a grid (.png), an array (.npy), a folder/ with a PNG of each, or - for a PNG on standard output, the "
        "default where that is no terminal",
    )
    command.add_argument(
        "--show",
        choices=["auto", "no", *terminal.WAYS],
        help="show the pictures on standard output; default: if that is a terminal that can",
    )


def _of_suffix(*suffixes: str, folder: bool = False) -> Callable[[str], str]:
    def output(text: str) -> str:
        known = text == outputs.STDOUT or PurePath(text).suffix in suffixes or (folder and outputs.is_folder(text))
        if not known:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(suffixes)}{', folder/' * folder}, -")
        return text

    return output


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _label(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers with commas between") from error


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not LOW,HIGH") from error
    return low, high
