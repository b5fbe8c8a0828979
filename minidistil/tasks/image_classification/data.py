"""Images with labels: scikit-learn's digits, or the arrays of an .npz file.

images    (n,H,W), (n,channels,H,W) or (n,H,W,channels), numbers from 0 to 255 or from 0 to 1
labels    (n,) whole numbers or names; optional where no labels are needed
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minidistil.data.batches import Batching
from minidistil.data.image_processor import ImageProcessor
from minidistil.data.in_memory import InMemory
from minidistil.data.label_values import SINGLE, label_numbers
from minidistil.io.files import MissingFileError
from minidistil.io.npz_arrays import read_arrays

DIGITS = "digits"
INKS = 16  # the largest number of scikit-learn's digits, which count ink in cells of 4 by 4 points


class Pictures(NamedTuple):
    """images (n,…); labels: a list, or None; highest: the largest possible number, 1 or 255, INKS
    for digits, None where some numbers lie outside."""

    images: np.ndarray
    labels: list | None
    highest: float | None


def pictures(source: str | Path) -> Pictures:
    """ "digits" or the path of an .npz file  ->  Pictures. Raises ValueError for a faulty file."""
    if source == DIGITS:
        return _digits()
    path = Path(source)
    if path.suffix.lower() != ".npz":
        raise ValueError(
            f"images are {DIGITS} or an .npz file, not {source}; write np.savez(path, images=…)"
        )
    if not path.exists():
        raise MissingFileError(f"{path} is not there; give an .npz file of images")
    found = read_arrays(path, ("images", "labels"))
    if "images" not in found:
        raise ValueError(f'{path} has no array "images"; write np.savez(path, images=…, labels=…)')
    images = found["images"]
    if images.ndim not in (3, 4) or not images.size or images.dtype.kind not in "buif":
        raise ValueError(
            f"{path}: images must be numbers (n,H,W), (n,channels,H,W) or (n,H,W,channels), not "
            f"{images.dtype} {images.shape}"
        )
    return Pictures(images, _labels(path, found, len(images)), _highest(images))


def _highest(images):
    """The range by the numbers, since floats may have either; NaN is refused later, with its
    image's number."""
    low, high = images.min(), images.max()
    return None if low < 0 or high > 255 else 1.0 if high <= 1 else 255.0


def _labels(path, found, n):
    if "labels" not in found:
        return None
    labels = found["labels"]
    if labels.shape != (n,) or labels.dtype.kind not in "uiU":
        raise ValueError(
            f"{path}: labels must be {n} whole numbers or names, one an image, not {labels.dtype} "
            f"{labels.shape}"
        )
    return labels.tolist()


def _digits():
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "the digits come with scikit-learn, which is not installed: "
            "pip install 'minidistil[demo]'"
        ) from None
    found = load_digits()
    return Pictures(found.images.astype(np.float32), found.target.tolist(), float(INKS))


def shape_of(images: np.ndarray) -> tuple[int, int]:
    """images (n,…)  ->  channels, S. Raises ValueError for images that are not square."""
    _, first, *rest = images.shape
    if not rest[1:]:
        channels, sides = 1, (first, *rest)
    elif rest[0] == rest[1]:
        channels, sides = first, rest
    else:
        channels, sides = rest[1], (first, rest[0])
    if sides[0] != sides[1]:
        raise ValueError(f"images must be square, not {sides[0]} by {sides[1]}; cut them first")
    return channels, sides[0]


class Images(InMemory):
    """Examples (image, label) to train on, others to evaluate on; a label is a name, or None if no
    example has one. names: of the labels, in the order of their numbers.

    A batch has pixel_values (B,channels,S,S), labels (B,) and attention_mask (B,T), all ones: the
    tokens of an image, which a run counts.
    """

    def __init__(
        self, examples: Sequence[tuple], processor: ImageProcessor, batching: Batching, *,
        names: Sequence[str], evaluation: Sequence[tuple] = (),
    ):  # fmt: skip
        every = [*examples, *evaluation]
        if not every:
            raise ValueError("there are no images; give at least one")
        self.pixels, self.labels = processor([image for image, _ in every]), None
        self.labelled = every[0][1] is not None
        if self.labelled:
            self.labels = label_numbers([label for _, label in every], SINGLE, names)
        self.rows = processor.max_length
        super().__init__(np.full(len(every), self.rows), len(examples), batching)

    def collate(
        self, indices: Sequence[int], *, step: int = 0, first_sequence: int = 0
    ) -> dict[str, np.ndarray]:
        """The batch of these images, the same at every step."""
        batch = {
            "pixel_values": self.pixels[indices],
            "attention_mask": np.ones((len(indices), self.rows), np.int64),
        }
        return batch if self.labels is None else {**batch, "labels": self.labels[indices]}
