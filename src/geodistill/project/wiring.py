"""What each stage takes from the others: ``$NAME`` in a value, and what goes without saying."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from geodistill.errors import RecipeError, check_name
from geodistill.project.project_file import ProjectFile, StageEntry, dotted
from geodistill.project.stage_table import DATA, FITS, KINDS
from geodistill.reading import parse_yaml
from geodistill.training.recipe import recipe_text

SIGN = "$"
"""What a value begins with that is another stage's result."""


@dataclass(frozen=True)
class WiredStage:
    """A stage with all that it takes.

    Attributes:
        entry: The stage as the file has it.
        settings: Its keys, with what goes without saying.
        needs: The stages whose results it takes.
        after: Those that only have to be done before.
    """

    entry: StageEntry
    settings: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def wire(project: ProjectFile) -> dict[str, WiredStage]:
    """Return every stage with what it takes, in the order in which they run.

    Raises:
        RecipeError: Stages wait for each other in a circle, or it is not clear which data or model one takes.
        UnknownNameError: There is no such stage or recipe.
    """
    wired = {name: _wire_one(project, entry) for name, entry in project.stages.items()}
    for name, stage in wired.items():
        if stage.entry.kind == "check":  # what uses the data waits until it was looked at
            later = {o for o, other in wired.items() if o != name and set(other.needs) & set(stage.needs)}
            for other in later - {o for o in wired if wired[o].entry.kind == "check"}:
                wired[other] = _waiting(wired[other], name)
    return {name: wired[name] for name in _order(project, wired)}


def _waiting(stage: WiredStage, name: str) -> WiredStage:
    return WiredStage(stage.entry, stage.settings, stage.needs, (*stage.after, name))


