"""Options of `wsicomp encode`, in the groups in which its help shows them.

What to encode, how much to keep, what to write, where to run. Options that other commands have too stand in `options`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsicomp.cli.options import KEEP, RUN, WRITE

ENCODE = "What to encode"

SlidesArgument = Annotated[list[Path] | None, typer.Argument(help="Slides or pictures, or folders of them.")]
ListOption = Annotated[
    Path | None,
    typer.Option(
        "--list",
        help="CSV of slides in place of SLIDES, such as slides.csv: a column slide and, if wanted, mpp and output (a "
        "store, or a folder for it); paths are relative to the CSV.",
        rich_help_panel=ENCODE,
    ),
]
RecursiveOption = Annotated[
    bool,
    typer.Option(
        "--recursive",
        help="Look for slides in folders of folders too; their stores go into folders of the same names.",
        rich_help_panel=ENCODE,
    ),
]
MppOption = Annotated[
    float | None,
    typer.Option(
        "--mpp",
        help="Micrometres per pixel to encode at.",
        show_default="the slide's own",
        rich_help_panel=ENCODE,
    ),
]
LevelsOption = Annotated[
    int | None,
    typer.Option(
        "--levels",
        min=1,
        help="Keep at most this many pyramid levels.",
        show_default="all",
        rich_help_panel=ENCODE,
    ),
]
TissueOption = Annotated[
    bool,
    typer.Option("--tissue/--all-tiles", help="Leave out glass, or code every tile.", rich_help_panel=ENCODE),
]
TissueThresholdOption = Annotated[
    int,
    typer.Option(
        "--tissue-threshold",
        min=0,
        max=255,
        help="Grey levels from the glass colour that make a tile tissue.",
        rich_help_panel=ENCODE,
    ),
]
ReaderOption = Annotated[
    str,
    typer.Option(
        "--reader",
        help="openslide, tiff for a TIFF's own JPEG tiles, or auto for the faster.",
        rich_help_panel=ENCODE,
    ),
]

OnDamageOption = Annotated[
    str,
    typer.Option(
        "--on-damage",
        help="A tile that cannot be read: refuse the slide, or mark the tile and list it.",
        rich_help_panel=ENCODE,
    ),
]

DepthOption = Annotated[
    int | None,
    typer.Option(
        "--depth",
        metavar="N",
        min=1,
        help="Depth of the latent: 1 is largest, 4 smallest.",
        show_default="3, or what meets a target best",
        rich_help_panel=KEEP,
    ),
]
BitsPerPixelOption = Annotated[
    float | None,
    typer.Option(
        "--bits-per-pixel",
        help="Target: real bits of the whole store per pixel of the slide; picks depth and quality.",
        rich_help_panel=KEEP,
    ),
]
PsnrOption = Annotated[
    float | None,
    typer.Option("--psnr", help="Target: mean PSNR of tissue tiles in dB, in the fewest bytes.", rich_help_panel=KEEP),
]
MaxBytesOption = Annotated[
    int | None,
    typer.Option("--max-bytes", help="Target: bytes of the store, never more.", rich_help_panel=KEEP),
]
MinPsnrOption = Annotated[
    float | None,
    typer.Option(
        "--min-psnr",
        help="No tile is below this PSNR in dB, such as 34; one that would be is coded again, finer.",
        rich_help_panel=KEEP,
    ),
]
MinMsSsimOption = Annotated[
    float | None,
    typer.Option("--min-ms-ssim", help="No tile is below this MS-SSIM, such as 0.98.", rich_help_panel=KEEP),
]
KeepPredictionOption = Annotated[
    str | None,
    typer.Option(
        "--keep-prediction",
        help="No tile's prediction changes: a shipped classifier, such as perticarari2023-classifier-lung, "
        ".safetensors or .onnx.",
        rich_help_panel=KEEP,
    ),
]
MaxLogitShiftOption = Annotated[
    float | None,
    typer.Option(
        "--max-logit-shift",
        help="With --keep-prediction: nor does its logit move by more than this, such as 0.5.",
        rich_help_panel=KEEP,
    ),
]
TileSizeOption = Annotated[
    int, typer.Option("--tile-size", metavar="N", min=16, help="Side of a tile in pixels.", rich_help_panel=KEEP)
]

OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder for the stores, or NAME.zarr for one slide.",
        show_default="beside the slide",
        rich_help_panel=WRITE,
    ),
]
ZipOption = Annotated[
    bool, typer.Option("--zip", help="Make one file, NAME.zarr.zip, of each store.", rich_help_panel=WRITE)
]
ResumeOption = Annotated[
    bool,
    typer.Option("--resume", help="Skip complete stores; make partial or damaged ones again.", rich_help_panel=WRITE),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print what would be written, in about how many bytes and seconds, and write nothing.",
        rich_help_panel=WRITE,
    ),
]
SkipErrorsOption = Annotated[
    bool,
    typer.Option(
        "--skip-errors",
        help="Go on after a slide that fails; exit 3 and list them at the end.",
        rich_help_panel=WRITE,
    ),
]

PartOption = Annotated[
    str | None,
    typer.Option(
        "--part",
        help="Do only every n-th slide from the i-th on, such as 1/4; the n parts together do all.",
        show_default="this task's in a SLURM array, else 1/1",
        rich_help_panel=RUN,
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        help="Encode on the workers of a Dask cluster, such as tcp://10.0.0.1:8786; slides and stores are on storage "
        "that all machines share.",
        rich_help_panel=RUN,
    ),
]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, help="Threads that read tiles.", rich_help_panel=RUN)]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--memory",
        help="Most memory of the process, such as 2G; refused at once where a slide's tiles need more.",
        rich_help_panel=RUN,
    ),
]
StageOption = Annotated[
    Path | None,
    typer.Option(
        "--stage",
        help="Local folder that each slide is copied to before it is read, one slide ahead; for slow storage.",
        rich_help_panel=RUN,
    ),
]
