"""The command `check`, which this package adds to `python -m tlhelpers`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_check(commands: Any) -> None:
    """Add the command to the subparsers of `python -m tlhelpers`."""
    check = commands.add_parser(
        "check",
        help="run a lab, or a folder of submissions, and say which exercises are right",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    check.set_defaults(command=_check)
    check.add_argument("path", type=Path, help="a lab's notebook, or a folder of them; their code is run")
    check.add_argument("--csv", type=Path, default=Path("checks.csv"), help="for a folder: where the table goes")
    check.add_argument("--seconds", type=float, default=600, help="limit for each notebook")
    check.add_argument("--gigabytes", type=float, default=4.0, help="limit of memory for each notebook")


def _check(options: argparse.Namespace) -> int:
    from tlcourse.labs.submissions import check_folder, check_notebook

    limits = {"limit_seconds": options.seconds, "limit_gigabytes": options.gigabytes}
    if options.path.is_dir():
        check_folder(options.path, options.csv, **limits)
        print(f"written to {options.csv}")
        return 0
    result = check_notebook(options.path, **limits)
    print(result)
    return 1 if result.trouble or not result.outcomes else 0
