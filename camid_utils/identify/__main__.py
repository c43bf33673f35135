"""Which camera took a photo, how sure that is, and where in the photo it shows: `python -m camid_utils.identify`."""

import argparse
import json
import os
import sys
from collections import Counter
from functools import partial
from pathlib import Path

from ..files import command, named_path

JSON_HELP = """one JSON object per photo: cameras, each with its probability if one of them took the whole photo (in
doubt where unknown or parts_differ is true), 0 if its training photos have other sizes, so 1 for the only one of that
size; pixels, the same by the pixels alone; unknown, whether none is named, if only because of its size (size_unseen);
model, the model file; note, what is odd about the photo's file; header and size, the camera models whose training
photos had the same; rests_on, whether these and the pixels agree; votes (patches that look most like the first camera
among the possible ones), parts, scores"""
PERCENTAGES = "Percentages hold for places and cameras of training; for others they may be confidently wrong."


def find_photos(arguments: list[Path]) -> tuple[list[Path], Counter, list[str]]:
    """Named files and photos in named folders, each once; what is skipped there, by kind; folders that are closed."""
    from .. import catalogues  # here, as pandas takes a while: --help need not wait for it

    found, skipped, closed = {}, Counter(), []
    for path in arguments:
        names, unopened = catalogues.list_files(path) if os.path.isdir(path) else ([""], [])
        closed += [f"{row['photo']}: {row['reason']}" for row in unopened]
        for name in names:
            if name and not os.path.isfile(path / name):
                skipped["no regular file"] += 1
            elif not name or (kind := catalogues.kind(name)) in ("photo", "PNG"):
                found.setdefault(os.path.realpath(path / name), path / name)
            else:
                skipped[kind] += 1
    return list(found.values()), skipped, closed


def percent(share: float) -> str:
    """A share as text, as the page shows it: never all or nothing."""
    return "> 99.9 %" if share > 0.9995 else "< 0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"


def format_answer(found: dict) -> str:
    """An answer as text: what is odd; the three most probable cameras, with percentages unless none is named.

    Only possible ones are named (predict.combine): a single one without a percentage, which would say nothing.
    """
    sized = len(found["size"])
    cameras = [(name.replace("_", " "), probability) for name, probability in found["cameras"][: min(3, sized or 3)]]
    lines = [found["photo"]]
    if found["note"]:
        lines.append(f"note: {found['note']}")
    if found["parts_differ"]:
        parts = ", ".join(f"the {side} looks most like {name.replace('_', ' ')}" for side, name in found["parts"])
        lines.append(f"its parts look like different cameras: {parts}")
    if found["unknown"]:
        refusal = "none of the known cameras of its size" if sized else "none of the known cameras"
        refusal = "no answer, as no training photo has its size" if found["size_unseen"] else refusal
        similar = ", ".join(name.replace("_", " ") for name, _ in found["pixels"][:3])
        lines.append(f"{refusal}; by the pixels, the most similar of the known cameras are {similar}")
    else:
        if found["parts_differ"]:
            lines.append("if one camera took all of it:")
        if sized == 1:
            lines.append(f"{cameras[0][0]}, the only known camera of its size")
        else:
            lines += [f"{name:<28} {percent(probability):>8}" for name, probability in cameras]
            if found["patches"] > 1:
                votes = f"{found['votes']} of {found['patches']} patches vote for {cameras[0][0]}"
                lines.append(f"{votes} among these" if sized else votes)
    if found["rests_on"]:
        lines.append(found["rests_on"])
    return "\n  ".join(lines)


def _identify(options: argparse.Namespace) -> int:
    from ..models import load_model  # here, as torch takes seconds
    from ..photos import header_key, read_noted
    from ..project import progress
    from . import predict

    photos, skipped, failures = find_photos(options.photos)
    total = len(photos) + len(failures)
    if skipped:
        print("skipped:", ", ".join(f"{n} {kind}" for kind, n in sorted(skipped.items())), file=sys.stderr)
    for folder in failures:
        print(f"left out: {folder}", file=sys.stderr)
    if not photos:
        raise FileNotFoundError(f"no photo in {', '.join(map(str, options.photos))}: JPEG and PNG files are read")
    maps = [options.map] if options.map else []
    if options.map and len(photos) > 1:
        maps = [options.map.with_stem(f"{options.map.stem}-{n}-{path.stem}") for n, path in enumerate(photos, 1)]
    if {*map(os.path.realpath, maps)} & {*map(os.path.realpath, photos)}:
        raise ValueError(f"--map {options.map} would replace one of the photos: give another name")
    file = options.model or predict.default_model()
    model = load_model(file)
    try:
        print(f"{file}: {(about := predict.describe_model(model))} {PERCENTAGES}", file=sys.stderr)
    except KeyError as fact:
        raise ValueError(f"this model file is of another version, it lacks {fact}: give another --model") from fact
    bar = progress(photos, "photos", unit="photo", disable=len(photos) < 5)
    for number, path in enumerate(bar):
        try:
            if os.path.exists(path) and not os.path.isfile(path):
                raise ValueError("it is no regular file, and is read twice: save it as one first")
            photo, note = read_noted(path)
            with predict.few_threads():
                corners, logits, features = predict.predict_photo(photo, model)
        except ValueError as error:
            failures.append(f"{path}: {str(error).removeprefix(f'{path}: ')}")
            bar.write(f"left out: {failures[-1]}", file=sys.stderr)
            continue
        sides = photo.shape[:2]
        key, size = header_key(path, *sides), predict.size_key(*sides)
        answer = {"photo": str(path), "model": str(file), "note": note}
        answer |= predict.combine(logits, features, model, size) | predict.compare_parts(corners, logits, model)
        answer |= predict.compare_header(key, size, answer, model)
        bar.write(json.dumps(answer) if options.json else format_answer(answer))
        if options.map:
            from scipy.special import log_softmax

            from ..figures import photographs, style  # matplotlib, only for maps

            figure = photographs.camera_map(photo, corners, log_softmax(logits, axis=1), model.class_names, about)
            style.save(figure, options.map.parent, maps[number].stem)
    if failures:
        print(f"{len(failures)} of {total} could not be read", file=sys.stderr)
    return int(bool(failures))


@command
def main(arguments: list[str] | None = None) -> int:
    """The command line. Exit code 0: every photo has an answer; 1: some could not be read; 2: an error; 130: Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m camid_utils.identify", description=__doc__)
    add = partial(parser.add_argument, type=named_path)
    add("photos", nargs="+", metavar="PHOTO", help="JPEG or PNG files, or folders of them")
    default = "one that you trained on FloreView, else the published one"
    add("--model", metavar="FILE", help=f"a model file (default: {default})")
    add("--map", metavar="OUT.png", help="draw which camera each part of it looks like")
    parser.add_argument("--json", action="store_true", help=JSON_HELP)
    options = parser.parse_args(arguments)
    if options.map and options.map.suffix != ".png":
        raise ValueError(f"--map {options.map}: maps are PNG files, give a name that ends in .png")
    return _identify(options)


if __name__ == "__main__":
    sys.exit(main())
