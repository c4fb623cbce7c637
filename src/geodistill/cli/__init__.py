"""The command line: one function a verb; heavy imports happen inside the verb, so that help is instant."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from geodistill.cli.shared import Verb, parse, plain_warnings, print_json, run_verb, verb_parser
from geodistill.cli.terminal import Terminated, ended_by_request, plain_output
from geodistill.errors import GeodistillError, RecipeError, UnknownNameError
from geodistill.memory import keep_freed_memory


def entry() -> NoReturn:
    """Run the command line of this process."""
    keep_freed_memory()
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Returns:
        0, or 2 after the user's mistake (told on one line), 130 after Ctrl-C, 143 where the process was asked to end.
        Any other exception is ours and passes through, which ends the process with status 1.
    """
    try:
        with ended_by_request(), plain_output():
            run_verb(VERBS, "geodistill", argv)
    except GeodistillError as error:
        tell(f"error: {error}")
        return 2
    except KeyboardInterrupt as stopped:
        tell("stopped")
        return 143 if isinstance(stopped, Terminated) else 130
    return 0


def tell(text: str) -> None:
    """Print a line for the user on standard error, where anybody reads it."""
    with suppress(OSError):
        print(f"geodistill: {text}", file=sys.stderr)


def demo(argv: Sequence[str]) -> None:
    """Show the whole way on made-up scenes."""
    parser = verb_parser("demo", "The whole way on made-up georeferenced scenes.", "geodistill demo --out demo")
    parser.add_argument("--out", type=str, default="demo", help="directory of the results")
    parser.add_argument("--seed", type=int, default=0, help="seed of scenes and training")
    args = parse(parser, argv)
    from geodistill.demo import demo as run_demo

    print(run_demo(Path(args.out), seed=args.seed))


def data(argv: Sequence[str]) -> None:
    """Scan, check or count a data set."""
    from geodistill.cli.data import DATA_VERBS

    run_verb(DATA_VERBS, "geodistill data", argv)


def label(argv: Sequence[str]) -> None:
    """Label a detection data set, count what it holds, or compare prompts."""
    from geodistill.cli.label import LABEL_VERBS

    with plain_warnings():
        run_verb(LABEL_VERBS, "geodistill label", argv)


def fit(argv: Sequence[str]) -> None:
    """Train a recipe."""
    parser = verb_parser(
        "fit",
        "Train a recipe; leaves OUT/segmenter. Every key of the recipe is a flag too, such as --trainer.max_steps 100;"
        " --print_config shows them all. Run again after an interruption, it continues.",
        "geodistill fit --config ktda-folder --data.manifest manifest.parquet --out runs/student",
    )
    parser.add_argument("--config", type=str, help="a YAML recipe or the name of a shipped one (geodistill recipes)")
    parser.add_argument("--out", type=str, help="directory of the run")
    parser.add_argument("--restart", action="store_true", help="throw an earlier run in OUT away")
    parser.add_argument("--verbose", action="store_true", help="let the libraries talk")
    parser.add_argument("--print_config", action="store_true", help="print the whole recipe and stop")
    own = {"config", "out", "restart", "verbose", "print_config"}
    flags, overrides = _split_flags(argv, own)
    args = parse(parser, flags)
    import yaml

    from geodistill.training.recipe import load_recipe, recipe_dict

    recipe = load_recipe(args.config, overrides)
    if args.print_config:
        print(yaml.safe_dump(recipe_dict(recipe), sort_keys=False), end="")
        return
    if not args.out:
        raise RecipeError("fit without --out", "--out RUN", "name a directory for the run")
    from lightning.pytorch.utilities import rank_zero_only

    from geodistill.training.fit import fit as run_fit

    with plain_warnings():
        result = run_fit(recipe, args.out, restart=args.restart, verbose=args.verbose)
    score = "no validation split" if result.miou is None else f"validation mIoU {100 * result.miou:.2f}"
    if recipe.trainer.max_steps == 0:
        score = "an encoder for network.encoder_weights,"
    # Every process of a run on several devices comes here.
    line = f"{result.segmenter}: {score} at step {result.step} of {result.steps}, {result.minutes:.1f} minutes"
    rank_zero_only(print)(line)


