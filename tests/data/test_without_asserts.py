"""User mistakes are refused by `python -O` too, which leaves every `assert` out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import random_log

# Each case: columns of the log that are replaced, settings that differ, and what the refusal says.
CASES: dict[str, tuple[dict[str, object], str, tuple[str, ...]]] = {
    "split by time without test_days": ({}, "test_days=None", ("dataset.test_days",)),
    "given split without files": (
        {},
        "split='given', test_days=None, straddling=None",
        ("dataset.test_path",),
    ),
    "missing ids": ({"item": None}, "", ("bad.csv", "line 2", "'item'")),
    "times": ({"time": "soon"}, "", ("bad.csv", "line 2", "'time'", "soon")),
    "one item": ({"item": 7}, "duplicates='keep'", ("only one item",)),
    "no property": (
        {},
        "features={'price': FeatureConfig.of(kind='number')}",
        ("dataset.features.price", "no item table"),
    ),
    "unknown split": ({}, "validation=False", ("no valid split", "test, train")),
}
PROGRAM = """
from p_rnn.data.features import prepare_features
from p_rnn.data.prepare import prepare
from p_rnn.data.readers.options import ColumnsConfig
from p_rnn.settings.sections import DatasetConfig, FeatureConfig, PathsConfig
from p_rnn.settings.errors import UserError

assert False, "python -O leaves this out"
plain = DatasetConfig.of(
    name="bad", reader="table", path="bad.csv", columns=ColumnsConfig("session", "item", "time"),
    split="time", test_days=2,
)
for raw, given in {cases}:
    dataset, paths = plain.but(**given), PathsConfig(raw=raw, prepared=raw + "/prepared")
    try:
        prepared = prepare(dataset, paths)
        if dataset.features:
            prepare_features(dataset, paths, prepared, None)
        prepared.sessions("valid")
        print("accepted")
    except UserError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The message of each case; all in one process, as starting one takes seconds."""
    cases = []
    for columns, settings, _ in CASES.values():
        raw = tmp_path_factory.mktemp("raw")
        random_log(seed=1).assign(**columns).to_csv(raw / "bad.csv", index=False)
        cases.append(f"({str(raw)!r}, dict({settings}))")
    program = PROGRAM.replace("{cases}", f"[{', '.join(cases)}]")
    done = subprocess.run(
        [sys.executable, "-O", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES, done.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_refused_in_one_line(case: str, refusals: dict[str, str]) -> None:
    for text in CASES[case][2]:
        assert text in refusals[case]
