"""The table of a network against counts by hand."""

from __future__ import annotations

from p_rnn.models.summary import summary
from tests.worlds import FEATURES, D, N, network, settings


def test_counts_by_hand() -> None:
    """H = 4: a GRU has U [4, 12] and two biases [12]; b [N, 1] belongs to the first subnet."""
    made = network(
        settings("model=parallel", "model.input=shared", "selected_features=[image]"),
        {"image": FEATURES["image"]},
    )
    gru = 4 * 12 + 12 + 12
    rows = {line.split()[0]: line for line in summary(made).splitlines()[1:]}
    assert set(rows) == {"id", "image", "shared", "all"}
    counts = {"id": gru + 4 * 12 + N, "image": gru + D * 12 + N * 4, "shared": N * 4}
    for name, count in counts.items():
        assert f" {count} " in f"{rows[name]} ", rows[name]
    assert f" {sum(counts.values())} " in f"{rows['all']} "
    assert sum(p.numel() for p in made.parameters()) == sum(counts.values())
    assert max(map(len, summary(made).splitlines())) <= 80


def test_layers_and_shapes() -> None:
    made = network(settings("model=id_only", "num_layers=2", "cell=lstm"))
    assert "2 x LSTM" in summary(made)
    assert f"{N}x4" in summary(made)
