"""transformers' model of a folder."""

from minidistil.check.reference_batch import load
from minidistil.model.heads import architecture_name
from minidistil.model.vision.vision_encoder import CLASSES


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
    kind = getattr(transformers, class_name(model))
    module = kind.from_pretrained(folder, attn_implementation="eager")
    return module.float().eval()  # a folder may hold half precision


def class_name(model):
    """The name of transformers' class."""
    kind, task = model.config.model_type, model.task
    return CLASSES[kind, task] if (kind, task) in CLASSES else architecture_name(model.config, task)
