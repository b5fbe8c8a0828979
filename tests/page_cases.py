"""What the tests of interactive pages share: the data of a page, node, and headless Chromium."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

import minidistil as md
from minidistil.data.byte_pairs import train_byte_pairs

NODE = shutil.which("node")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                None)  # fmt: skip
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--virtual-time-budget=3000")  # fmt: skip
OUTSIDE = re.compile(r"https?://|\bsrc=|\bhref=|url\(|@import|\bimport[ (]|fetch\(|XMLHttp", re.I)
MEGABYTES = 5
DATA = '<script type="application/json" id="data">'


def data_of(page):
    """The data of an interactive page."""
    return json.loads(page.partition(DATA)[2].partition("</script>")[0])


def checked(path):
    """The text of a page that refers to nothing outside, and whose data end no script early."""
    page = path.read_text(encoding="utf-8")
    assert path.stat().st_size < MEGABYTES * 10**6
    without_data = page.replace(page.partition(DATA)[2].partition("</script>")[0], "")
    assert not OUTSIDE.search(without_data)
    assert page.count("<script") == page.count("</script>") == 2
    return page


def run_in_node(script, value):
    """What a script prints as JSON, of a value that it reads as JSON from stdin."""
    if NODE is None:
        pytest.skip("no node")
    whole = f"const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));{script}"
    done = subprocess.run([NODE, "-e", whole], input=json.dumps(value), capture_output=True,
                          text=True, timeout=60, check=True)  # fmt: skip
    return json.loads(done.stdout)


SCREENS = ((1280, "light"), (390, "dark"))  # widths of a desktop and a phone
PAPER = {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 28)"}
WATCHED = "addEventListener('error', (e) => document.title = 'failed: ' + e.message);"
MEASURED = """Object.assign(document.documentElement.dataset, {
  width: innerWidth, wide: document.documentElement.scrollWidth,
  paper: getComputedStyle(document.body).backgroundColor});"""
FRAME = """<!doctype html><iframe id="frame" style="width: {width}px; height: 900px; border: 0"
srcdoc="{page}"></iframe><script>frame.onload = () => setTimeout(() => {{
document.documentElement.replaceWith(frame.contentDocument.documentElement.cloneNode(true)); }});
</script>"""


def shown_in_chromium(page, tmp_path, script="", screen=SCREENS[0]):
    """The page's document after its scripts and another one have run, on a screen.

    No script may fail, nothing may be wider than the screen, and the colours are the scheme's.
    """
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    width, scheme = screen
    page = page.replace("<style>", f"<script>{WATCHED}</script><style>", 1)
    page = page.replace("</body>", f"<script>{script};{MEASURED}</script></body>")
    copy = tmp_path / "shown.html"
    copy.write_text(FRAME.format(width=width, page=html.escape(page)), encoding="utf-8")
    dark = "--blink-settings=preferredColorScheme=" + ("0" if scheme == "dark" else "1")
    argv = [CHROMIUM, *QUIET, dark, "--window-size=1400,1000", "--dump-dom",
            f"--user-data-dir={tmp_path / 'profile'}"]  # fmt: skip
    done = subprocess.run([*argv, copy.as_uri()], capture_output=True, text=True, timeout=120,
                          check=True)  # fmt: skip
    shown = done.stdout
    assert "<title>failed" not in shown
    measured = re.search(r'data-width="(\d+)" data-wide="(\d+)" data-paper="([^"]*)"', shown)
    assert measured[1] == str(width) and int(measured[2]) <= width and measured[3] == PAPER[scheme]
    return shown


def noisy(model, seed=0):
    """The model, none of whose parameters is 0 or 1."""
    rng = np.random.default_rng(seed)
    model.update({n: p + rng.normal(0, 0.3, p.shape) for n, p in model.params.items()})
    return model


def gpt2_folder(folder, layers=2, seed=0):
    """A tiny GPT-2 with its tokenizer."""
    tokenizer = train_byte_pairs(["the cat sat on the mat", "a dog ran after the cat"] * 4, 290)
    config = md.Gpt2Config(
        vocab_size=tokenizer.vocab_size, n_positions=64, n_embd=16, n_layer=layers, n_head=2,
        n_inner=24, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    noisy(md.from_config(config, "text-generation", backend="numpy"), seed).save_pretrained(folder)
    tokenizer.save(folder)
    return str(folder)


def student_folder(teacher, folder, layers=(1,)):
    """A student of a folder's model, with its tokenizer."""
    student = md.student_from(md.from_pretrained(teacher, backend="numpy"), layers)
    noisy(student, 1).save_pretrained(folder)
    types = student.config.architecture.types > 1
    md.load_tokenizer(teacher).save(folder, token_types=types)
    return str(folder)
