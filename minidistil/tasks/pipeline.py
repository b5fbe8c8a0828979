"""Texts in, answers out, in the shapes that transformers' pipelines give them.

predict = pipeline("fill-mask", folder)
predict("The movie was [MASK].")      [{"score", "token", "token_str", "sequence"}, …]
"""

from minidistil.io.arguments import one_of
from minidistil.tasks.base_predictor import TOGETHER
from minidistil.tasks.extractive_summarization.predictor import ExtractiveSummarization
from minidistil.tasks.feature_extraction.predictor import FeatureExtraction
from minidistil.tasks.fill_mask.predictor import FillMask
from minidistil.tasks.image_classification.predictor import ImageClassification
from minidistil.tasks.load_models import load
from minidistil.tasks.multiple_choice.predictor import MultipleChoice
from minidistil.tasks.question_answering.predictor import QuestionAnswering
from minidistil.tasks.sentence_embedding.predictor import SentenceEmbedding
from minidistil.tasks.text_classification.predictor import TextClassification
from minidistil.tasks.text_generation.predictor import TextGeneration
from minidistil.tasks.text_to_text.predictor import Summarization, TextToText, Translation
from minidistil.tasks.token_classification.predictor import TokenClassification

__all__ = ["PREDICTORS", "TOGETHER", "pipeline"]

PREDICTORS = {
    "fill-mask": FillMask,
    "text-classification": TextClassification,
    "text-generation": TextGeneration,
    "token-classification": TokenClassification,
    "question-answering": QuestionAnswering,
    "multiple-choice": MultipleChoice,
    "feature-extraction": FeatureExtraction,
    "sentence-embedding": SentenceEmbedding,
    "text2text-generation": TextToText,
    "translation": Translation,
    "summarization": Summarization,
    "extractive-summarization": ExtractiveSummarization,
    "image-classification": ImageClassification,
}


def pipeline(task, folder, *, backend="cpu", dtype=None):
    """A predictor for one of the tasks in PREDICTORS.

    folder: a model with its tokenizer (of images: preprocessor_config.json), or a name on the hub;
    a list of them answers as an ensemble, by the mean of the logits. backend, dtype: see
    `from_pretrained`.
    predict(text) answers for one text, predict([texts]) for several; a classifier also takes
    {"text": …, "text_pair": …}.

        fill-mask            [{"score", "token", "token_str", "sequence"}, …] top_k=5 of them; with
                             several [MASK]s in a text a list of such lists
        text-classification  [{"label", "score"}], with top_k that many of them (None: all);
                             for several texts one dict, or with top_k one list, each
        text-generation      [{"generated_text"}], the prompt and what follows it; options are those
                             of `minidistil.generate`: max_new_tokens, temperature, num_beams,
                             repetition_penalty, no_repeat_ngram_size, …
        token-classification [{"entity", "score", "index", "word", "start", "end"}, …] a text, one a
                             piece that is not "O"; with aggregation_strategy="simple", or
                             "first", "average", "max", which make words of pieces before,
                             [{"entity_group", "score", "word", "start", "end"}, …]
        question-answering   {"score", "start", "end", "answer"} for {"question": …, "context": …},
                             with top_k a list of them; "" is no answer, where
                             handle_impossible_answer=True allows it
        multiple-choice      {"answer", "index", "score"} for {"question": …, "choices": […]}
        translation          [{"translation_text"}], of a summarization [{"summary_text"}], one for
                             each text; num_beams=4 and the other options of
                             `EncoderDecoder.generate`
        extractive-summarization  {"summary_text", "sentences": [{"index", "score", "text"}, …]} for
                             a text, or a list of its sentences in {"text": […]}; sentences=3 of
                             them, trigram_blocking=True for no two alike
        feature-extraction   nested lists (1,T,C), for several texts a list of these
        sentence-embedding   a list of C numbers, for several texts a list of these
        image-classification [{"label", "score"}, …] top_k=5 of them, for an array (H,W),
                             (channels,H,W) or (H,W,channels); for a list of arrays a list of these

    Raises ValueError or MissingFileError for a bad folder, an empty text, a text without [MASK].
    """
    one_of("task", task, PREDICTORS)
    model, tokenizer = load(folder, task=task, backend=backend, dtype=dtype)
    return PREDICTORS[task](model, tokenizer)
