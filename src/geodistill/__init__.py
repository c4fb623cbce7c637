"""geodistill: boxes, images and vision foundation models in; a small remote-sensing segmenter and maps out."""

__version__ = "0.1.0"
