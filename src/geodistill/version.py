"""The version, once: packaging, the files that we write and ``geodistill.__version__`` take it from here."""

__version__ = "0.1.0"
