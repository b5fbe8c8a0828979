"""The batch of `check` and `trace`: texts, pairs of texts, images, or random ones."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from minidistil.config import EncoderDecoderConfig, read_config
from minidistil.config.vit import VISION
from minidistil.data.image_processor import ImageProcessor
from minidistil.model.checkpoint import CONFIG
from minidistil.tasks.image_classification.data import pictures

IMAGES = 4  # of a file


def add_batch(parser: ArgumentParser) -> None:
    """Add the options that name a batch."""
    parser.add_argument(
        "--text", nargs="+", metavar="TEXT", help="the batch; default: random words"
    )
    parser.add_argument(
        "--target", nargs="+", metavar="TEXT", help="of an encoder-decoder, one for each --text"
    )
    parser.add_argument("--image", metavar="PATH", help="an .npz file, or digits; its first images")
    parser.add_argument("--seed", type=int, default=0, help="of the random batch")


def given_batch(
    args: Namespace, folder: str | Path, texts: Sequence[str] | None
) -> tuple[list | None, dict[str, np.ndarray] | None]:
    """(texts or pairs of texts, the arrays of images) that the options name, each None if unnamed.

    texts: those of --text or of a file. Raises ValueError where the model reads something else.
    """
    config = read_config(Path(folder) / CONFIG)
    kind = config.model_type
    if args.image and kind not in VISION:
        raise ValueError(f"--image is for {' and '.join(VISION)}, not for {kind}; give --text")
    if args.image and (texts or args.target):
        raise ValueError("--image and texts are two batches; give one of them")
    if args.image:
        images = list(pictures(args.image).images[:IMAGES])
        return None, {"pixel_values": ImageProcessor.read(folder, config)(images)}
    if texts and kind in VISION:
        raise ValueError(f"a {kind} reads images, not texts; give --image, an .npz file or digits")
    pairs = kind == EncoderDecoderConfig.model_type
    if args.target and (not pairs or len(texts or ()) != len(args.target)):
        raise ValueError("--target is for an encoder-decoder: one for each --text")
    if pairs and texts and not args.target:
        raise ValueError(
            "an encoder-decoder reads pairs: give a --target for each --text, or neither for "
            "random tokens"
        )
    return (list(zip(texts, args.target, strict=True)) if pairs and texts else texts), None
