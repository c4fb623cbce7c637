"""The options of a prediction, as Python may write them."""

from geodistill.inference.options import PredictOptions


def test_lists_count_as_tuples() -> None:
    options = PredictOptions(scales=[1, 1.5], bands=["1", "2"])  # type: ignore[arg-type]
    assert (options.scales, options.bands) == ((1, 1.5), ("1", "2"))
    assert hash(options)
