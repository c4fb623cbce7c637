"""``geodistill run``."""

from __future__ import annotations

from collections.abc import Sequence

from geodistill.cli.arguments import VerbParser, parse, refuse_idle
from geodistill.cli.terminal import print_json


def run_parser() -> VerbParser:
    """Return the parser of ``run``."""
    parser = VerbParser(
        "run",
        "Run a project: from boxes or masks to an evaluated model, its exports and maps, by one file. What did not"
        " change is not run again, and what was killed goes on where it was. 'geodistill init' writes such a file.",
        "geodistill run project.yaml --dry",
        typed=["project"],
    )
    add = parser.add_group("input")
    add("--project", "the project file", required=True, metavar="PROJECT")
    add("--until", "stop after this stage", metavar="STAGE", otherwise="to the end")
    add("--from", "begin with this stage; what it takes is used as it is", metavar="STAGE", otherwise="the first")
    add("--only", "this stage alone; what it takes is used as it is", metavar="STAGE", otherwise="all")
    add = parser.add_group("output")
    add.switch("--dry", "say what would run, and why; run and write nothing")
    add("--report", "also write a page about all results, .html, to this file")
    add.switch("--json", "print JSON, the content of run.json")
    return parser


def run(argv: Sequence[str]) -> None:
    """Run a project."""
    parser = run_parser()
    args = parse(parser, argv)
    if args.only is not None:
        refuse_idle(parser, args, ["--until", "--from"], "with --only")
    if args.dry:
        refuse_idle(parser, args, ["--report"], "with --dry")
    from geodistill.project.planning import Selection
    from geodistill.project.run_project import run_project

    selection = Selection(until=args.until, start=getattr(args, "from"), only=args.only)
    summary = run_project(args.project, selection, dry=args.dry, report=args.report, say=_silent if args.json else _say)
    if args.json:
        print_json(summary)


def _say(line: str) -> None:
    print(line, flush=True)


def _silent(line: str) -> None:
    """Print nothing."""
