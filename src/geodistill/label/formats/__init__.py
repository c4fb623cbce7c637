"""Readers of detection annotations, one module for each kind of file."""
