"""Lists as programs write them into text, and rows that hold several events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.readers.lists import explode, looks_like_list, parse_list, parse_lists, typed
from p_rnn.settings.errors import UserError


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("['a', 'b']", ["a", "b"]),  # pandas
        ('["a","b"]', ["a", "b"]),  # json
        ("['a' 'b']", ["a", "b"]),  # NumPy
        ("['a', \"it's\", 'c, d']", ["a", "it's", "c, d"]),
        ('["\\u00e9", "say \\"x\\""]', ["é", 'say "x"']),
        ("['it\\'s']", ["it's"]),
        ("('a',)", ["a"]),
        ("{'x', 'y'}", ["x", "y"]),
        ("[1, 2]", ["1", "2"]),
        ("[1 2\n 30]", ["1", "2", "30"]),
        ("[007, 7]", ["007", "7"]),
        ("[0.5, 1e-3, -2.]", ["0.5", "1e-3", "-2."]),
        ("[shoes, red hat]", ["shoes", "red hat"]),
        ("['a', None, nan]", ["a"]),
        ("[null, 1]", ["1"]),
        ("[]", []),
        ("[nan]", []),
        (" ['a'] ", ["a"]),
    ],
)
def test_texts_that_are_lists(text: str, parts: list[str]) -> None:
    assert looks_like_list(text)
    assert parse_list(text) == parts


@pytest.mark.parametrize("text", ["[a] and [b]", "a, b", "[", "[a", "{a)", "", "7"])
def test_texts_that_are_none(text: str) -> None:
    assert not looks_like_list(text)


@pytest.mark.parametrize(
    "text", ["[[1], [2]]", "[1 2 ... 9]", "{'a': 1}", '{"a": 1}', "(in red)", "['a' b]", "[{}]"]
)
def test_texts_in_brackets_that_cannot_be_read(text: str) -> None:
    assert parse_list(text) is None


def where(row: Any) -> str:
    return f"f.csv, line {row + 2}"


def test_a_column_is_one_of_lists_if_all_its_values_are() -> None:
    lists = parse_lists(pd.Series(["['a']", None, "[]", "['b', 'c']"], name="tags"), where)
    assert lists.tolist() == [["a"], None, None, ["b", "c"]]
    for texts in (["['a']", "b"], ["(in red)", "(in blue)"], ['{"a": 1}', "{}"]):
        column = pd.Series(texts, name="tags")
        assert parse_lists(column, where).tolist() == texts
    with pytest.raises(UserError, match=r"f\.csv, line 3: 'tags' is '\[\[1\]\]'.*as JSON"):
        parse_lists(pd.Series(["['a']", "[[1]]"], name="tags"), where)


def test_rows_of_several_events() -> None:
    chunk = pd.DataFrame(
        {
            "s": ["u", "v", "w", "x"],
            "i": pd.Series([np.array([1, 2]), [], None, [3]], dtype=object),
            "t": pd.Series([[5, 6], np.array([]), 7, (8,)], dtype=object),
        }
    ).set_axis([10, 11, 12, 13])
    rows = explode(chunk, "i", where)
    assert rows.index.tolist() == [10, 10, 12, 13]
    assert rows["s"].tolist() == ["u", "u", "w", "x"]
    assert rows["i"].isna().tolist() == [False, False, True, False]
    assert rows["i"].dropna().tolist() == [1, 2, 3]
    assert rows["t"].tolist() == [5, 6, 7, 8]
    with pytest.raises(UserError, match=r"line 12: 'i' has 2 values, but 't' has 1"):
        explode(chunk.assign(t=pd.Series([[5]] * 4, index=chunk.index)), "i", where)
    with pytest.raises(UserError, match=r"line 12: the column 't' has lists, but 'i' does not"):
        explode(chunk.assign(i=1), "i", where)
    plain = chunk[["s"]]
    assert explode(plain, "i", where) is plain


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "int64"),
        ([1, None], "Int64"),
        ([2**53 + 1, None], "Int64"),
        ([1, 0.5], "float64"),
        ([True, False], "bool"),
        (["a", None], "str"),
        (["a", 1], "object"),
        ([[1], None], "object"),
        ([2**70, 1], "str"),
    ],
)
def test_types_of_columns(values: list[Any], dtype: str) -> None:
    column = typed(values)
    assert str(column.dtype) == dtype
    expected = [str(v) for v in values] if values[0] == 2**70 else values
    assert [None if v is pd.NA or v != v else v for v in column] == expected
