"""``geodistill fit``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from geodistill.cli.arguments import VerbParser, parse, refuse_idle
from geodistill.cli.terminal import share_stderr
from geodistill.errors import RecipeError, printable
from geodistill.training.recipe import STUDENT, list_recipes


def fit_parser() -> VerbParser:
    """Return the parser of ``fit``."""
    parser = VerbParser(
        "fit",
        "Train a recipe; leaves OUT/segmenter. Every key of the recipe is a flag too, such as --trainer.max_steps 100;"
        " --print_config shows them all. Run again after an interruption, it continues.",
        "geodistill fit student manifest.parquet --out runs/student",
        typed=["config", "manifest"],
    )
    add = parser.add_group("input")
    shipped = "a YAML recipe or the name of a shipped one (geodistill recipes)"
    add("--config", shipped, metavar="RECIPE", otherwise=STUDENT)
    add("--manifest", "the data set, as --data.manifest", otherwise="the recipe's")
    add = parser.add_group("output")
    add("--out", "directory of the run", otherwise="none, needed to train")
    add(
        "--find-rate",
        "train no model: a short test of growing learning rates, which writes this picture, .png, and proposes a value",
        metavar="PICTURE",
    )
    add("--report", "also write a page about the run, .html, to this file")
    add.switch("--restart", "overwrite an existing run")
    add.switch("--verbose", "show library logs")
    add.switch("--print_config", "print the whole recipe and stop")
    return parser


def fit(argv: Sequence[str]) -> None:
    """Train a recipe."""
    parser = fit_parser()
    names = [flag.lstrip("-") for option in parser.options for flag in option.action.option_strings]
    flags, overrides = split_flags(argv, names)
    args = parse(parser, flags)
    given, manifest = _parted(args.config, args.manifest)
    given_keys = {token.partition("=")[0] for token in overrides}
    if manifest is not None:
        if "--data.manifest" in given_keys:
            parser.error(f"both {manifest} and --data.manifest; expected one of them")
        overrides = [*overrides, "--data.manifest", manifest]
    config = given or (None if "--method" in given_keys else STUDENT)
    if args.print_config:
        _print_recipe(config, overrides)
        return
    from geodistill.training.recipe import is_planned, load_recipe

    recipe, lines = load_recipe(config, overrides, idle=is_planned(config)), list[str]()
    if args.find_rate:
        refuse_idle(parser, args, ("--out", "--report", "--restart"), "with --find-rate")
    elif not args.out:
        raise RecipeError("fit without --out", "--out RUN", "name a directory for the run")
    if is_planned(config):
        from geodistill.training.student_plan import plan_recipe

        recipe, lines = plan_recipe(config, overrides)
    if args.report:
        from geodistill.files import check_outputs, check_suffix
        from geodistill.report.page import PAGES

        check_suffix(args.report, PAGES)
        check_outputs([args.report], [recipe.data.manifest] if recipe.data.manifest else [])
    from lightning.pytorch.utilities import rank_zero_only

    from geodistill.training.fit import fit as run_fit

    if args.find_rate:
        from geodistill.training.find_rate import find_rate

        for line in lines:
            print(printable(line), file=sys.stderr)
        print(find_rate(recipe, args.find_rate, verbose=args.verbose).line())
        return
    if recipe.trainer.devices > 1 or args.verbose:
        share_stderr()  # Lightning starts the other processes
    result = run_fit(recipe, args.out, restart=args.restart, verbose=args.verbose, plan=lines)
    score = "no validation split" if result.miou is None else f"validation mIoU {100 * result.miou:.2f}"
    if "labels" not in recipe.stages:
        score = "an encoder for network.encoder_weights,"
    # Every process of a run on several devices comes here.
    line = f"{result.segmenter}: {score} at step {result.step} of {result.steps}, {result.minutes:.1f} minutes"
    rank_zero_only(print)(line)
    if args.report:
        from geodistill.report.report_options import ReportOptions
        from geodistill.report.write import write_report

        rank_zero_only(write_report)(args.out, args.report, ReportOptions(speed=False))


def _print_recipe(config: str | None, overrides: Sequence[str]) -> None:
    """Print a recipe; where it names data that can be read, as it would be trained on them."""
    import yaml

    from geodistill.training.recipe import load_recipe, recipe_dict

    recipe = load_recipe(config, overrides, idle=True)
    if recipe.data.manifest and Path(recipe.data.manifest).is_file():
        from geodistill.training.student_plan import plan_recipe

        recipe, _ = plan_recipe(config, overrides)
    else:
        recipe = load_recipe(config, overrides)
    print(yaml.safe_dump(recipe_dict(recipe), sort_keys=False), end="")


def _parted(config: str | None, manifest: str | None) -> tuple[str | None, str | None]:
    """Return recipe and manifest: a manifest, or the folder with one, may stand alone; of a folder its file is meant.

    Raises:
        RecipeError: A folder holds no manifest.
    """
    if config is not None and manifest is None and config not in list_recipes():
        is_data = config.endswith(".parquet") or os.path.isdir(config)  # noqa: PTH112 - a name too long is no folder
        config, manifest = (None, config) if is_data else (config, None)
    if manifest is None or not os.path.isdir(manifest):  # noqa: PTH112
        return config, manifest
    file = Path(manifest, "manifest.parquet")
    if not file.is_file():
        mend = f"'geodistill data scan {manifest}' makes one of its images and masks"
        raise RecipeError(f"fit with the folder {manifest}", "a folder with manifest.parquet", mend)
    return config, str(file)


def split_flags(argv: Sequence[str], names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Part a verb's flags from recipe keys; a flag's value follows it or stands behind ``=``.

    A token that begins with ``-`` is a flag, unless a number follows as in ``-0.5``; every other token is a value and
    goes where the flag before it went.

    The verb's flags are those of ``names``, without dashes, and help; they and all others come back in their order.
    """
    verb_names = {*names, "h", "help"}
    verb_flags: list[str] = []
    recipe_flags: list[str] = []
    target = verb_flags
    for token in argv:
        if token.startswith("-") and not token.lstrip("-.")[:1].isdigit():
            target = verb_flags if token.lstrip("-").partition("=")[0] in verb_names else recipe_flags
        target.append(token)
    return verb_flags, recipe_flags
