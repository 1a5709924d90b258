"""Opens slides and pictures, reads their tiles, and tells tissue from glass.

    open_source(path, SourceSettings(...)) -> Source: levels, tissue, tiles

`open_source` is the one way in. This room knows nothing of networks and stores.
"""

from wsicomp.slides.opening import open_source
from wsicomp.slides.settings import SourceSettings

__all__ = ["SourceSettings", "open_source"]
