"""The columns of frames that a data set is made of, checked and with plain types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from p_rnn.data.readers import cells
from p_rnn.data.readers.frame import place
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import FeatureConfig
from p_rnn.settings.tree import plain, simple

# None: all columns; columns; or {name: kind, or settings}.
Features = Sequence[str] | Mapping[str, Any] | None


def event_frame(events: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """The columns that are read; times are numbers, dates, or text.

    Raises:
        UserError: a column that is missing, or a value that is no id or no time.
    """
    item, time, kind = (columns[key] for key in ("item", "time", "event_type"))
    session = columns["session"]
    names = [session] if isinstance(session, str) else list(session)
    used = [*names, item, *(name for name in (time, kind) if name is not None)]
    _check(events, "events", used)
    if len(set(used)) < len(used):
        raise UserError(f"events: the columns {', '.join(used)} must all be different")
    where, made = _where("events"), {}
    for name in used:
        column = events[name].reset_index(drop=True)
        if name == time:
            made[name] = cells.time_column(column, where)
        elif name == kind:
            made[name] = cells.property_column(column, where)
        else:
            made[name] = cells.id_column(column, where, lists=name == item)
    return pd.DataFrame(made)


def item_frame(
    items: pd.DataFrame, item: str, features: Features, declared: dict[str, Any]
) -> pd.DataFrame | None:
    """The ids, and the columns that features read; None if there are none.

    Raises:
        UserError: a column that is missing, or a cell that is no property.
    """
    _check(items, "items", [item])
    if features is None:
        used = [name for name in items.columns if name != item]
    else:
        table = {name: about for name, about in declared.items() if not about.get("file")}
        used = [c for name, about in table.items() for c in about.get("columns") or [name]]
        used = list(dict.fromkeys(used))
    _check(items, "items", used)
    for name in used:
        if str(name) in ("time", "item"):
            raise UserError(
                f"items: a feature cannot come from a column '{name}'; rename that column, or "
                "leave it out of features"
            )
    if not used:
        return None
    where = _where("items")
    made = {item: cells.id_column(items[item].reset_index(drop=True), where)}
    for name in used:
        made[str(name)] = cells.property_column(items[name].reset_index(drop=True), where)
    return pd.DataFrame(made)


def check_frame(frame: Any, what: str) -> None:
    """Refuse what is no frame.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(frame, pd.DataFrame):
        turn = "; convert it by its to_pandas()" if hasattr(frame, "to_pandas") else ""
        raise UserError(f"{what} must be a pandas DataFrame, not {type(frame).__name__}{turn}")


def _check(frame: Any, what: str, columns: Sequence[str]) -> None:
    """Refuse what is no frame, has no rows, or lacks a column or has it twice."""
    check_frame(frame, what)
    if not len(frame):
        raise UserError(f"{what}: the frame has no rows")
    known = [str(name) for name in frame.columns]
    for name in columns:
        if name not in frame.columns and name in frame.index.names:
            raise UserError(f"{what}: '{name}' is the index; pass {what}.reset_index()")
        if name not in frame.columns:
            raise UserError(f"{what}: column '{name}' is missing; it has {', '.join(known)}")
        if known.count(str(name)) > 1:
            raise UserError(f"{what}: there are several columns '{name}'; keep one")


def _where(what: str) -> Any:
    return lambda row: f"{what}, {place(row)}"


def feature_settings(features: Features, items: Any) -> dict[str, Any]:
    """{name: settings of the feature}; empty where every column is one."""
    if features is None:
        return {}
    if isinstance(features, str):
        raise UserError(f"features must be a list or a dict, such as features=['{features}']")
    declared: dict[str, Any] = {}
    for name in features:
        about = features[name] if isinstance(features, Mapping) else {}
        if isinstance(about, FeatureConfig):
            about = plain(about)
        if about is None or isinstance(about, str):
            about = {"kind": about}
        declared[str(name)] = simple(dict(about))
    for name, about in declared.items():
        if items is None and not about.get("file"):
            raise UserError(f"features: '{name}' needs the frame items, or a file")
    return declared
