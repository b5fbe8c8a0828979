"""One model from a folder, or an ensemble from several, with their tokenizer."""

from minidistil.data import check_vocabulary, load_tokenizer
from minidistil.data.corpus import fingerprint
from minidistil.model.ensemble import Ensemble
from minidistil.model.pretrained import from_pretrained, resolve


def load(folders, weights=None, **options):
    """A folder or a list of them  ->  Model or Ensemble, Tokenizer (of the first).

    weights: of an ensemble, see there. options: those of `from_pretrained`. Raises ValueError for
    models whose tokenizers differ, since one text is to be the same ids for all of them.
    """
    folders = [resolve(f) for f in (folders if isinstance(folders, list | tuple) else [folders])]
    tokenizers = [load_tokenizer(folder) for folder in folders]
    for folder, tokenizer in zip(folders, tokenizers, strict=True):
        if fingerprint(tokenizer) != fingerprint(tokenizers[0]):
            raise ValueError(
                f"several models are asked about the same tokens, and {folder} has another "
                f"vocabulary than {folders[0]}; take models that share a tokenizer"
            )
    models = [from_pretrained(folder, **options) for folder in folders]
    for model in models:
        check_vocabulary(tokenizers[0], model.config.vocab_size)
    if len(models) == 1 and weights is None:
        return models[0], tokenizers[0]
    return Ensemble(models, weights), tokenizers[0]
