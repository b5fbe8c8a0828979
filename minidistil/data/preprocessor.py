"""What turns inputs into a model's arrays: a text's tokenizer, or an ImageProcessor."""

from minidistil.config import read_config
from minidistil.config.sentence_folder import body_of
from minidistil.config.vit import VISION
from minidistil.data.corpus import fingerprint
from minidistil.data.image_processor import ImageProcessor
from minidistil.data.tokenizer import check_vocabulary
from minidistil.data.tokenizer_files import load_tokenizer


def load_reader(folder):
    """The folder's. Raises MissingFileError or ValueError, one line that says what is wrong."""
    folder = body_of(folder)
    path = folder / "config.json"
    if path.is_file() and (config := read_config(path)).model_type in VISION:
        return ImageProcessor.read(folder, config)
    return load_tokenizer(folder)


def check_reader(reader, config):
    """Raise ValueError if the reader gives what a model of this config cannot read."""
    if not isinstance(reader, ImageProcessor):
        check_vocabulary(reader, config.vocab_size)


def read_alike(mine, theirs):
    """Whether both make the same arrays of the same input."""
    pixels = [isinstance(reader, ImageProcessor) for reader in (mine, theirs)]
    if all(pixels):
        return mine.same_as(theirs)
    if any(pixels):
        return False
    return (fingerprint(mine), mine.rules) == (fingerprint(theirs), theirs.rules)