def _split_flags(argv: Sequence[str], own: set[str]) -> tuple[list[str], list[str]]:
    """Part a verb's own flags from recipe keys; a flag's value follows it or stands behind ``=``."""
    sides: tuple[list[str], list[str]] = ([], [])
    side = sides[0]
    for token in argv:
        if token.startswith("-") and not token.lstrip("-")[:1].isdigit():
            name = token.lstrip("-").partition("=")[0]
            side = sides[0] if name in own or name in ("h", "help") else sides[1]
        side.append(token)
    return sides


def evaluate(argv: Sequence[str]) -> None:
    """Score a Segmenter on a split."""
    parser = verb_parser(
        "evaluate",
        "Scores of a Segmenter over a whole split: table, metrics.json, metrics.csv, confusion.png, worst images.",
        "geodistill evaluate --model runs/student --manifest manifest.parquet --split test --out runs/student/test",
    )
    parser.add_argument("--model", required=True, help="Segmenter directory, run directory or hub id")
    parser.add_argument("--manifest", required=True, help="manifest written by 'geodistill data scan'")
    parser.add_argument("--split", default="test", help="train, val or test")
    parser.add_argument("--out", required=True, help="directory of the results")
    parser.add_argument("--classes", nargs="+", help="classes the means are taken over, by default all")
    parser.add_argument("--lonlat", type=float, nargs=2, help="longitude and latitude, for a model that asks where")
    parser.add_argument("--zone", help="climate zone of the images, for such a model")
    parser.add_argument("--region", help="place of the images, such as potsdam; file where files are named by it")
    parser.add_argument("--class-map", help="for a set of other classes: 'model=set model=set ...' or a YAML file")
    parser.add_argument("--overlap", type=float, default=0.25, help="overlap of the sliding window, 0 to 0.75")
    parser.add_argument("--flips", action="store_true", help="average over horizontal and vertical flips")
    parser.add_argument("--batch-size", type=int, default=4, help="windows a forward pass")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda ...")
    parser.add_argument("--padding-as", help="reproduction only: pad images and count the padding as this class")
    parser.add_argument("--padding-window", type=int, help="pad to a multiple of so many pixels; the model's window")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parse(parser, argv)
    if args.padding_window is not None and args.padding_as is None:
        raise RecipeError("evaluate --padding-window without --padding-as", "the class that padding counts as")
    from geodistill.evaluation.classmap import read_pairs
    from geodistill.evaluation.evaluate import evaluate as run_evaluate
    from geodistill.evaluation.evaluate import format_table
    from geodistill.inference.location import LocationHint

    with plain_warnings():
        scores = run_evaluate(
            args.model,
            args.manifest,
            args.split,
            args.out,
            overlap=args.overlap,
            tta_flips=args.flips,
            subset=args.classes,
            class_map=read_pairs(args.class_map) if args.class_map else None,
            whereabouts=LocationHint(tuple(args.lonlat) if args.lonlat else None, args.zone, args.region),
            batch_size=args.batch_size,
            device=args.device,
            padding_as=args.padding_as,
            padding_window=args.padding_window,
        )
    if args.json:
        print_json(scores.to_dict())
    else:
        print(format_table(scores))


def compare(argv: Sequence[str]) -> None:
    """Put students beside their teacher."""
    from geodistill.cli.compare import compare as run_compare

    run_compare(argv)


def predict(argv: Sequence[str]) -> None:
    """Map whole scenes."""
    from geodistill.cli.predict import predict as run_predict

    run_predict(argv)


def reproduce(argv: Sequence[str]) -> None:
    """Run a paper's table, or list all of them."""
    from geodistill.cli.reproduce import reproduce as run_reproduce

    run_reproduce(argv)


def export(argv: Sequence[str]) -> None:
    """Take a model out of the house."""
    from geodistill.cli.export import export as run_export

    run_export(argv)


