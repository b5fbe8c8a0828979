"""Where the teacher that comes with minidistil lies."""

from pathlib import Path

from minidistil.io.files import MissingFileError

PACKAGE = Path(__file__).resolve().parent.parent
PLACES = (PACKAGE.parent / "weights", PACKAGE / "weights")  # in a checkout; in an installed wheel


def default_teacher():
    """The folder of the teacher that is shipped. Raises MissingFileError where there is none."""
    for place in PLACES:
        if (place / "config.json").is_file():
            return place
    raise MissingFileError(
        f"no teacher came with this copy of minidistil: {PLACES[0]} holds no config.json; "
        f"name the folder of a model"
    )
