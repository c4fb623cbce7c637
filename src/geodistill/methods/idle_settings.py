"""Which settings that recipes of every method have do nothing beside the others."""

from __future__ import annotations

from geodistill.methods.schema import DEFAULT_TEACHER, LOGIT_LOSSES, PSEUDO, Recipe, ScheduleConfig
from geodistill.methods.teacher import TeacherConfig

OF_CACHE = ("cache_gb", "cache_storage", "views")
"""Fields of a teacher that only its cache looks at."""


def idle_settings(recipe: Recipe) -> dict[str, str]:
    """Return the dotted keys of average, schedule and teacher that do nothing, each with the reason."""
    idle = {} if recipe.trainer.ema else {"trainer.ema_warmup": "trainer.ema is not given"}
    idle |= _of_schedule(recipe.schedule)
    return idle if recipe.teacher is None else idle | _of_teacher(recipe.teacher, recipe.losses.weights)


def _of_schedule(schedule: ScheduleConfig) -> dict[str, str]:
    idle = {} if schedule.warmup_steps else {"schedule.warmup_start": "schedule.warmup_steps is 0"}
    if schedule.kind != "poly":
        idle["schedule.power"] = f"schedule.kind is {schedule.kind}, not poly"
    if schedule.kind == "constant":
        of_decay = ("end_lr_factor", "encoder_end_lr_factor", "cycles", "decay_start", "hold_steps")
        idle |= {f"schedule.{name}": "schedule.kind is constant" for name in of_decay}
    return idle


def _of_teacher(teacher: TeacherConfig, weights: dict[str, float]) -> dict[str, str]:
    """Return what was changed of a teacher: a recipe without one has no values to compare with."""
    idle = {} if teacher.cache else dict.fromkeys(OF_CACHE, "teacher.cache is not given")
    asked = {name.removeprefix(f"{DEFAULT_TEACHER}.") for name, weight in weights.items() if weight != 0}
    if asked.isdisjoint({*LOGIT_LOSSES, PSEUDO}):
        idle["logits_stride"] = "losses.weights has no term on the teacher's logits"
    changed = [name for name in idle if getattr(teacher, name) != getattr(TeacherConfig, name)]
    return {f"{DEFAULT_TEACHER}.{name}": idle[name] for name in changed}


def idle_of_encoder(recipe: Recipe, reason: str) -> dict[str, str]:
    """Return the keys that do nothing for an encoder that never learns."""
    optimizer, losses = recipe.optimizer, recipe.losses
    changed = {
        "optimizer.encoder_lr": optimizer.encoder_lr is not None,  # a rate may be taken away
        "optimizer.freeze": optimizer.freeze > 0,
        "losses.weighting": losses.weighting == "gradient_balance",
    }
    return {key: reason for key, given in changed.items() if given}
