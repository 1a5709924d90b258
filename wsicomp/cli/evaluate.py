"""`wsicomp evaluate`: what compression costs a frozen classifier."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsicomp.cli.console import emit, log, progress_bar, say
from wsicomp.cli.options import (
    KEEP,
    READ,
    WRITE,
    DeviceOption,
    JsonOption,
    LabelColumnOption,
    ModelOption,
    OverwriteOption,
    split_classes,
    split_numbers,
)

if TYPE_CHECKING:
    from wsicomp.datasets.labelled import LabelledTiles
    from wsicomp.datasets.patches import PatchTable

SCORE = "How to score"
PHANTOM_CLASSIFIER = "perticarari2023-classifier-phantom"


def evaluate(
    data: Annotated[
        Path | None,
        typer.Argument(
            help="CSV of patches (path, label, group, split) or folder of classes.",
            show_default="a procedural phantom",
        ),
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option("--classifier", help="Shipped classifier, .safetensors or .onnx.", rich_help_panel=READ),
    ] = None,
    depths: Annotated[
        str | None,
        typer.Option(
            "--depths",
            help="Depths to score; 0, the original, always is.",
            show_default="all that the model has",
            rich_help_panel=KEEP,
        ),
    ] = None,
    qualities: Annotated[
        str | None,
        typer.Option(
            "--qualities",
            help="For wsic: any from 0 to 7, such as 2,2.5, at each depth.",
            show_default="4",
            rich_help_panel=KEEP,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for report.json, report.csv and figures.", rich_help_panel=WRITE),
    ] = None,
    overwrite: OverwriteOption = False,
    label_column: LabelColumnOption = "label",
    classes: Annotated[
        str | None,
        typer.Option("--classes", help="NEGATIVE,POSITIVE.", show_default="the classifier's own", rich_help_panel=READ),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="Split to score, where the data have splits.", rich_help_panel=READ)
    ] = "test",
    model: ModelOption = "wsic",
    latent_dtypes: Annotated[
        str | None,
        typer.Option(
            "--latent-dtypes",
            help="For perticarari2023: any of int8, float16, float32.",
            show_default="the model's",
            rich_help_panel=KEEP,
        ),
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold", min=0, max=1, help="Probability from which a patch is positive.", rich_help_panel=SCORE
        ),
    ] = 0.5,
    resamples: Annotated[
        int, typer.Option("--resamples", min=1, help="Bootstrap resamples of the groups.", rich_help_panel=SCORE)
    ] = 1000,
    seed: Annotated[
        int,
        typer.Option("--seed", min=0, help="Seed of the bootstrap and of the sample figure.", rich_help_panel=SCORE),
    ] = 0,
    max_accuracy_drop: Annotated[
        float | None,
        typer.Option(
            "--max-accuracy-drop", min=0, max=1, help="Gate: 0.03 is three points; exit 4.", rich_help_panel=SCORE
        ),
    ] = None,
    max_recall_drop: Annotated[
        float | None,
        typer.Option("--max-recall-drop", min=0, max=1, help="Gate on recall; exit 4.", rich_help_panel=SCORE),
    ] = None,
    max_auc_drop: Annotated[
        float | None, typer.Option("--max-auc-drop", min=0, max=1, help="Gate on AUC; exit 4.", rich_help_panel=SCORE)
    ] = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> int:
    """Score a frozen classifier on original patches and on what each depth makes of them.

    Example: wsicomp evaluate lung --label-column diagnosis --classifier perticarari2023-classifier-lung -o report
    """
    from dataclasses import asdict

    from wsicomp.classification.frozen import choose_classifier
    from wsicomp.datasets.patches import PatchTable
    from wsicomp.evaluation import study
    from wsicomp.evaluation.gate import check
    from wsicomp.evaluation.plots import write_plots
    from wsicomp.evaluation.reconstruct import reconstruct
    from wsicomp.evaluation.report import report_folder, to_markdown, write_report
    from wsicomp.evaluation.samples import Samples
    from wsicomp.metrics.classification import youden_threshold
    from wsicomp.models.device import resolve_device
    from wsicomp.pipeline.tile_codec import TileCodec
    from wsicomp.pipeline.transforms import codec_depths, load_codec

    wanted_depths = None if depths is None else split_numbers(depths, "--depths", int)
    wanted_qualities: Sequence[float | None] = (
        [None] if qualities is None else split_numbers(qualities, "--qualities", float)
    )
    dtypes = [name.strip() for name in latent_dtypes.split(",")] if latent_dtypes else [None]
    where = resolve_device(device)
    table = None if data is None else PatchTable.load(data, label_column=label_column)
    if classifier is None and data is not None:
        raise typer.BadParameter(f"{data} needs a frozen classifier of its classes", param_hint="--classifier")
    chosen = choose_classifier(classifier or PHANTOM_CLASSIFIER, where)
    names = split_classes(classes) if classes else chosen.classes
    loaded = load_codec(model)
    codecs = [
        TileCodec(loaded, depth, quality=quality, latent_dtype=dtype, device=where)
        for dtype in dtypes
        for depth in wanted_depths or codec_depths(loaded)
        for quality in wanted_qualities
        if depth
    ]
    with report_folder(output, overwrite=overwrite) if output else nullcontext() as folder:
        with progress_bar("evaluate") as progress:
            tiles, validation = _load(table, names, split)
            calibrated = chosen.threshold
            if validation:
                calibrated = youden_threshold(chosen.classifier.logits(validation.tiles), validation.labels)
            samples = Samples(tiles, seed=seed)
            reconstructions = (reconstruct(tiles.name, tiles.tiles, codec, progress=progress) for codec in codecs)
            report = study.evaluate(
                tiles,
                chosen.classifier,
                samples.watch(reconstructions),
                threshold=threshold,
                calibrated_threshold=calibrated,
                seed=seed,
                n_resamples=resamples,
            )
        misses = check(report, max_accuracy_drop, max_recall_drop, max_auc_drop)
        if not json:
            say(to_markdown(report.rows))
        written = write_report(report, folder) + write_plots(report, samples, folder) if folder else []
    code = 4 if misses else 0
    if json:
        document = {"command": "evaluate", "status": "gate-missed" if misses else "ok", "exit_code": code}
        files = [str(output / path.name) for path in written] if output else []
        emit({**document, "misses": misses, "files": files, **asdict(report)})
    for miss in misses:
        log(f"wsicomp: gate missed: {miss}")
    return code


def _load(
    table: PatchTable | None, classes: tuple[str, str] | None, split: str
) -> tuple[LabelledTiles, LabelledTiles | None]:
    from wsicomp.datasets.labelled import LabelledTiles

    if table is None:
        return LabelledTiles.phantom("test"), LabelledTiles.phantom("val")
    tiles = LabelledTiles.load(table, classes, split if table.has_splits else None)
    has_val = any(patch.split == "val" and patch.label in tiles.classes for patch in table.patches)
    return tiles, LabelledTiles.load(table, tiles.classes, "val") if has_val else None
