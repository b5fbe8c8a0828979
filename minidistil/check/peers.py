"""transformers' model of a folder."""

from minidistil.check.reference_batch import load
from minidistil.model.heads import architecture_name


def transformers_model(folder, task=None):
    """transformers' model of a folder, for the task. Its attention is unfused ("eager"), so that
    scores and weights are recorded. Raises ImportError without transformers."""
    try:
        import transformers
    except ImportError:
        raise ImportError(
            "transformers is not installed: pip install 'minidistil[check]', or give --against"
        ) from None
    model = load(folder, task)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    kind = getattr(transformers, architecture_name(model.config, model.task))
    module = kind.from_pretrained(folder, attn_implementation="eager")
    return module.float().eval()  # a folder may hold half precision
