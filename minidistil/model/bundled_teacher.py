"""Location of the teacher that is distributed with minidistil."""

from pathlib import Path

from minidistil.io.files import MissingFileError

PACKAGE = Path(__file__).resolve().parent.parent
PLACES = (PACKAGE.parent / "weights", PACKAGE / "weights")  # of a checkout, of an installed wheel


def default_teacher() -> Path:
    """The folder of the distributed teacher. Raises MissingFileError where it is missing."""
    for place in PLACES:
        if (place / "config.json").is_file():
            return place
    raise MissingFileError(
        f"no teacher came with this copy of minidistil: {PLACES[0]} holds no config.json; "
        f"name the folder of a model"
    )
