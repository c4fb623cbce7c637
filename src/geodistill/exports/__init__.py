"""Export of a Segmenter: ONNX, QGIS, STAC, the Hub."""
