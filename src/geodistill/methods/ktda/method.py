"""KTDA put together: student, frozen teacher, objective, and the transfer phase where asked for."""

from __future__ import annotations

from typing import Any

from geodistill.errors import RecipeError
from geodistill.methods.ktda.losses import KtdaObjective, LossConfig
from geodistill.methods.ktda.network import KtdaNetwork, NetworkConfig
from geodistill.methods.ktda.transfer import AlignedEncoder, TransferTask
from geodistill.methods.method import Method
from geodistill.methods.teacher import FrozenTeacher, TeacherConfig, build_teacher
from geodistill.nn.bodies import PyramidBody
from geodistill.spec import Spec

PRESETS: dict[str, dict[str, Any]] = {
    "coherent": {},
    # The released code: FMM on the neck's rescaled maps (16 times the tokens at level 1), auxiliary head behind it,
    # softmax over the image's width, and the sum of all rows over the batch size.
    "reference": {
        "network": {"order": "neck_fmm", "aux_from": "fmm"},
        "losses": {"kl_axis": "width", "kl_reduction": "batchmean"},
    },
}
"""Recipe values by preset, laid under the recipe's own."""


def build(spec: Spec, network: NetworkConfig, teacher: TeacherConfig | FrozenTeacher, losses: LossConfig) -> Method:
    """Build student, teacher and objective for data of a Spec.

    Raises:
        UnknownNameError: Unknown encoder, choice or loss term.
        RecipeError: Student and teacher, or teacher and data, do not fit each other.
        ArtifactError: Weights cannot be had or do not fit.
    """
    frozen = build_teacher(teacher, spec)
    arguments: dict[str, Any] = {
        "encoder": network.encoder,
        "teacher_channels": list(frozen.channels),
        "teacher_strides": list(frozen.strides),
        "decode_from": network.decode_from,
        "align": network.align,
        "fmm_blocks": network.fmm_blocks,
        "fmm_heads": network.fmm_heads,
        "order": network.order,
        "aux_from": network.aux_from,
        "decoder": network.decoder,
        "decoder_channels": network.decoder_channels,
    }
    student = KtdaNetwork(spec.channels, spec.classes, **arguments, encoder_weights=network.encoder_weights)
    # The encoder's own name may hold more: the padding that its weights were trained with.
    arguments["encoder"] = student.encoder.name
    levels = [level for _, level in student.pairs]
    objective = KtdaObjective(frozen, levels, losses, raw=network.align == "none")
    method = Method("ktda", arguments, student, objective, teachers={"teacher": frozen})
    if losses.phase.steps == 0:
        return method
    if losses.phase.forced > 0:
        _check_forcing(student)
    part = AlignedEncoder(student.encoder, student.fam, student.pairs, student.target_strides)
    method.phase = TransferTask(part, objective, losses.phase, spec)
    return method


def _check_forcing(student: KtdaNetwork) -> None:
    """Refuse teacher forcing where the teacher's maps cannot stand in for every level of the student's."""
    if student.fam is not None or len(student.pairs) < len(student.encoder.strides):
        raise RecipeError(
            f"losses.phase.forced with levels {[s for s, _ in student.pairs]} matched",
            "network.align none and every student level matched",
            "set losses.phase.forced: 0",
        )
    if not isinstance(student.encoder.body, PyramidBody):
        raise RecipeError(f"losses.phase.forced with {student.encoder.name}", "a convolutional encoder")
    student.encoder.body.stages()
