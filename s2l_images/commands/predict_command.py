"""`s2l predict`: the nuclei of a folder, and the images that deserve a look first."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from s2l_images.commands.argument_kinds import add_pixel_size, path, pixels, share, width
from s2l_images.commands.command_line import Command, Parser, UsageError

UNSURE_LISTED = 10  # images that the summary of a prediction names


def _predict_arguments(parser: Parser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=path,
        nargs="?",
        help="a model.safetensors that training has saved; without one FOLDER's strokes answer",
    )
    parser.add_argument("folder", metavar="FOLDER", type=path, help="holds images/")
    parser.add_argument(
        "--strokes",
        metavar="FILE",
        type=path,
        help="without MODEL: strokes.json of notebook 08 (default: what is drawn in FOLDER)",
    )
    parser.add_argument(
        "--answer",
        metavar="WORD",
        help="without MODEL: forest, network (the one in use in FOLDER), or auto, which takes the "
        "one that gets more of the strokes right that were held out (default: auto)",
    )
    parser.add_argument(
        "--to",
        metavar="FOLDER",
        type=path,
        help="where the results go (default: s2l/export in the folder of the images)",
    )
    parser.add_argument(
        "--min-size",
        metavar="N",
        type=pixels,
        help="leave out objects of fewer pixels (default: a third of the smallest nucleus drawn,"
        " and with strokes alone a fifth of a usual nucleus)",
    )
    add_pixel_size(parser)
    parser.add_argument(
        "--threshold",
        metavar="P",
        type=share,
        help="call nucleus what is more probable than this (default: 0.5; of a network that strokes"
        " have chosen, the one that fits them best)",
    )
    parser.add_argument(
        "--split",
        metavar="PIXELS",
        type=width,
        help="tell touching nuclei apart by the width of a usual one, or auto to have it measured "
        "(default: they stay together)",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace files that no prediction has written"
    )


def _predict(given: Namespace) -> int:
    """Predicts a folder, and says what was found in it."""
    from s2l_images.nuclei import prediction
    from s2l_images.places import own_export

    choices = {"pixel_size": given.pixel_size, "force": given.force}
    choices |= _by_model(given) if given.model else _by_strokes(given)
    folder, target = given.folder, given.to or own_export(given.folder)
    try:
        prediction.predict_folder(folder=folder, target=given.to, **choices)
    except prediction.ImagesLeftOut:
        print(_summary(target, folder))
        raise
    print(_summary(target, folder))
    return 0


def _by_model(given: Namespace) -> dict[str, Any]:
    """How a folder is predicted by a model that is named."""
    for option, value in (("--strokes", given.strokes), ("--answer", given.answer)):
        if value:
            raise UsageError(
                f"{option} is for a folder without a model. Leave out {given.model}, or {option}. "
                "`s2l predict --help` explains the command."
            )
    return {
        "source": given.model,
        "threshold": given.threshold or 0.5,
        "split": given.split,
        "min_size": given.min_size,
    }


def _by_strokes(given: Namespace) -> dict[str, Any]:
    """How a folder is predicted by its strokes; which answer they choose is printed."""
    from s2l_images.nuclei.from_strokes import answer_from_strokes

    found = answer_from_strokes(
        given.folder,
        given.strokes,
        wanted=given.answer or "auto",
        threshold=given.threshold,
        split=given.split,
    )
    print(f"{given.folder.name}: {found.choice}", flush=True)
    return {
        "source": found.source,
        "threshold": found.choice.threshold,
        "split": found.split,
        "min_size": found.min_size if given.min_size is None else given.min_size,
    }


def _summary(target: Path, folder: Path) -> str:
    """What a prediction came to, and the images that deserve a look first."""
    from s2l_images.folders.listing import survey
    from s2l_images.nuclei.journal import predictions

    # The notes may name images that were taken out of the folder since.
    there = survey(folder).files["images"]
    found = {name: one for name, one in predictions(target).items() if name in there and one.key}
    nuclei = sum(one.nuclei for one in found.values())
    lines = [f"{len(found):,} images, {nuclei:,} nuclei"]

    unsure = [(name, one) for name, one in found.items() if one.unsure > 0]
    if unsure:
        lines.append("Look at the least sure ones first, and draw where they are wrong:")
        for name, one in unsure[:UNSURE_LISTED]:
            lines.append(f"  {one.unsure:6.1%} of the pixels unsure, {one.nuclei} nuclei: {name}")
        if len(unsure) > UNSURE_LISTED:
            lines.append(f"  ... and {len(unsure) - UNSURE_LISTED} that are surer")
    lines.append(f"{target}: label images (.tif), ImageJ (.zip), QuPath (.geojson), tables (.csv)")
    return "\n".join(lines)


PREDICT = Command(
    summary="find the nuclei in all images of a folder, by a model or by its strokes",
    about="""\
Predicts every image in images/ of a folder. Each leaves four files: a label image (.tif), outlines
for ImageJ (.zip) and for QuPath (.geojson), and a table with a row for each nucleus (.csv). Stopped
or killed, the same command goes on where it was. At the end it names the images that the answer is
least sure of. A folder without a model is answered by its strokes, as notebook 08 does: a random
forest learns from them, and the network in use there goes out where it gets more of those strokes
right that neither has learned from.""",
    examples=(
        "s2l predict my-cells/s2l/model.safetensors more-cells",
        "s2l predict model.safetensors /media/microscope --to results --pixel-size 0.25",
        "s2l predict my-cells --strokes strokes.json --split auto --to out",
    ),
    arguments=_predict_arguments,
    run=_predict,
    extra="images",
)
