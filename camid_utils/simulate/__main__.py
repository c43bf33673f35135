"""Small simulated photos, as many as in the real data sets and under their names, for the profile `rehearsal`."""

import argparse
import sys
from pathlib import Path

from ..project import resolve
from .build import simulate


def main(arguments: list[str] | None = None) -> int:
    """Write both data sets; exit code 0, or 2 where that is not possible."""
    parser = argparse.ArgumentParser(prog="python -m camid_utils.simulate", description=__doc__)
    parser.add_argument("--to", type=Path, default=resolve("data/rehearsal"), help="folder for both (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        print(simulate("dresden", options.to / "Dresden", like_published=True))
        print(simulate("floreview", options.to / "FloreView", like_published=True))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
