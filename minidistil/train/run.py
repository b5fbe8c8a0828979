"""A run's folder: what was asked, what was measured, how it ended.

run.json        command, options and all that was settled before the first step; never changed
metrics.jsonl   one line a log or evaluation; all that depends on the clock is under "time"
checkpoints/    see `minidistil.train.checkpoint`
report.json     how it ended
"""

import json
import shlex
from contextlib import suppress
from pathlib import Path

from minidistil import files
from minidistil.train import checkpoint

RESULTS = ("run.json", "checkpoints", "config.json", "model.safetensors")


class Run:
    """The folder `out` as a new run, or with resume=True as one to go on with.

    command: how to start the run, without `--out` and `--resume`; for messages and run.json.
    options: what the command was told; `run.options` gives a resumed run those it began with.
    Nothing is written before `start`. Raises ValueError when `out` already holds a run or a
    model, and, with resume, when it holds none.
    """

    def __init__(self, out, command="", options=None, resume=False):
        self.folder, self.command, self.options = Path(out), command, dict(options or {})
        self.resumed, self.plan = resume, None
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{out} is a file; a run needs a folder")
        there = [name for name in RESULTS if (self.folder / name).exists()]
        if resume:
            if "run.json" not in there:
                raise ValueError(f"{out} holds no run to resume; start one without --resume")
            stored = files.read_json(self.folder / "run.json")
            self.command, self.options = stored["command"], stored["options"]
            self.plan = stored["plan"]
        elif there:
            raise ValueError(
                f"{out} already holds {there[0]}; give --resume to go on with that run, "
                f"or choose another --out"
            )

    def start(self, plan):
        """Write run.json. plan: what was settled, such as the number of steps."""
        self.plan = plan
        stored = {"command": self.command, "options": self.options, "plan": plan}
        files.write_json(self.folder / "run.json", stored)
        self.rewind(-1)

    def rewind(self, step):
        """Cut metrics.jsonl back to the lines up to `step`, and a torn one off its end."""
        kept = [json.dumps(line) + "\n" for line in self.metrics() if line["step"] <= step]
        with files.replacing(self.folder / "metrics.jsonl") as aside:
            aside.write_text("".join(kept), encoding="utf-8")

    def log(self, line):
        """Append a line to metrics.jsonl; what is not finite becomes null."""
        path = self.folder / "metrics.jsonl"
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(files.jsonable(line), allow_nan=False) + "\n")
        except OSError as error:
            raise files.unwritable(path, error) from error

    def metrics(self):
        """The lines of metrics.jsonl as dictionaries, up to the first one that is torn."""
        path, lines = self.folder / "metrics.jsonl", []
        for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
        return lines

    def save(self, step, arrays, state):
        """A checkpoint; the metrics so far reach the disk before it does."""
        files.sync(self.folder / "metrics.jsonl")
        checkpoint.save(self.folder, step, arrays, files.jsonable(state))

    def load(self):
        """The newest checkpoint's (arrays, state), or None before the first one."""
        path = checkpoint.latest(self.folder)
        return None if path is None else checkpoint.load(path)

    def report(self, summary):
        files.write_json(self.folder / "report.json", summary)

    def discard(self):
        """Take back a run that failed before its first checkpoint; leave what is not its own."""
        with suppress(OSError):
            for name in ("metrics.jsonl", "run.json"):
                (self.folder / name).unlink(missing_ok=True)
            for folder in (self.folder / "checkpoints", self.folder):
                if folder.exists():
                    folder.rmdir()

    def how_to_resume(self):
        if not self.command:
            return f"resume with Run({str(self.folder)!r}, resume=True)"
        return f"resume with: {self.command} --out {shlex.quote(str(self.folder))} --resume"
