"""Helpers for the chapter "Transfer Learning and Fine-Tuning in PyTorch".

The names are listed in `__init__.pyi`; each is imported when it is first used, so `import tlhelpers` is quick
and `python -m tlhelpers doctor` can still speak when torch itself is broken.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
