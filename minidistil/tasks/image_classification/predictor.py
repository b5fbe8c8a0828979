"""Predicts labels of images, with probabilities."""

import numpy as np

from minidistil.data.image_processor import ImageProcessor
from minidistil.io.arguments import whole
from minidistil.tasks.base_predictor import BATCH_SIZE
from minidistil.tasks.text_classification.predictor import TextClassification, ranked


class ImageClassification(TextClassification):
    """TextClassification of images, with an ImageProcessor as its tokenizer."""

    def __init__(self, model, processor: ImageProcessor):
        super().__init__(model, processor)
        self.called = "image {}".format

    def __call__(self, inputs: np.ndarray | list, top_k: int = 5) -> list:
        """An image, an array (H,W), (channels,H,W) or (H,W,channels), or a list of them.

        top_k: how many labels, by descending probability. Raises ValueError for an image of another
        size than the model's.
        """
        top_k = whole("top_k", top_k, 1)
        images = inputs if isinstance(inputs, list) else [np.asarray(inputs)]
        pixels, answers = self.tokenizer(images, self.called), []
        for start in range(0, len(images), BATCH_SIZE):
            batch = {"pixel_values": pixels[start : start + BATCH_SIZE]}
            result = self.model.infer(self.model.pack_batch(batch))
            answers += [ranked(s, self.names)[:top_k] for s in self._scores(result.logits)]
        return answers if isinstance(inputs, list) else answers[0]
