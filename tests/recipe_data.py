"""The data that each recipe is tested on: the digits, as images alone or beside their labels."""

from functools import cache

from lowerbound import Data, load_data
from lowerbound.recipes.modalities import OF_MODALITIES


@cache
def digits_for(name: str) -> Data:
    """Return the digits as the recipe called `name` wants them."""
    return load_data("digits", with_label=name in OF_MODALITIES)
