"""Ids on the command line are text as it is typed, whatever it looks like."""

from __future__ import annotations

import pytest

from p_rnn.settings.commands import RecommendConfig
from p_rnn.settings.errors import UserError
from p_rnn.settings.hydra_glue import composed, typed
from p_rnn.settings.id_lists import as_typed, path_as_typed


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ("[a,b,c]", ["a", "b", "c"]),
        ("a,b", ["a", "b"]),
        ("A-7", ["A-7"]),
        ("[12, -3 ,0]", ["12", "-3", "0"]),
        (
            "[007,1_000,1e5,1.0,true,null,nan]",
            ["007", "1_000", "1e5", "1.0", "true", "null", "nan"],
        ),
        ("['a,b',\"c d\",'it\\'s']", ["a,b", "c d", "it's"]),
        ("[two words,ß→3,a=b,{x},(y),x:y]", ["two words", "ß→3", "a=b", "{x}", "(y)", "x:y"]),
        ("[it's,5\" disk]", ["it's", '5" disk']),
        (r"[C:\b,$5]", [r"C:\b", "$5"]),
        ("[]", []),
        ("null", None),
    ],
)
def test_ids_are_what_is_typed(given: str, ids: list[str] | None) -> None:
    words = [as_typed(f"session={given}", ("session",)), "checkpoint=x"]
    config = typed(composed("recommend", RecommendConfig, words), RecommendConfig)
    assert config.session == ids


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("multirun/a/model=concat,seed=1/best.pt", "multirun/a/model=concat,seed=1/best.pt"),
        ("week 3 (1).pt", "week 3 (1).pt"),
        ("'a=b.pt'", "a=b.pt"),
        ("007", "007"),
        (r"C:\runs\best.pt", r"C:\runs\best.pt"),
    ],
)
def test_paths_are_what_is_typed(given: str, path: str) -> None:
    words = [path_as_typed(f"checkpoint={given}", ("checkpoint",))]
    config = typed(composed("recommend", RecommendConfig, words), RecommendConfig)
    assert config.checkpoint == path


def test_other_settings_stay_as_they_are() -> None:
    assert as_typed("k=007", ("session",)) == "k=007"
    assert as_typed("checkpoint=[a", ("session",)) == "checkpoint=[a"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[a,b", "a bracket is missing"),
        ("['a,b]", "a quote is not closed"),
        ("['a'b]", "a quote is not closed, or something follows it"),
        ("[a,,b]", "an empty id"),
        ("[a,]", "an empty id"),
        ("[${oc.env:HOME}]", "work only in a file"),
    ],
)
def test_mistakes_are_refused(given: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_typed(f"session={given}", ("session",))
