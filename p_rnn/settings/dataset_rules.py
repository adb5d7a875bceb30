"""The settings of a data set, checked: what cannot go together, and what has no effect."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

from p_rnn.settings.components import check_parameters, parameters_of, registry
from p_rnn.settings.errors import UserError, refuse_inert
from p_rnn.settings.registry import lookup, suggest
from p_rnn.settings.sections import DatasetConfig, FeatureConfig
from p_rnn.settings.tree import check_ranges


def resolve_dataset(dataset: DatasetConfig) -> DatasetConfig:
    """The rules of a data set, checked."""
    check_ranges(dataset, "dataset.")
    parameters = reader_parameters(dataset)
    for name, feature in dataset.features.items():
        _check_feature(f"dataset.features.{name}", feature)
    columns = parameters.get("columns")
    if dataset.split == "given":
        _check_given(dataset)
    else:
        for name in ("valid_path", "test_path"):
            value = getattr(dataset, name)
            refuse_inert(value is not None, f"dataset.{name}", "without dataset.split=given")
    if dataset.split in ("leave_one_out", "given"):
        why = f"with split={dataset.split}"
        refuse_inert(dataset.test_days is not None, "dataset.test_days", why)
        refuse_inert(dataset.straddling is not None, "dataset.straddling", why)
    elif dataset.test_days is None:
        raise UserError("dataset.split=time needs dataset.test_days, the length of the test split")
    else:
        dataset = replace(dataset, straddling=dataset.straddling or "whole")
    if not re.fullmatch(r"\w[\w.\-]*", dataset.name):
        raise UserError(
            f"dataset.name='{dataset.name}' names a folder: letters, digits, _ . - only"
        )
    if columns is not None:
        _check_columns(dataset, columns)
    if dataset.split == "time" and columns and columns.time is None:
        raise UserError(
            "dataset.columns.time=null leaves no times to split by; set "
            "dataset.split=leave_one_out dataset.test_days=null dataset.straddling=null"
        )
    if dataset.drop_repeats not in (False, True, "all"):
        raise UserError(
            f"dataset.drop_repeats={dataset.drop_repeats} must be true (an item clicked again at "
            "once), all (every later event of an item in its session) or false"
        )
    refuse_inert(
        dataset.long_sessions is not None and dataset.max_session_length is None,
        "dataset.long_sessions",
        "without dataset.max_session_length",
    )
    low, high = dataset.min_session_length, dataset.max_session_length
    if low is not None and high is not None and low > high:
        raise UserError(
            f"dataset.min_session_length={low} exceeds dataset.max_session_length={high}"
        )
    untyped = columns is not None and columns.event_type is None
    if dataset.event_types is not None and untyped:
        raise UserError("dataset.event_types needs dataset.columns.event_type, the column of types")
    if dataset.time_range is not None and len(dataset.time_range) != 2:
        raise UserError("dataset.time_range takes two dates, [from, to), in UTC")
    return replace(dataset, parameters=parameters)


def reader_settings(dataset: DatasetConfig) -> tuple[Any, dict[str, Any]]:
    """The class of the reader, and all settings with which it runs.

    Raises:
        UserError: an unknown reader, or a setting that it does not take.
    """
    reader = lookup("dataset.reader", registry("dataset.reader"), dataset.reader)
    own = [f.name for f in fields(dataset)]
    name = f"reader={dataset.reader}"
    return reader, check_parameters("dataset", name, reader, dataset.parameters, own)


def reader_parameters(dataset: DatasetConfig) -> dict[str, Any]:
    """Of these settings those that are given, in their types."""
    taken = reader_settings(dataset)[1]
    return {key: taken[key] for key, value in dataset.parameters.items() if value is not None}


def _check_feature(key: str, feature: FeatureConfig) -> None:
    """Refuse parameters that the kind does not take, or without a kind, that no kind takes."""
    kinds = registry("dataset.features.*.kind")
    own = [f.name for f in fields(feature)]
    if feature.kind is not None:
        kind = lookup(f"{key}.kind", kinds, feature.kind)
        check_parameters(key, f"kind={feature.kind}", kind, feature.parameters, own)
        return
    known = {f.name for kind in kinds.values() for f in fields(parameters_of(kind))}
    for name in feature.parameters:
        if name not in known:
            close = suggest(name, [*known, *own]).partition(" Known")[0]
            raise UserError(f"unknown setting '{key}.{name}'{close}")


def _check_columns(dataset: DatasetConfig, columns: Any) -> None:
    names = columns.session if isinstance(columns.session, list) else [columns.session]
    if not names or not all(isinstance(name, (str, int)) for name in names):
        raise UserError(
            f"dataset.columns.session={columns.session} must be a column, or a list of columns "
            "whose values name a session together"
        )
    if columns.history is not None:
        if columns.time is not None:
            raise UserError(
                "dataset.columns.history makes a session of each row, whose events have no times; "
                "set dataset.columns.time=null"
            )
        refuse_inert(
            dataset.session_gap_s is not None, "dataset.session_gap_s", "with columns.history"
        )


def _check_given(dataset: DatasetConfig) -> None:
    """Somebody's own splits are taken as they are, so that figures compare with theirs."""
    if dataset.test_path is None:
        raise UserError("dataset.split=given needs dataset.test_path, the file of the test split")
    if dataset.validation and dataset.valid_path is None:
        raise UserError(
            "dataset.split=given needs dataset.valid_path, or dataset.validation=false where there "
            "is no such file"
        )
    refuse_inert(
        not dataset.validation and dataset.valid_path is not None,
        "dataset.valid_path",
        "with dataset.validation=false",
    )
    for name in ("min_session_length", "min_item_support", "max_session_length"):
        if getattr(dataset, name) is not None:
            raise UserError(
                f"dataset.{name} would change the given splits; set dataset.{name}=null"
            )
