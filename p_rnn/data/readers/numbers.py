"""Which texts are numbers, and whether float64 holds them exactly."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p_rnn.data.readers.columns import INTEGER

EXACT = 2**53  # from here on, float64 does not represent every integer
EXACT_CHARACTERS = 16  # integers with fewer characters are below 2^53
NUMBER = re.compile(r"-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|-?(inf|Infinity)")


def is_text(values: pd.Series) -> bool:
    return isinstance(values.dtype, pd.StringDtype) or (
        values.dtype == object and bool(values.map(lambda value: isinstance(value, str)).all())
    )


def spells_number(text: str) -> bool:
    """Whether a column of this text alone becomes numbers (`read_properties`)."""
    if re.fullmatch(INTEGER, text):
        return len(text) < EXACT_CHARACTERS
    return NUMBER.fullmatch(text) is not None and repr(float(text)) == text


def looks_numeric(texts: pd.Series) -> bool:
    """Whether all texts are numbers and none looks like a code.

    Codes are numbers with leading zeros, or integers that float64 does not represent exactly.
    """
    if not texts.str.fullmatch(NUMBER).all():
        return False
    whole = texts[texts.str.fullmatch(INTEGER)]
    return bool((whole.str.len() < EXACT_CHARACTERS).all())


def exact_floats(column: pd.Series) -> NDArray[np.float64] | None:
    """Numbers as float64, NaN = missing; None if float64 does not represent all of them."""
    if pd.api.types.is_integer_dtype(column.dtype):
        present = column.dropna()
        if len(present) and not (present.min() > -EXACT and present.max() < EXACT):
            return None
    return column.to_numpy(dtype=np.float64, na_value=np.nan)
