"""geodistill: boxes, images and vision foundation models in; a small remote-sensing segmenter and maps out."""

from geodistill.version import __version__

__all__ = ["__version__"]
