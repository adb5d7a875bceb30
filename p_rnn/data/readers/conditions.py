"""Conditions on rows, as in `where: "rating >= 4 and type == view"`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p_rnn.data.readers.lists import RowName
from p_rnn.settings.errors import UserError

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
CONDITION = re.compile(r"\s*(.+?)\s*(>=|<=|==|!=|>|<)\s*(.+?)\s*")


@dataclass(frozen=True)
class Condition:
    """A comparison of a column with a number or, for == and !=, with a text."""

    column: str
    comparison: str
    value: float | str

    def renamed(self, names: dict[str, str]) -> Condition:
        """The same condition on the column `names[column]`, if there is one."""
        return replace(self, column=names.get(self.column, self.column))

    @property
    def is_text(self) -> bool:
        return isinstance(self.value, str)

    def holds(self, column: pd.Series, where: RowName) -> NDArray[np.bool_]:
        """bool [rows]; a missing value satisfies no condition.

        Raises:
            UserError: a text compared with a number; `where` names its row.
        """
        compare = OPERATORS[self.comparison]
        present: NDArray[np.bool_] = column.notna().to_numpy()
        if isinstance(self.value, str):
            texts = column.astype(str).to_numpy(dtype=object)
            chosen: NDArray[np.bool_] = present & compare(texts, self.value).astype(bool)
            return chosen
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        bad = np.isnan(numbers) & present
        if bad.any():
            at = int(np.argmax(bad))
            raise UserError(
                f"{where(column.index[at])}: '{self.column}' is {str(column.iloc[at])!r}, not a "
                "number; fix that row or dataset.where"
            )
        with np.errstate(invalid="ignore"):
            kept: NDArray[np.bool_] = present & compare(numbers, self.value)
            return kept


def parse_conditions(text: str | None) -> list[Condition]:
    """Parse one or more `column operator value`, joined by "and"; none if `text` is None.

    Raises:
        UserError: not of this form.
    """
    conditions = []
    for part in re.split(r"\s+and\s+", text) if text is not None else []:
        match = CONDITION.fullmatch(part)
        value = _value(match[3]) if match else ""
        if match is None or (isinstance(value, str) and match[2] not in ("==", "!=")):
            raise UserError(
                f"dataset.where='{text}' must be conditions such as 'rating >= 4' or "
                "'kind == view and rating >= 4'; > >= < <= need numbers, == and != take words, too"
            )
        conditions.append(Condition(match[1].strip("'\"`"), match[2], value))
    return conditions


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.strip("'\"")
