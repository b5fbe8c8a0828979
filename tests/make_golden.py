"""What PyTorch and transformers say, stored for machines that have neither.

    python tests/make_golden.py

writes `tests/golden/`. Each file holds everything a comparison needs: inputs, weights, and every
number that came out.
"""

import tempfile
from pathlib import Path

import image_cases
import model_cases
import numpy as np
import op_checks
import pair_cases
import sentence_cases
import sequence_cases
import soft_cases
import term_cases
from distill_cases import CONFIGS, STORED, cases_of, distiller, pair
from model_cases import (
    CASES,
    GOLDEN,
    SMALL,
    batch_of,
    cotangents,
    fields,
    model_of,
    pack,
    torch_numbers,
)
from op_cases import stored_cases

import minidistil as md

DTYPES = ("float32", "float64")


def save(name, groups):
    """groups: {kind: {name: array}}, stored as "kind:name"."""
    arrays = {f"{kind}:{key}": x for kind, group in groups.items() for key, x in group.items()}
    np.savez_compressed(GOLDEN / f"{name}.npz", **arrays)


def models():
    """The stored cases of `model_cases`, in their small size."""
    for name in model_cases.STORED:
        case = CASES[name]
        model, d = model_of(case, SMALL), cotangents(case, SMALL)
        batch = batch_of(case, SMALL, pad=True)
        out, exact = (
            torch_numbers(model, fields(case, SMALL), batch, d, dtype) for dtype in DTYPES
        )
        weights = pack(model.params)
        save(name, {"in": batch, "cotangent": d, "weight": weights, "out": pack(out, exact)})


def pairs():
    """Every case of `pair_cases`, in its small size."""
    for name, case in pair_cases.CASES.items():
        size = pair_cases.SMALL
        model, batch = pair_cases.model_of(case, size), pair_cases.batch_of(case, size)
        how = model, pair_cases.fields(case, size), batch
        out = (pair_cases.torch_numbers(*how, dtype) for dtype in DTYPES)
        save(name, {"in": batch, "weight": pack(model.params), "out": pack(*out)})


def distillation():
    """A step of the original distiller for some configs."""
    for name in STORED:
        teacher, student, batch = pair(*cases_of(name), SMALL)
        config = md.DistillConfig(**CONFIGS[name])
        how = student, teacher, SMALL, cases_of(name), batch, config
        out = pack(*(distiller(*how, dtype) for dtype in DTYPES))
        weights = {"student": pack(student.params), "teacher": pack(teacher.params)}
        save(f"distill-{name}", {"in": batch, **weights, "out": out})


def lessons(file, cases):
    """Every lesson of `sentence_cases` or `sequence_cases`: the same two models in each."""
    given, out, exact = {}, {}, {}
    for name in cases.LESSONS:
        (teacher, student), batch = cases.pair(name, cases.SMALL), cases.batch_of(name, cases.SMALL)
        given |= {f"{name}/{n}": x for n, x in batch.items()}
        for part, dtype in zip((out, exact), DTYPES, strict=True):
            found = cases.torch_numbers(name, teacher, student, batch, cases.SMALL, dtype)
            part |= {f"{name}/{n}": x for n, x in found.items()}
    weights = {"student": pack(student.params), "teacher": pack(teacher.params)}
    save(file, {"in": given, **weights, "out": pack(out, exact)})


def images():
    """ViT and DeiT, and a step of each of DeiT's losses."""
    with tempfile.TemporaryDirectory() as scratch:
        for family, task in image_cases.CASES:
            model, folder = image_cases.model_of(family, task), Path(scratch, family, task)
            model.save_pretrained(folder)
            d = image_cases.cotangents(model.forward(image_cases.batch_of()["pixel_values"]))
            out = pack(*(image_cases.torch_numbers(folder, model, d, t) for t in DTYPES))
            save(f"{family}-{task}", {"cotangent": d, "weight": pack(model.params), "out": out})
        models, names = image_cases.pair(), ("teacher", "student")
        folders = [Path(scratch, name) for name in names]
        for model, folder in zip(models, folders, strict=True):
            model.save_pretrained(folder)
        weights = {n: pack(m.params) for n, m in zip(names, models, strict=True)}
        for kind in image_cases.LESSONS:
            out = (image_cases.torch_taught(folders, models, kind, t) for t in DTYPES)
            save(f"deit-{kind}", {**weights, "out": pack(*out)})


def soft_targets():
    """The distillation loss of each code base."""
    save("soft-targets", {"out": pack(*(soft_cases.torch_numbers(np.dtype(d)) for d in DTYPES))})


def terms():
    """Every objective on the inside of the models."""
    groups, learned, out, exact = {}, {}, {}, {}
    for name in term_cases.EVERY:
        student, teacher, config = term_cases.prepared(name)
        for of, model in (("student", student.student), ("teacher", teacher)):
            groups[f"{of}-{term_cases.width_of(name)}"] = pack(model.params)
        learned |= {f"{name}/{n}": p for n, p in student.learned.items()}
        for part, dtype in zip((out, exact), DTYPES, strict=True):
            found = term_cases.torch_numbers(student, teacher, config, dtype)
            part |= {f"{name}/{n}": x for n, x in found.items()}
    save("terms", {**groups, "learned": pack(learned), "out": pack(out, exact)})


def operations():
    """The small cases of every op that PyTorch has a function for, in one file."""
    inputs, out, exact = {}, {}, {}
    for case in stored_cases():
        inputs |= {f"{case}/{n}": x for n, x in op_checks.arrays_of(case).items()}
        for part, dtype in ((out, np.float32), (exact, np.float64)):
            part |= {f"{case}/{n}": x for n, x in op_checks.torch_numbers(case, dtype).items()}
    save(op_checks.STORED, {"in": pack(inputs), "out": pack(out, exact)})


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    operations()
    models()
    pairs()
    distillation()
    lessons("sentences", sentence_cases)
    lessons("sequences", sequence_cases)
    images()
    soft_targets()
    terms()
