"""Labels of images with their probabilities."""

import numpy as np

from minidistil.io.arguments import whole
from minidistil.tasks.base_predictor import TOGETHER
from minidistil.tasks.text_classification.predictor import TextClassification, ranked


class ImageClassification(TextClassification):
    """A classifier as a text's; an ImageProcessor reads for it."""

    def __init__(self, model, processor):
        super().__init__(model, processor)
        self.called = "image {}".format

    def __call__(self, inputs, top_k=5):
        """An image, an array (H,W), (channels,H,W) or (H,W,channels), or a list of them.

        top_k: how many labels, the likeliest first. Raises ValueError for an image of another size
        than the model reads.
        """
        top_k = whole("top_k", top_k, 1)
        images = inputs if isinstance(inputs, list) else [np.asarray(inputs)]
        pixels, answers = self.tokenizer(images, self.called), []
        for start in range(0, len(images), TOGETHER):
            batch = {"pixel_values": pixels[start : start + TOGETHER]}
            result = self.model.infer(self.model.pack_batch(batch))
            answers += [ranked(s, self.names)[:top_k] for s in self._scores(result.logits)]
        return answers if isinstance(inputs, list) else answers[0]
