"""Command hooks of image classification: scikit-learn's digits, or arrays of an .npz file.

minidistil finetune --task image-classification --data digits --held-out 360 --out runs/vit
minidistil distill  --teacher runs/vit --data digits --held-out 360 --layers 0,2

Without --model a new small ViT is trained; --model config.json gives another size.
"""

from minidistil.config import VitConfig, read_config
from minidistil.data.batches import Batching
from minidistil.data.image_processor import ImageProcessor
from minidistil.data.label_values import SINGLE
from minidistil.data.preprocessor import load_preprocessor
from minidistil.model.checkpoint import CONFIG
from minidistil.model.pretrained import from_config, resolve
from minidistil.model.vision.vision_encoder import IMAGES
from minidistil.tasks.image_classification.data import Images, pictures, shape_of
from minidistil.tasks.labelled_data import (
    WithoutLabels,
    held_out_of,
    known_names,
    names_for,
    reader_of_labelled,
    relabelled,
    training_and_evaluation,
)
from minidistil.tasks.text_classification.command import answers, describe, measure

__all__ = ["answers", "describe", "measure"]
SMALL = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
         "intermediate_size": 256}  # fmt: skip
LARGEST_PATCH, FEWEST = 16, 4  # numbers along a patch, patches along an image


def add_options(parser) -> None:
    """No options: --data is an .npz file or digits, --model a folder or a config.json."""


def start(args) -> tuple:
    """A folder, or the config of a new model; and its ImageProcessor."""
    if args.model and not args.model.endswith(".json"):
        folder = resolve(args.model)
        return folder, load_preprocessor(folder)
    given = pictures(args.data)
    config = read_config(args.model) if args.model else fitting(*shape_of(given.images))
    if not isinstance(config, VitConfig):
        raise ValueError(f"{args.model} is a {config.model_type}'s; {IMAGES} needs a vit or deit")
    return config, ImageProcessor.for_numbers(config, given.highest)


def fitting(channels: int, size: int) -> VitConfig:
    """The config of a small ViT for images of this size: four patches or more along a side."""
    sizes = range(min(LARGEST_PATCH, max(1, size // FEWEST)), 0, -1)
    patch = next(p for p in sizes if size % p == 0)
    return VitConfig(num_channels=channels, image_size=size, patch_size=patch, **SMALL)


def training(args, origin, processor, resumed) -> tuple:
    """The model with a head for the data's labels, and Images."""
    fresh = isinstance(origin, VitConfig)
    known = (origin if fresh else read_config(origin / CONFIG)).id2label
    read = reader_of_labelled(SINGLE, known or (), _read)
    training, evaluation = training_and_evaluation(args, read)
    labels = [label for _, label in training + evaluation]
    if None in labels:
        raise ValueError(f"{args.data} holds no labels to learn from; add an array of that name")

    def labels_of(before):
        names = names_for(labels, SINGLE, before.id2label)
        return len(names), SINGLE, names

    if fresh:
        config = origin.with_labels(*labels_of(origin))
        model = from_config(config, IMAGES, args.seed, args.backend, args.dtype)
    else:
        model = relabelled(args, origin, IMAGES, labels_of)
    return model, _data(args, processor, model.config, training, evaluation)


def evaluation(args, processor, model) -> list[dict]:
    """Batches of the images with their labels."""
    read = reader_of_labelled(SINGLE, known_names(model.config), _read)
    return _data(args, processor, model.config, [], held_out_of(args, read)).evaluation_batches()


def distillation(args, processor, teacher, resumed):
    """Images; with --no-labels the teacher gives the only targets."""
    if args.cache_teacher:
        raise ValueError(
            "--cache-teacher stores a teacher's outputs for texts, not for images; leave it out"
        )
    read = reader_of_labelled(SINGLE, known_names(teacher.config), _read)
    data = _data(args, processor, teacher.config, *training_and_evaluation(args, read))
    return data if args.labels else WithoutLabels(data)


def _read(args, path):
    found = pictures(path)
    return list(zip(found.images, found.labels or [None] * len(found.images), strict=True))


def _data(args, processor, config, training, evaluation):
    return Images(
        training, processor, Batching(args.batch_tokens, args.seed), names=known_names(config),
        evaluation=evaluation,
    )  # fmt: skip
