"""Predicts the correct choice of a question, with its probability."""

from minidistil.data.batches import Batching
from minidistil.model.task_outputs import questions
from minidistil.tasks.base_predictor import Predictor, listed
from minidistil.tasks.multiple_choice.data import Choices, choice_of


class MultipleChoice(Predictor):
    """Answers one question after another."""

    def __call__(self, inputs: dict | list, max_length: int | None = None) -> dict | list:
        """{"question", "choices"} or a list of them  ->  {"answer", "index", "score"} for each."""
        answers, ops = [], self.model.ops
        for i, record in enumerate(listed(inputs)):
            if not isinstance(record, dict):
                raise ValueError(f'input {i} must be {{"question": …, "choices": […]}}')
            item = choice_of({**record, "label": None}, f"input {i}")
            batch = Choices(
                [item], self.tokenizer, Batching(1), labelled=False, max_length=max_length
            ).collate([0])
            rows = self.model.pack_batch(batch)
            (logits,) = questions(self.model.infer(rows).logits, rows, "choice", ops.place)
            scores = ops.place.fetch(ops.softmax.forward(logits)[0])[0]
            best = int(scores.argmax())
            answers.append(
                {"answer": item.choices[best], "index": best, "score": float(scores[best])}
            )
        return answers if isinstance(inputs, list) else answers[0]