def datasets(argv: Sequence[str]) -> None:
    """List the benchmark sets."""
    from geodistill.cli.data import datasets as run_datasets

    run_datasets(argv)


def prompts(argv: Sequence[str]) -> None:
    """Print zone, season and prompt of a scene."""
    from geodistill.cli.prompts import prompts as run_prompts

    run_prompts(argv)


def inspect(argv: Sequence[str]) -> None:
    """Weigh a recipe or a Segmenter."""
    parser = verb_parser(
        "inspect",
        "Parameters, multiply-adds, shapes and activation memory of a recipe or Segmenter, without training it.",
        "geodistill inspect ktda-grass --size 256 --classes 5",
    )
    parser.add_argument("target", help="recipe (file or shipped name), run or Segmenter directory")
    parser.add_argument("--size", type=int, default=512, help="side of the square input in pixels")
    parser.add_argument("--channels", type=int, help="bands, for a recipe without its manifest; by default 3")
    parser.add_argument("--classes", type=int, help="classes, for a recipe without its manifest; by default its own")
    parser.add_argument("--decoders", action="store_true", help="of a KDA recipe: every decoder on its encoder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parse(parser, argv)
    if args.decoders:
        from geodistill.papers.decoders import format_decoders, weigh_decoders

        rows = weigh_decoders(args.target, args.size, 3 if args.channels is None else args.channels, args.classes)
        if args.json:
            print_json([row.to_dict() for row in rows])
        else:
            print(format_decoders(rows, args.size))
        return
    from geodistill.training.inspect import inspect as run_inspect

    found = run_inspect(args.target, args.size, args.channels, args.classes)
    if args.json:
        print_json(found.to_dict())
    else:
        print(found.to_text())


def recipes(argv: Sequence[str]) -> None:
    """List the shipped recipes, or print one."""
    parser = verb_parser("recipes", "The shipped recipes, or the text of one.", "geodistill recipes ktda-folder")
    parser.add_argument("name", nargs="?", help="print this recipe")
    args = parse(parser, argv)
    from geodistill.training.recipe import recipe_names, recipe_text

    if args.name:
        print(recipe_text(args.name), end="")
        return
    for name in recipe_names():
        first = recipe_text(name).splitlines()[0]
        print(f"{name:<20} {first.removeprefix('#').strip()}")


def encoders(argv: Sequence[str]) -> None:
    """List encoder names."""
    parser = verb_parser("encoders", "Names that 'network.encoder' takes.", "geodistill encoders 'convnext*'")
    parser.add_argument("pattern", nargs="?", default="*", help="only names like this, * matches anything")
    args = parse(parser, argv)
    from geodistill.nn.encoders import list_encoders

    names = list_encoders(args.pattern)
    if not names:
        raise UnknownNameError("encoder", args.pattern, list_encoders(), f"* stands for anything: '{args.pattern}*'")
    print("\n".join(names))


VERBS: dict[str, tuple[str, Verb]] = {
    "demo": ("the whole way on made-up scenes, on a laptop, without downloads", demo),
    "data": ("folder of images and masks -> manifest; find broken files; class balance", data),
    "label": ("boxes of any detection set -> masks, through GrabCut or the SAM family", label),
    "fit": ("train a recipe, with or without transfer from a frozen encoder", fit),
    "evaluate": ("IoU, F1, precision, recall, OA over a split; worst images", evaluate),
    "compare": ("students beside their teacher: size, speed, scores", compare),
    "reproduce": ("a paper's table: its rows run by recipe, beside the published figures", reproduce),
    "predict": ("rasters of any size -> georeferenced maps", predict),
    "export": ("a Segmenter as ONNX, for QGIS, as a STAC item, in the Hub's layout", export),
    "prompts": ("climate zone, season and what each class looks like there", prompts),
    "inspect": ("parameters, multiply-adds and memory of a recipe or Segmenter", inspect),
    "datasets": ("the benchmark sets that 'data scan --dataset' reads", datasets),
    "recipes": ("the shipped recipes", recipes),
    "encoders": ("names of encoders", encoders),
}
