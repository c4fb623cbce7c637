"""The section of an evaluation's images: image, truth, prediction and disagreement of the worst, median and best."""

from __future__ import annotations

from geodistill.evaluation.scoring import PART
from geodistill.report.evaluated import Evaluation, ShownImage
from geodistill.report.gallery import GalleryImage, gallery
from geodistill.report.markup import element, join
from geodistill.report.page import Section, swatch

LAYERS = (("image", "Image"), ("truth", "Truth"), ("prediction", "Prediction"), ("errors", "Disagreement"))


def images_section(evaluation: Evaluation) -> Section:
    """Return the section of the worst, median and best images of an evaluation."""
    shown = evaluation.shown
    intro = (
        f"{len(shown)} of {evaluation.images:,} images by mIoU over the classes that each one's labels hold. Of an"
        f" image larger than {PART} pixels the part with most wrong pixels is shown. Choose an image to enlarge it."
    )
    wrong = element("li", None, swatch("wrong"), "disagreement")
    images = [_image(image) for image in shown]
    body = join(
        element("p", {"class": "quiet"}, intro), gallery(images, LAYERS, "prediction", evaluation.legend, wrong)
    )
    figures = [
        {"choice": image.choice, "image": image.key, "part": image.place, "miou": image.miou, "oa": image.oa}
        for image in shown
    ]
    return Section("images", "Images", body, {"images": figures})


def _image(image: ShownImage) -> GalleryImage:
    name = image.key.replace("\\", "/").rpartition("/")[2]
    figures = f"mIoU {100 * image.miou:.1f} %, accuracy {100 * image.oa:.1f} %"
    notes = (figures, image.place) if image.place else (figures,)
    return GalleryImage(image.choice, name, notes, image.layers)
