"""``geodistill init``."""

from __future__ import annotations

from collections.abc import Sequence

from geodistill.cli.arguments import VerbParser, parse, refuse_idle
from geodistill.cli.terminal import print_json
from geodistill.errors import RecipeError

SCHEMAS = ("project", "recipe")


def init_parser() -> VerbParser:
    """Return the parser of ``init``."""
    parser = VerbParser(
        "init",
        "Write a project file for 'geodistill run' from what a folder holds: images, masks, boxes, unlabelled images,"
        " scenes, models. Nothing else is written.",
        "geodistill init town --out town.yaml",
        typed=["folder"],
    )
    parser.add_group("input")("--folder", "the folder", otherwise="none, with --schema", metavar="FOLDER")
    add = parser.add_group("output")
    add("--out", "the project file", default="project.yaml")
    schema = "instead print the JSON Schema, by which editors complete and check such files"
    add("--schema", schema, choices=SCHEMAS, otherwise="none")
    return parser


def init(argv: Sequence[str]) -> None:
    """Write a project file, or print a schema."""
    parser = init_parser()
    args = parse(parser, argv)
    if args.schema is not None:
        refuse_idle(parser, args, ["--folder", "--out"], "with --schema")
        from geodistill.project.json_schema import project_schema, recipe_schema

        print_json(project_schema() if args.schema == "project" else recipe_schema())
        return
    if not args.folder:
        raise RecipeError("init without a folder", "a folder with images", "see 'geodistill init --help'")
    from geodistill.project.draft import draft_project

    draft = draft_project(args.folder, args.out)
    print("\n".join([*draft.chosen, f"{draft.path}: look it over, then 'geodistill run {draft.path} --dry'"]))
