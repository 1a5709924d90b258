"""Tell whether a store that stands there already is this slide's, whole, and made with these settings.

    the store's header -> its slide's fingerprint, compared with this slide's -> another slide: an error
                       -> its format                                          -> a newer one: an error
                       -> every byte of the store checked                     -> damaged: to be made again
                       -> its settings, compared with those asked for         -> others: an error

Only a store that passes all of them is kept. What this does not do: it writes nothing, and it does not look into what
an interrupted run left, which holds no store.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from wsicomp.errors import ConfigError, StoreError, StoreVersion
from wsicomp.pipeline.encoded import Encoded, marks
from wsicomp.pipeline.settings import EncodeSettings
from wsicomp.pipeline.target import CodecChoice
from wsicomp.slides import open_source
from wsicomp.slides.source import TileSource
from wsicomp.store.container import open_container
from wsicomp.store.reader import StoreReader, read_header
from wsicomp.store.schema import StoreHeader
from wsicomp.store.verify import verify

__all__ = ["kept"]


def kept(slide: Path, store: Path, settings: EncodeSettings, choice: CodecChoice) -> Encoded | None:
    """Describe a store that need not be made again; None where there is none that is whole.

    Raises
    ------
    StoreError
        If the store holds another slide.
    StoreVersion
        If a newer format wrote it: it may be whole, and any slide's.
    ConfigError
        If it is this slide, whole, but of other settings.
    SlideError
        If the slide cannot be opened.
    """
    header = readable_header(store)
    if header is None:
        return None
    with open_source(slide, settings.source) as source:
        doubt = check_same_slide(header, source, store)
        try:
            if verify(store):
                return None
            with StoreReader(store) as reader:
                store_bytes, counts, damaged = reader.store_bytes, reader.tile_counts(), reader.damaged
        except StoreVersion:
            raise
        except StoreError:
            return None
        floor = None if settings.floor is None else settings.floor.record
        same = (header.levels, header.tile_size, header.floor) == (source.levels, source.tile_size, floor)
        threshold = settings.source.tissue_threshold if settings.source.tissue_only else None
        same &= header.tissue_rule.get("threshold") == threshold
        if not (same and choice.made(header, store_bytes, source)):
            raise ConfigError(f"{store}: was encoded with other settings; give --overwrite, or another output")
        if damaged and settings.source.on_damage == "refuse":
            raise ConfigError(
                f"{store}: holds {len(damaged)} marked tiles that the slide could not give; give --on-damage mark to "
                "keep it, or copy the slide again and give --overwrite"
            )
    return Encoded.of_store(
        store,
        header,
        store_bytes,
        raised_tiles=counts.raised,
        jpegxl_tiles=counts.pictures,
        damaged_tiles=damaged,
        warnings=(*((doubt,) if doubt else ()), *marks(damaged)),
    )


def readable_header(store: Path) -> StoreHeader | None:
    """Header of a store, even of a damaged one; None where there is none to be read. Raises StoreVersion."""
    try:
        with contextlib.closing(open_container(store)) as container:
            return read_header(container, str(store))
    except StoreVersion:
        raise
    except StoreError:
        return None


def check_same_slide(header: StoreHeader, source: TileSource, store: Path) -> str | None:
    """Compare the slide that a store was made from with the one at hand.

    Returns
    -------
    str or None
        What a user should know where the two cannot be told apart for certain.

    Raises
    ------
    StoreError
        If they are two slides.
    """
    info = source.info
    if header.source_fingerprint is not None and info.fingerprint is not None:
        other, certain = header.source_fingerprint != info.fingerprint, True
    else:
        known = header.source_bytes is not None and info.source_bytes is not None
        other, certain = known and header.source_bytes != info.source_bytes, False
    if other:
        raise StoreError(f"{store}: holds another slide than {source.name}; give another output, or rename one of them")
    if certain:
        return None
    return f"{store} does not say for certain which slide it was made from; it is kept, as its numbers are this slide's"
