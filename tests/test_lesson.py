"""The notebooks' `check`: silent about nothing, and never an accusation of what is right."""

import numpy as np
import pytest

from minidistil.lesson import check, size


def double(x):
    return 2 * x


def pair(x):
    return x.sum(), np.outer(x, x)


ATTEMPTS = {
    "is right": lambda x: x + x,
    "is still empty": lambda x: None,
    "stopped with ZeroDivisionError": lambda x: 1 / 0,
    "wanted 1 thing": lambda x: (x, x),
    "has shape (3, 2), wanted (2, 3); is it transposed?": lambda x: 2 * x.T,
    "is 0.5 times the right one": lambda x: x,
    "is the right one plus 1 everywhere": lambda x: 2 * x + 1,
    "is wrong, most of all": lambda x: x**2,
    "is NaN or infinite in 6 entries": lambda x: x / 0,
    "which is no array of numbers": lambda x: "two",
}


@pytest.mark.parametrize("sentence", ATTEMPTS)
def test_each_mistake_is_described(sentence, capsys):
    check(ATTEMPTS[sentence], double, np.arange(6.0).reshape(2, 3) + 1)
    assert sentence in capsys.readouterr().out


def test_a_known_mistake_is_named_and_another_is_not(capsys):
    mistakes = {"it is squared": lambda x: x**2}
    check(lambda x: x * x, double, np.arange(3.0), mistakes=mistakes)
    check(lambda x: x**3, double, np.arange(3.0), mistakes=mistakes)
    assert capsys.readouterr().out.count("Diagnosis: it is squared") == 1


def test_the_wrong_one_of_two_things_is_named(capsys):
    x = np.arange(3.0)
    check(lambda x: (x.sum(), np.ones((3, 3))), pair, x, names=("total", "square"))
    out = capsys.readouterr().out
    assert "square is wrong" in out and "total" not in out


def test_the_catalogue_of_mistakes_is_asked(capsys):
    x = np.random.default_rng(0).standard_normal((4, 8))

    def norm(x, gamma, beta, eps):
        return gamma * (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True) + beta

    def unbiased(x, gamma, beta, eps):
        return gamma * (x - x.mean(1, keepdims=True)) / x.std(1, ddof=1, keepdims=True) + beta

    check(unbiased, norm, x, np.ones(8), np.ones(8), op="layernorm", eps=0)
    assert "Diagnosis: layernorm-unbiased-variance" in capsys.readouterr().out


def test_an_attempt_cannot_change_what_it_is_given(capsys):
    def greedy(x):
        x *= 2
        return x

    x = np.arange(3.0)
    check(greedy, double, x)
    assert (x == np.arange(3)).all() and "is right" in capsys.readouterr().out


def test_sizes_follow_the_environment(monkeypatch):
    monkeypatch.setenv("MINIDISTIL_LESSON", "small")
    assert size(200, 10) == 10
    monkeypatch.delenv("MINIDISTIL_LESSON")
    assert size(200, 10) == 200