def _order(project: ProjectFile, wired: Mapping[str, WiredStage]) -> list[str]:
    """Return the names so that each comes behind what it takes, and otherwise in the order of `KINDS`.

    Raises:
        RecipeError: They wait for each other.
    """
    rank = {name: (list(KINDS).index(stage.entry.kind), i) for i, (name, stage) in enumerate(wired.items())}
    sorter = TopologicalSorter({name: (*stage.needs, *stage.after) for name, stage in wired.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise RecipeError(
            f"{project.path}: stages that wait for each other ({circle})", "an end to begin at"
        ) from error
    order, ready = list[str](), set[str]()
    while sorter.is_active():
        ready |= set(sorter.get_ready())
        first = min(ready, key=rank.__getitem__)
        ready.remove(first)
        sorter.done(first)
        order.append(first)
    return order


def _wire_one(project: ProjectFile, entry: StageEntry) -> WiredStage:
    if entry.given:
        return WiredStage(entry, {})
    settings = dict(entry.settings)
    if entry.kind in FITS:
        settings = _fit_defaults(project, entry) | settings
    elif entry.kind in ("check", "evaluate"):
        settings = {"data": f"{SIGN}{_main_data(project, entry)}"} | settings if "data" not in settings else settings
    if entry.kind in ("evaluate", "predict", "export") and not settings.get("model"):
        settings["model"] = f"{SIGN}{_main_model(project, entry)}"
    needs = dict.fromkeys(name for _, name in references(settings))
    if entry.kind == "report":
        needs = dict.fromkeys(name for name in project.stages if name != entry.name)
    for name in needs:
        check_name(f"stage that {entry.name} takes", name, project.stages)
    return WiredStage(entry, settings, tuple(needs))


def references(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each key that takes another stage's result, with that stage's name."""
    for key, value in dotted(settings).items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str) and item.startswith(SIGN):
                yield key, item.removeprefix(SIGN)


def _main_data(project: ProjectFile, entry: StageEntry) -> str:
    """Return the stage whose manifest is taken where nothing is said: scan, else label, else the only one."""
    every = [name for name, stage in project.stages.items() if stage.kind in DATA]
    stages = _labelled_sets(project) or every
    for name in ("scan", "label"):
        if name in every:
            return name
    if len(stages) == 1:
        return stages[0]
    listed = f"{len(stages)} ({', '.join(stages)})" if stages else "none"
    raise RecipeError(
        f"{project.path}, {entry.name}: stages of data: {listed}", "one called scan or label, or its data"
    )


def _labelled_sets(project: ProjectFile) -> list[str]:
    """Return the stages of data but those of images alone."""
    stages = [(name, stage) for name, stage in project.stages.items() if stage.kind in DATA]
    return [name for name, each in stages if each.settings.get("masks") or not each.settings.get("unlabelled")]


def _main_model(project: ProjectFile, entry: StageEntry) -> str:
    """Return the stage whose model is taken where nothing is said: the student, else the teacher."""
    models = [name for name, stage in project.stages.items() if stage.kind in ("distil", "teacher")]
    for name in ("distil", "teacher", *models[: len(models) == 1]):
        if name in models:
            return name
    raise RecipeError(f"{project.path}, {entry.name} without a model", "a stage called distil or teacher, or its model")


def _fit_defaults(project: ProjectFile, entry: StageEntry) -> dict[str, Any]:
    """Return the recipe keys that go without saying: the data, and what earlier stages of training leave."""
    defaults: dict[str, Any] = {}
    stages = project.stages
    recipe = recipe_keys_of(project, entry)
    sets = _labelled_sets(project)
    if entry.kind == "sep" and len(sets) > 1 and not (recipe.get("data.manifest") or recipe.get("data.manifests")):
        defaults |= {"data.manifests": [f"{SIGN}{name}" for name in sets], "data.names": sets}
    elif not (recipe.get("data.manifest") or recipe.get("data.manifests")):
        defaults["data.manifest"] = f"{SIGN}{_main_data(project, entry)}"
    if "sep" in stages and entry.kind == ("teacher" if "teacher" in stages else "distil"):
        defaults["init"] = f"{SIGN}sep"
    if entry.kind == "adapt":
        defaults["trainer.max_steps"] = 0
    if entry.kind == "distil" and "adapt" in stages:
        defaults["network.encoder_weights"] = f"{SIGN}adapt"
    teachers = [name for name, stage in stages.items() if stage.kind == "teacher"]
    if entry.kind in ("adapt", "distil") and ("teacher" in teachers or len(teachers) == 1):
        teacher = "teacher" if "teacher" in teachers else teachers[0]
        defaults |= _teacher_defaults(project, teacher, entry.settings, recipe)
    return defaults


def _teacher_defaults(
    project: ProjectFile, teacher: str, settings: Mapping[str, Any], recipe: Mapping[str, Any]
) -> dict[str, Any]:
    """Return how a recipe names a teacher of the project: by its encoder where features are learnt, else as a whole."""
    named = ("teacher.segmenter", "teacher.weights", "teacher.encoder", "teachers.")
    if any(key.startswith(named) for key in settings):
        return {}
    if recipe.get("method") not in ("ktda", "kda"):
        return {"teacher.segmenter": f"{SIGN}{teacher}"}
    encoder = recipe_keys_of(project, project.stages[teacher]).get("network.encoder")
    return {"teacher.weights": f"{SIGN}{teacher}"} | ({} if encoder is None else {"teacher.encoder": encoder})


def recipe_keys_of(project: ProjectFile, entry: StageEntry) -> dict[str, Any]:
    """Return the dotted keys that a stage's recipe and the project file set; none of a stage that is given."""
    if entry.given:
        return {}
    name = recipe_file(project, entry)
    data = parse_yaml(recipe_text(name), f"recipe {name}", RecipeError)
    return dotted(data if isinstance(data, dict) else {}) | dict(entry.settings)


def recipe_file(project: ProjectFile, entry: StageEntry) -> str:
    """Return a stage's recipe as `load_recipe` takes it: a shipped one's name, or the file in full."""
    name = str(entry.settings["recipe"])
    return project.resolve(name) if name.endswith((".yaml", ".yml")) else name
