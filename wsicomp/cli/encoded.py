"""What `wsicomp encode` says of each store that it made: a record for scripts, a line for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsicomp.pipeline.batch import Outcome
    from wsicomp.pipeline.encoded import Encoded
    from wsicomp.pipeline.floor import Floor

__all__ = ["line_of", "record_of"]


def record_of(outcome: Outcome, encoded: Encoded, floor: Floor | None) -> dict[str, Any]:
    """Record of a store that is there: JSON values."""
    return {
        "slide": str(outcome.job.slide),
        "store": str(outcome.job.store),
        "status": outcome.status,
        "depth": encoded.depth,
        "quality": encoded.quality,
        "source_bytes": encoded.source_bytes,
        "store_bytes": encoded.store_bytes,
        "bits_per_pixel": encoded.bits_per_pixel,
        "ratio_to_source": encoded.ratio_to_source,
        "tiles": encoded.tiles,
        "tissue_tiles": encoded.tissue_tiles,
        "glass_share": 1 - encoded.tissue_tiles / encoded.tiles,
        "floor": None if floor is None else floor.record,
        "raised_tiles": encoded.raised_tiles,
        "jpegxl_tiles": encoded.jpegxl_tiles,
        "fidelity": None if encoded.fidelity is None else encoded.fidelity.record,
        "damaged_tiles": [list(place) for place in encoded.damaged_tiles],
        "warnings": list(encoded.warnings),
        "seconds": encoded.seconds,
    }


def line_of(result: dict[str, Any]) -> str:
    """Say the same in one line."""
    if result["status"] == "skipped":
        return f"{result['store']}: complete already, skipped"
    ratio = result["ratio_to_source"]
    return (
        f"{result['store']}: depth {result['depth']}, "
        + (f"quality {result['quality']:g}, " if result["quality"] is not None else "")
        + f"{result['store_bytes']:,} bytes, "
        f"{result['bits_per_pixel']:.3f} bits per pixel, "
        + (f"{ratio:.2f} of the source file, " if ratio is not None else "")
        + f"{result['tissue_tiles']} of {result['tiles']} tiles ({result['glass_share']:.0%} glass), "
        + (
            f"{result['raised_tiles']} raised above their quality, {result['jpegxl_tiles']} as JPEG XL, "
            if result["floor"] is not None
            else ""
        )
        + seen_in(result["fidelity"])
        + f"{result['seconds']:.1f} s"
    )


def seen_in(fidelity: dict[str, Any] | None) -> str:
    """Say in a few words what a sample of tiles showed, a comma behind; nothing where there is none."""
    if fidelity is None:
        return ""
    return f"{fidelity['psnr_db']:.1f} dB and MS-SSIM {fidelity['ms_ssim']:.3f} on {fidelity['tiles']} sampled tiles, "
