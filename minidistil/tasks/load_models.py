"""Loads the model of a folder, or an ensemble of several, with the common preprocessor."""

from collections.abc import Sequence
from pathlib import Path

from minidistil.data.image_processor import ImageProcessor
from minidistil.data.preprocessor import check_preprocessor, load_preprocessor, same_preprocessing
from minidistil.data.tokenizer import Tokenizer
from minidistil.model.ensemble import Ensemble
from minidistil.model.model import Model
from minidistil.model.pretrained import from_pretrained, resolve, task_in


def load(
    folders: str | Path | Sequence, weights: Sequence[float] | None = None,
    task: str | None = None, **options,
) -> tuple[Model | Ensemble, Tokenizer | ImageProcessor]:  # fmt: skip
    """A folder or a list of them  ->  Model or Ensemble, and the first folder's preprocessor.

    weights: see Ensemble. task: None for the first folder's own. options: the others of
    `from_pretrained`. Raises ValueError for models whose preprocessors differ: a text must have the
    same ids for all of them.
    """
    folders = folders if isinstance(folders, list | tuple) else [folders]
    if not folders:
        raise ValueError("there is no folder; give at least one")
    folders = [resolve(folder) for folder in folders]
    preprocessors = [load_preprocessor(folder) for folder in folders]
    for folder, preprocessor in zip(folders, preprocessors, strict=True):
        if not same_preprocessing(preprocessor, preprocessors[0]):
            raise ValueError(
                f"models of one input must have the same preprocessor, and that of {folder} "
                f"differs from that of {folders[0]}; take models that share a tokenizer, or an "
                f"image's scale"
            )
    task = task or task_in(folders[0])
    models = [from_pretrained(folder, task=task, **options) for folder in folders]
    for model in models:
        check_preprocessor(preprocessors[0], model.config)
    if len(models) == 1 and weights is None:
        return models[0], preprocessors[0]
    return Ensemble(models, weights), preprocessors[0]
