"""What the course adds to `tlhelpers`: drawn data sets, applications, lab checks, explorers and measurements.

The names are listed in `__init__.pyi`; each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
