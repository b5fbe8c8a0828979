"""Several models as one: the mean of their logits, asked as a model is."""

import numpy as np
import pytest
from distill_cases import BERT, CLASSES, STUDENT
from model_cases import CASES, SMALL, batch_of, exact, model_of

import minidistil as md
from minidistil.model.ensemble import Ensemble, mean

TEACHER = CASES["bert-single"]


def members(cases=(CLASSES, TEACHER)):
    return [model_of(case, SMALL, seed=i) for i, case in enumerate(cases)]


def inputs(batch):
    return batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize("weights", [None, (3, 1)])
def test_the_weighted_mean_of_the_logits(weights, backend):
    both = [m.with_ops(md.backend(backend)) for m in members()]
    batch = batch_of(TEACHER, SMALL)
    ensemble = Ensemble(both, weights)
    ids, mask, types = inputs(batch)
    first = both[0].forward(ids, mask).logits
    second = both[1].forward(ids, mask, types).logits
    found = ensemble.infer(ensemble.pack(*inputs(batch))).logits
    w = (0.75, 0.25) if weights else (0.5, 0.5)
    np.testing.assert_allclose(found, w[0] * first + w[1] * second, rtol=1e-5, atol=1e-5)
    assert len(ensemble.params) == sum(len(m.params) for m in both)


def test_words_of_some_rows():
    both = [exact(m) for m in members((STUDENT, BERT))]
    batch = batch_of(BERT, SMALL)
    ensemble = Ensemble(both)
    rows = ensemble.pack(*inputs(batch))
    select = np.array([0, 3, 4])
    every, some = ensemble.infer(rows).logits, ensemble.infer(rows, select).logits
    np.testing.assert_allclose(some, every[select])


def test_one_model_is_its_own_mean():
    (model,) = members((TEACHER,))
    batch = batch_of(TEACHER, SMALL)
    ensemble = Ensemble([model])
    expected = model.forward(*inputs(batch)).logits
    np.testing.assert_array_equal(ensemble.infer(ensemble.pack(*inputs(batch))).logits, expected)


def test_the_arrays_are_left_as_they_were():
    logits = [np.ones((2, 3), np.float32), np.full((2, 3), 3, np.float32)]
    found = mean(logits, (0.5, 0.5), md.backend("numpy"))
    assert (found == 2).all() and (logits[0] == 1).all() and (logits[1] == 3).all()


@pytest.mark.parametrize(
    "weights, words",
    [((1,), "a weight for each model: 1 for 2"), ((1, 0), "above 0"), ((1, np.nan), "above 0")],
)
def test_weights_that_make_no_sense(weights, words):
    with pytest.raises(ValueError, match=words):
        Ensemble(members(), weights)


def test_models_that_do_not_fit_together():
    def refused(words, *models):
        with pytest.raises(ValueError, match=words):
            Ensemble(models)

    refused("0 for 0 models")
    classes, teacher = members()
    refused("must share the task", classes, model_of(STUDENT, SMALL))
    refused("share vocab_size", classes, model_of(CLASSES, SMALL | {"V": 24}))
    refused("share num_labels", teacher, model_of(CASES["distilbert-single"], SMALL))
    refused("share the backend", classes, teacher.with_ops(md.backend("numpy")))
