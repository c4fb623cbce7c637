"""A Segmenter in other forms, those of `exporters.EXPORTERS`."""
