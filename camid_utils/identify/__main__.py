"""Which camera took a photo, how sure that is, and where in the photo it shows: `python -m camid_utils.identify`."""

import argparse
import json
import sys
from pathlib import Path

SUFFIXES = {".jpg", ".jpeg", ".png"}


def find_photos(arguments: list[str]) -> list[Path]:
    """The files that are named, and all photos in the folders that are named, at any depth."""
    found = []
    for path in map(Path, arguments):
        found += sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    return found


def format_answer(found: dict) -> str:
    """An answer as text: the three most probable cameras, and the votes of the patches."""
    cameras = [(name.replace("_", " "), probability) for name, probability in found["cameras"]]
    lines = ["none of the known cameras; the most similar are"] if found["unknown"] else []
    lines += [f"{name:<28} {probability:6.1%}" for name, probability in cameras[:3]]
    if found["patches"] > 1:
        lines.append(f"{found['votes']} of {found['patches']} patches vote for {cameras[0][0]}")
    return "\n  ".join([found["photo"], *lines])


def _identify(options: argparse.Namespace) -> int:
    from ..models import load_model  # here, as torch takes seconds: --help need not wait for it
    from ..photos import read_image
    from ..project import progress
    from .predict import combine, describe_model, newest_model, predict_photo

    photos, failures = find_photos(options.photos), 0
    if not photos:
        raise FileNotFoundError(f"no photo in {', '.join(options.photos)}: JPEG and PNG files are read")
    model = load_model(options.model or newest_model())
    print(describe_model(model), file=sys.stderr)
    bar = progress(photos, "photos", unit="photo", disable=len(photos) < 5)
    for number, path in enumerate(bar, 1):
        try:
            photo = read_image(path)
            corners, log_probs, features = predict_photo(photo, model)
        except ValueError as error:
            failures += 1
            bar.write(f"left out: {path}: {str(error).removeprefix(f'{path}: ')}", file=sys.stderr)
            continue
        answer = {"photo": str(path), **combine(log_probs, features, model)}
        bar.write(json.dumps(answer) if options.json else format_answer(answer))
        if options.map:
            from ..figures import photographs, style  # matplotlib, only for maps

            figure = photographs.camera_map(photo, corners, log_probs, model.class_names, describe_model(model))
            several = f"-{number}-{path.stem}" if len(photos) > 1 else ""
            style.save(figure, options.map.parent, options.map.stem + several)
    if failures:
        print(f"{failures} of {len(photos)} photos could not be read", file=sys.stderr)
    return int(failures > 0)


def main(arguments: list[str] | None = None) -> int:
    """The command line. Exit code 0: every photo has an answer; 1: some could not be read; 2: an error ended it."""
    parser = argparse.ArgumentParser(prog="python -m camid_utils.identify", description=__doc__)
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="JPEG or PNG files, or folders of them")
    parser.add_argument("--model", metavar="FILE", help="a model file (default: the newest best one under data/)")
    parser.add_argument("--json", action="store_true", help="one JSON object per photo, with all cameras and scores")
    parser.add_argument("--map", type=Path, metavar="OUT.png", help="draw which camera each part of it looks like")
    options = parser.parse_args(arguments)
    try:
        if options.map and options.map.suffix != ".png":
            raise ValueError(f"--map {options.map}: maps are PNG files, give a name that ends in .png")
        return _identify(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
