"""The preprocessor of a model's folder: a Tokenizer for texts, an ImageProcessor for images."""

from pathlib import Path

from minidistil.config import read_config
from minidistil.config.sentence_folder import body_of
from minidistil.config.vit import VISION
from minidistil.data.corpus import fingerprint
from minidistil.data.image_processor import ImageProcessor
from minidistil.data.tokenizer import Tokenizer, check_vocabulary
from minidistil.data.tokenizer_files import load_tokenizer


def load_preprocessor(folder: str | Path) -> Tokenizer | ImageProcessor:
    """The preprocessor of a folder. Raises MissingFileError or ValueError."""
    folder = body_of(folder)
    path = folder / "config.json"
    if path.is_file() and (config := read_config(path)).model_type in VISION:
        return ImageProcessor.read(folder, config)
    return load_tokenizer(folder)


def check_preprocessor(preprocessor: Tokenizer | ImageProcessor, config) -> None:
    """Raise ValueError if a model of this config has no row for an id of the tokenizer."""
    if not isinstance(preprocessor, ImageProcessor):
        check_vocabulary(preprocessor, config.vocab_size)


def same_preprocessing(a: Tokenizer | ImageProcessor, b: Tokenizer | ImageProcessor) -> bool:
    """Whether both make the same arrays of the same input."""
    of_images = [isinstance(preprocessor, ImageProcessor) for preprocessor in (a, b)]
    if all(of_images):
        return a.same_as(b)
    if any(of_images):
        return False
    return (fingerprint(a), a.rules) == (fingerprint(b), b.rules)
