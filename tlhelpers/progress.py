"""The progress bar of this package: tqdm's, silent where TQDM_DISABLE says so."""

from __future__ import annotations

import os
from typing import Any

from tqdm.auto import tqdm as _tqdm


class tqdm(_tqdm):
    """`tqdm.auto.tqdm`, whose notebook form does not read TQDM_DISABLE by itself (tqdm 4.70)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        quiet = os.environ.get("TQDM_DISABLE", "0") not in ("", "0")
        super().__init__(*arguments, **{"disable": quiet, **options})
