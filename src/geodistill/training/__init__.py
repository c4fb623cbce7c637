"""Recipes turned into trained Segmenters."""
