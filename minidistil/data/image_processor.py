"""Scales and normalises images for a vision model, by the settings in its folder.

    pixel = (scale·number − mean)/std            mean and std one a channel

Where the scale is for numbers up to 255, floats that all lie between 0 and 1 are scaled already;
they are not scaled again, with a warning (transformers warns, and scales). A second warning is for
numbers far above 1 where the model expects 0 to 1.

`preprocessor_config.json` holds scale, mean and std under the names of transformers' ViT folders.
Its settings for resizing are not applied: images must have the model's size.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from minidistil.config import VitConfig
from minidistil.io import files

FILE = "preprocessor_config.json"
DEFAULTS = {  # of transformers' ViTImageProcessor
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": 0.5,
    "image_std": 0.5,
}  # fmt: skip


SCALED = 0.5  # a smaller scale is for numbers up to 255 (or 16)
HIGHEST = 2.0  # after scaling; larger numbers show that the images were not scaled


class ImageProcessor:
    """The preprocessor of images, as a tokenizer is that of texts.

    config: a VitConfig; settings: the file's dictionary. max_length: rows (tokens) of an image.
    Raises ValueError for an invalid mean, std or scale.
    """

    def __init__(self, config: VitConfig, settings: dict):
        self.channels, self.size = config.num_channels, config.image_size
        self.max_length = config.architecture.P
        self.settings, self.warned = dict(settings), set()
        settings = DEFAULTS | self.settings
        for name in ("do_rescale", "do_normalize"):
            if not isinstance(settings[name], bool):
                raise ValueError(f"{FILE}: {name} must be true or false, not {settings[name]!r}")
        scaled = settings["do_rescale"]
        self.scale = self._numbers("rescale_factor", settings) if scaled else 1.0
        if not np.all(self.scale > 0):
            raise ValueError(
                f"{FILE}: rescale_factor must be above 0, not {settings['rescale_factor']}"
            )
        self.mean, self.std = 0.0, 1.0
        if settings["do_normalize"]:
            self.mean, self.std = (self._numbers(n, settings) for n in ("image_mean", "image_std"))
            if not np.all(self.std > 0):
                raise ValueError(f"{FILE}: image_std must be above 0, not {settings['image_std']}")

    def _numbers(self, name, settings):
        """One number for all channels, or one each  ->  float32, (channels,1,1)."""
        try:
            found = np.array(settings[name], np.float32)
        except (TypeError, ValueError):
            found = np.array(np.nan)
        if found.shape not in ((), (self.channels,)) or not np.isfinite(found).all():
            raise ValueError(
                f"{FILE}: {name} must be a number or {self.channels} of them, a channel each, not "
                f"{settings[name]!r}"
            )
        return found.reshape(-1, 1, 1)

    @classmethod
    def read(cls, folder: str | Path, config: VitConfig) -> "ImageProcessor":
        """The processor of a folder. Raises MissingFileError, or ValueError for a faulty file."""
        path = Path(folder) / FILE
        if not path.exists():
            raise files.MissingFileError(
                f"{path} is missing: it says how the model's images are scaled; write one such as "
                f'{{"rescale_factor": {1 / 255:.6f}, "image_mean": 0.5, "image_std": 0.5}}'
            )
        return cls(config, files.read_settings(path))

    @classmethod
    def for_numbers(cls, config: VitConfig, highest: float | None) -> "ImageProcessor":
        """A processor that maps numbers from 0 to highest to −1 to 1. Raises ValueError for None,
        an unknown range."""
        if highest is None:
            raise ValueError(
                "images must be finite numbers from 0 to 1 or from 0 to 255, and some of these lie "
                "outside; scale them so"
            )
        half = [0.5] * config.num_channels
        return cls(config, {
            "image_processor_type": "ViTImageProcessor", "do_resize": False,
            "size": {"height": config.image_size, "width": config.image_size},
            "do_rescale": True, "rescale_factor": 1 / highest, "do_normalize": True,
            "image_mean": half, "image_std": half,
        })  # fmt: skip

    def save(self, folder: str | Path, token_types: bool | None = None) -> None:
        """Write preprocessor_config.json; token_types has a meaning for a Tokenizer alone."""
        files.write_json(Path(folder) / FILE, self.settings)

    def same_as(self, other: "ImageProcessor") -> bool:
        """Whether both make the same pixels of an image."""
        mine, theirs = (
            [p.channels, p.size, *np.ravel(p.scale), *np.ravel(p.mean), *np.ravel(p.std)]
            for p in (self, other)
        )
        return mine == theirs

    def __call__(
        self, images: Sequence[np.ndarray], called: Callable[[int], str] = "image {}".format
    ) -> np.ndarray:
        """B arrays (H,W), (channels,H,W) or (H,W,channels)  ->  float32 (B,channels,S,S).

        called: an image's number -> its name in errors. Raises ValueError for an image of another
        size than the model's, and for NaN, infinity or another dtype than numbers.
        """
        if not len(images):
            raise ValueError("there are no images; give at least one")
        given = (np.asarray(image) for image in images)
        shaped = np.stack([self._shaped(called(i), image) for i, image in enumerate(given)])
        with np.errstate(over="ignore", invalid="ignore"):
            numbers = shaped.astype(np.float32)
            pixels = (numbers * self._scale_of(shaped) - self.mean) / self.std
        if not np.isfinite(pixels).all():
            bad = np.flatnonzero(~np.isfinite(pixels).all(axis=(1, 2, 3)))[0]
            raise ValueError(f"{called(bad)} holds NaN or infinity; leave it out")
        return pixels

    def _scale_of(self, images):
        """The scale for these images: 1 for those that are between 0 and 1 already."""
        low, high, scale = images.min(), images.max(), np.max(self.scale)
        if images.dtype.kind in "bf" and low >= 0 and 0 < high <= 1 and scale < SCALED:
            self._warn(
                f"the images lie between 0 and 1 already, so that rescale_factor {scale:.6g} is "
                f"not applied; {FILE} expects numbers up to {1 / scale:.6g}"
            )
            return np.float32(1)
        if np.max(self.mean) <= 1 and np.max(self.std) < 1 and scale * float(high) > HIGHEST:
            self._warn(
                f"the images hold numbers up to {high}, which {FILE} scales by {scale:.6g}, where "
                f"its image_mean and image_std are for numbers from 0 to 1; scale the images, or "
                f"write do_rescale and rescale_factor"
            )
        return self.scale

    def _warn(self, text):
        """Warn once for each text."""
        if text not in self.warned:
            self.warned.add(text)
            warnings.warn(text, stacklevel=5)

    def _shaped(self, name, image):
        C, S = self.channels, self.size
        if image.dtype.kind not in "buif":
            raise ValueError(f"{name} must be an array of numbers, not of {image.dtype}")
        if image.shape == (C, S, S):
            return image
        if image.shape == (S, S) and C == 1:
            return image[None]
        if image.shape == (S, S, C):
            return image.transpose(2, 0, 1)
        channels = "channel" if C == 1 else "channels"
        raise ValueError(
            f"{name} is {image.shape}, the model reads {C} {channels} of {S} by {S}; cut or "
            f"resize the images first"
        )
