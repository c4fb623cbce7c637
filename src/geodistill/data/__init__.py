"""Data sets: manifests, checks, samples and augmentation.

A `manifest` lists images, masks and splits; a `dataset` reads samples of it; a `data_source` is one data set as a
training uses it; the `datamodule` has the loaders of one or several of them.
"""
