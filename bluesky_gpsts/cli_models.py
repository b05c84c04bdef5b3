"""The subcommands of ``gpsts`` for models and what they name: models, classify (and train)."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluesky_gpsts import cli_train
from bluesky_gpsts.cli_output import (
    bar,
    check_apart,
    check_figure,
    check_output,
    write_figure,
    write_json,
)

if TYPE_CHECKING:
    from bluesky_gpsts.spectra import Classes, Classifier

__all__ = ["COMMANDS", "add_commands"]

_LISTED = 40
"""So many spectra are listed one by one on the terminal; all are in the JSON file."""

_COLUMNS = f"{'class':16} {'probability':>11}  {'novelty':>7}"


def add_commands(commands: Any) -> None:
    """Add the subcommands to the parser of ``gpsts``.

    Parameters
    ----------
    commands : argparse action
        What ``add_subparsers`` returned.
    """
    models = commands.add_parser("models", help="list the models that name spectra and read images")
    models.add_argument(
        "folder", nargs="?", type=Path, help="of your own models (default: the package's)"
    )
    models.add_argument("--json", type=Path, help="write the cards to this file")

    cli_train.add_command(commands)

    classify = commands.add_parser(
        "classify", help="name the spectra of a file or of a run, each with its probability"
    )
    classify.add_argument(
        "what", help="a .dat or .3ds file, a folder of them, the uid of a run, or 'all' runs"
    )
    classify.add_argument("--model", default="default", help="name, or path of a card")
    classify.add_argument("--catalog", help="of the run: directory, Tiled URI or profile:NAME")
    classify.add_argument("--json", type=Path, help="write the classes to this file")
    classify.add_argument("--figure", type=Path, help="draw them to this PNG file")


def _models(options: argparse.Namespace) -> int:
    check_output(options.json)
    from bluesky_gpsts.spectra import registry

    cards = registry.models(options.folder)
    if options.folder is None:
        from bluesky_gpsts.images import registry as of_images

        cards += of_images.models()
    for card in cards:
        print(f"{card.id:32}  {card.kind:14}  {card.bytes / 1e6:.2f} MB  {', '.join(card.classes)}")
        print(f"    trained on {card.data}, seed {card.seed}; licence {card.licence}")
        for split, metrics in card.metrics.items():
            listed = ", ".join(f"{metric} {round(value, 3):g}" for metric, value in metrics.items())
            print(f"    {split}: {listed}")
    if not cards:
        print(f"there is no model in {options.folder or registry.SHIPPED}")
    write_json(options.json, [card.as_dict() for card in cards])
    return 0


def _classify(options: argparse.Namespace) -> int:
    check_output(options.json)
    check_figure(options.figure)
    check_apart(json=options.json, figure=options.figure)
    from bluesky_gpsts.spectra import registry

    file = Path(options.what)
    is_file = options.what not in ("all", "") and (
        file.suffix.lower() in (".dat", ".3ds") or file.exists()
    )
    # The file is looked at first: a wrong name must not wait for a model or a catalog.
    if is_file:
        from bluesky_gpsts.analysis.labelled import read_file

        if not file.exists():
            raise ValueError(
                f"there is no file {file}; give a .dat or .3ds file, the uid of a run, or 'all'"
            )
        if not file.is_dir():
            measured = read_file(file)
        elif options.figure is not None:
            raise ValueError("--figure draws one file or run; name it in place of a folder")
    if options.what == "all" and options.figure is not None:
        raise ValueError("--figure draws one file or run; name it in place of 'all'")
    classifier, card = registry.load_with_card(options.model)
    if file.is_dir() and is_file:
        return _classify_folder(options, file, classifier, card.id)
    if is_file:
        return _classify_file(options, measured, classifier, card.id)
    return _classify_runs(options, classifier, card.id)


def _classify_file(
    options: argparse.Namespace, measured: Any, classifier: "Classifier", model: str
) -> int:
    from bluesky_gpsts.analysis.class_figures import class_spectra_figure, grid_figure
    from bluesky_gpsts.analysis.classes import PointClasses, pixel_classes

    found = classifier.classify(measured.bias, measured.didv)
    rows = _rows(found, measured.numbers)
    _print_rows(rows, model)
    write_json(
        options.json,
        {
            "file": measured.name,
            "model": model,
            "didv_from": measured.source,
            "spectra": rows,
        },
    )
    if options.figure is not None:
        whole_grid = (
            measured.shape is not None
            and len(measured.didv) == measured.shape[0] * measured.shape[1]
            and not all(found.problems)
        )
        if whole_grid:
            figure = grid_figure(pixel_classes(found, measured.shape), title=measured.name)
        else:
            import numpy as np

            nowhere = np.full(len(measured.didv), np.nan)
            figure = class_spectra_figure(
                PointClasses(
                    measured.name,
                    measured.numbers,
                    nowhere,
                    nowhere,
                    measured.bias,
                    measured.didv,
                    found,
                )
            )
        write_figure(options.figure, figure)
    return 0


def _classify_folder(
    options: argparse.Namespace, folder: Path, classifier: "Classifier", model: str
) -> int:
    """Name the spectra of all files in a folder; 1 if a file could not be read."""
    from collections import Counter

    from bluesky_gpsts.analysis.labelled import complaint, find_files, read_file

    files = find_files(folder)
    if not files:
        raise ValueError(f"there is no .dat or .3ds file in {folder}; give another folder")
    listed: list[dict[str, Any]] = []
    width = max(len(str(file.relative_to(folder))) for file in files)
    print(f"{'file':{width}}  {_COLUMNS}")
    for file in files:
        name = str(file.relative_to(folder))
        try:
            measured = read_file(file)
        except (ValueError, OSError) as error:
            listed.append({"file": name, "problem": str(error)})
            print(f"not read: {complaint(name, file, error)}")
            continue
        rows = _rows(classifier.classify(measured.bias, measured.didv), measured.numbers)
        listed.append({"file": name, "didv_from": measured.source, "spectra": rows})
        if len(rows) == 1:
            text = _columns(rows[0])
        else:
            counts = Counter(row["class"] or "not judged" for row in rows)
            text = ", ".join(f"{label} {count}" for label, count in counts.most_common())
        print(f"{name:{width}}  {text}")
    write_json(options.json, {"model": model, "files": listed})
    return int(any("problem" in one for one in listed))


def _classify_runs(options: argparse.Namespace, classifier: "Classifier", model: str) -> int:
    from bluesky_gpsts.analysis import read_record
    from bluesky_gpsts.analysis.class_figures import segmentation_figure
    from bluesky_gpsts.analysis.classes import (
        PointClasses,
        classify_catalog,
        classify_map,
        classify_points,
        classify_run,
    )
    from bluesky_gpsts.catalog import open_catalog

    _check_run(options.what)
    with open_catalog(options.catalog, create=False) as catalog:
        if options.what == "all":
            listed: list[dict[str, Any]] = []
            for found in classify_catalog(catalog, classifier, progress=bar("runs")):
                if isinstance(found, PointClasses):
                    counts = {name or "not judged": n for name, n in found.counts.items() if n}
                    listed.append({"uid": found.uid, "counts": counts})
                    text = ", ".join(f"{name} {n}" for name, n in counts.items()) or "no spectra"
                    print(f"{found.uid}  {text}")
                else:
                    listed.append({"problem": str(found)})
                    print(f"not classified: {found}")
            if not listed:
                print(f"no run in {catalog.path} has spectra")
            write_json(options.json, {"model": model, "runs": listed})
            return 0
        if options.figure is None:
            points = classify_run(catalog[options.what], classifier)
        else:
            record = read_record(catalog, options.what)
            points = classify_points(record, classifier)
            pixels = None
            if record.has_map:
                pixels = classify_map(record, points, classifier, progress=bar("pixels"))
            write_figure(options.figure, segmentation_figure(record, points, pixels))
    rows = _rows(points.found, points.seq_nums)
    _print_rows(rows, model)
    write_json(options.json, {"uid": points.uid, "model": model, "spectra": rows})
    return 0


def _check_run(what: str) -> None:
    """Refuse the name of a missing file, before a catalog is opened to look for such a run."""
    if not what or any(mark in what for mark in "/\\."):
        raise ValueError(
            f"there is no file or folder {what!r}; give a .dat or .3ds file, a folder of them, the "
            "uid of a run, or 'all'"
        )


def _rows(found: "Classes", numbers: Any) -> list[dict[str, Any]]:
    """One row per spectrum, ready for JSON."""
    return [
        {
            "number": int(number),
            "class": "" if problem else str(label),
            "probabilities": {
                name: float(value) for name, value in zip(found.classes, values, strict=True)
            },
            "novelty": float(novelty),
            "confidence": float(confidence),
            "problem": problem,
        }
        for number, label, values, novelty, confidence, problem in zip(
            numbers,
            found.labels,
            found.probabilities,
            found.novelty,
            found.confidence,
            found.problems,
            strict=True,
        )
    ]


def _columns(row: dict[str, Any]) -> str:
    """What was found of a spectrum, below `_COLUMNS`."""
    if row["problem"]:
        return f"{'not judged':16} {row['problem']}"
    return f"{row['class']:16} {row['confidence']:11.3f}  {row['novelty']:7.3f}"


def _print_rows(rows: list[dict[str, Any]], model: str) -> None:
    from collections import Counter

    print(f"{'number':>6}  {_COLUMNS}")
    for row in rows[:_LISTED]:
        print(f"{row['number']:6}  {_columns(row)}")
    if len(rows) > _LISTED:
        print(f"... and {len(rows) - _LISTED} more; --json FILE writes them all")
    counts = Counter(row["class"] or "not judged" for row in rows)
    total = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    print(f"{len(rows)} spectra by {model}: {total or 'none'}")


COMMANDS = {"models": _models, "train": cli_train.train, "classify": _classify}
