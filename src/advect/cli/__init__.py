"""The command line, ``advect COMMAND ...``: every command is a module with ``run(arguments)``, imported when asked."""

from __future__ import annotations

import difflib
import errno
import importlib
import sys
import warnings
from collections.abc import Sequence

COMMANDS = {
    "train": "train or distil from a recipe; resumes by itself",
    "sample": "draw samples from a trained flow, with any solver, grid and guidance",
    "evaluate": "measure a flow's samples against real data, with confidence intervals",
    "restore": "restore degraded pictures with a trained flow as prior: inpainting, super-resolution, deblurring",
    "compare": "several flows side by side: quality against network calls and seconds, on one page",
    "tune": "the best sampler for a budget of network evaluations, kept as the default",
    "calibrate": "run a flow to find numbers (a grid, pruned axes, weights), and keep them beside it",
    "systems": "the published systems: what each is for, which parts make it, its measured claims",
    "reproduce": "run a system's headline claim as a small real experiment",
}


def usage() -> str:
    """What `advect --help` prints."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{purpose}" for name, purpose in COMMANDS.items()]
    return "\n".join(
        [
            "usage: advect COMMAND ...   (advect COMMAND --help explains every option)",
            "",
            "Generative transport: flow matching, diffusion and flow maps.",
            "",
            *lines,
            "",
            "first steps:",
            "  advect train digits --folder runs/digits   a built-in recipe on built-in pictures: a minute",
            "  advect sample runs/digits -n 64            64 of them as PNG files and as one sheet",
            "  advect train images --data.path photos/    the same for your own folder of pictures",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 for what the user can mend, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] in ("--version", "-V"):
        from advect import __version__

        print(f"advect {__version__}")
        return 0
    from advect.errors import InputError, MissingExtra

    name = arguments[0]
    try:
        if name not in COMMANDS:
            near = difflib.get_close_matches(name, COMMANDS, 1)
            hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}"
            raise InputError(f"there is no command {name!r}: {hint}")
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            return importlib.import_module(f"advect.cli.{name}").run(arguments[1:])
    except (InputError, MissingExtra) as error:
        print(f"advect: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a disk, folder or file that does not allow what is asked of it
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)  # said while writing, by when the name may be lost
        if error.filename is None and not full:
            raise
        where = "what was to be written" if error.filename is None else error.filename
        print(f"advect: {where} cannot be used: {error.strerror}{': free space' * full}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("advect: stopped", file=sys.stderr)
        return 130


def _warn(message: Warning | str, *place: object, **more: object) -> None:
    """A warning as a sentence, without the place in the code that it came from."""
    print(f"advect: warning: {message}", file=sys.stderr)
