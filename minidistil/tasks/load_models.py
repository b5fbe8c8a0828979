"""One model from a folder, or an ensemble from several, with their tokenizer."""

from minidistil.data.preprocessor import check_reader, load_reader, read_alike
from minidistil.model.ensemble import Ensemble
from minidistil.model.pretrained import from_pretrained, resolve, task_in


def load(folders, weights=None, task=None, **options):
    """A folder or a list of them  ->  Model or Ensemble, what reads for it: a Tokenizer or an
    ImageProcessor (of the first).

    weights: of an ensemble, see there. task: None for the first folder's own. options: the others
    of `from_pretrained`. Raises ValueError for models whose tokenizers differ, since one text is to
    be the same ids for all of them.
    """
    folders = folders if isinstance(folders, list | tuple) else [folders]
    if not folders:
        raise ValueError("there is no folder; give at least one")
    folders = [resolve(folder) for folder in folders]
    readers = [load_reader(folder) for folder in folders]
    for folder, reader in zip(folders, readers, strict=True):
        if not read_alike(reader, readers[0]):
            raise ValueError(
                f"several models are asked about the same input, and {folder} reads it in another "
                f"way than {folders[0]}; take models that share a tokenizer, or an image's scale"
            )
    task = task or task_in(folders[0])
    models = [from_pretrained(folder, task=task, **options) for folder in folders]
    for model in models:
        check_reader(readers[0], model.config)
    if len(models) == 1 and weights is None:
        return models[0], readers[0]
    return Ensemble(models, weights), readers[0]
