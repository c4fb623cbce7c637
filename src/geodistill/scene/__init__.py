"""Whole-raster inference."""
