"""Progress bars: tqdm's, silent where TQDM_DISABLE says so; and work that is divided among threads."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tqdm.auto import tqdm as _tqdm


class tqdm(_tqdm):
    """`tqdm.auto.tqdm`, whose notebook form does not read TQDM_DISABLE by itself (tqdm 4.70)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        quiet = os.environ.get("TQDM_DISABLE", "0") not in ("", "0")
        super().__init__(*arguments, **{"disable": quiet, **options})


def in_threads(function: Callable[[Any], Any], items: Sequence[Any], threads: int | None, **bar: Any) -> list[Any]:
    """The results of `function` for all items, in their order; after an error or Ctrl-C no other item is begun.

    `bar` is what tqdm is told. Pillow decodes without holding Python's lock, so for images threads suffice.
    """
    with ThreadPoolExecutor(threads) as pool:
        try:
            return list(tqdm(pool.map(function, items), total=len(items), leave=False, **bar))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
