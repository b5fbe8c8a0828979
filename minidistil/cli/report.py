"""Write a run's report.html anew from its run.json, metrics.jsonl and report.json."""

from minidistil.cli.common import Answer

EXAMPLE = "runs/distill"


def add_options(parser):
    parser.add_argument("run_folder", metavar="RUN", help="the folder of a run")


def run(args):
    path = write(args.run_folder)
    return Answer({"report": str(path)}, str(path))


def write(folder):
    return folder
