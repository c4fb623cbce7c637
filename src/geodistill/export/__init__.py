"""Models that leave the building: ONNX, QGIS, STAC, the Hub."""
