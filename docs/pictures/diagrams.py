"""The diagrams: the architecture, the models and the training strategies."""

from __future__ import annotations

from svg import BLUE, GREEN, GREY, INK, LINE, MUTED, ORANGE, PALE, PINK, Picture

NOW, GOLD = "#fff8dc", "#b58900"  # the click that is read
VIEWS = (("id", BLUE), ("image", ORANGE), ("text", GREEN))


def architecture() -> Picture:
    """`model=parallel`: ids, image and text of the clicked items become one score per item."""
    p = Picture(980, 470, "p-RNN: one subnet for each view of an item, merged into one score")
    heads = (
        (96, "1  session"),
        (282, "2  views of an item"),
        (488, "3  subnets"),
        (660, "4  merge"),
        (852, "5  scores"),
    )
    for x, words in heads:
        p.text(x, 36, words, 15, bold=True)
    _session(p)
    rows = (96, 206, 316)
    for (name, colour), y in zip(VIEWS, rows, strict=True):
        p.line([(168, 206 + 36), (190, 206 + 36), (190, y + 36), (208, y + 36)], tip=True)
        _view(p, name, colour, y)
        p.line([(358, y + 36), (408, y + 36)], tip=True)
        _subnet(p, name, colour, y)
        p.line([(566, y + 36), (592, y + 36), (592, 242), (610, 242)], tip=y == rows[1])
    p.box(612, 190, 98, 104, PALE[PINK], PINK, width=2)
    p.text(661, 222, "merge", 15, bold=True)
    p.text(661, 244, "weighted sum", 12)
    p.text(661, 261, "of the scores", 12)
    p.text(661, 278, "of all subnets", 12)
    p.line([(710, 242), (746, 242)], tip=True)
    _scores(p)
    for x, words in (
        (96, ("A visitor's clicks", "so far, in order")),
        (282, ("What the item is: its id", "and its features")),
        (488, ("A GRU for each view; its hidden", "state remembers the session")),
        (661, ("One score", "per item")),
        (852, ("All items, ranked: the", "next click should be on top")),
    ):
        for k, each in enumerate(words):
            p.text(x, 430 + 17 * k, each, 12, MUTED)
    return p


def _session(p: Picture) -> None:
    p.line([(96, 168), (96, 206)], LINE, tip=True)
    p.line([(96, 278), (96, 316)], LINE, tip=True)
    p.text(106, 191, "then", 11.5, MUTED, "start", italic=True)
    p.text(106, 301, "then", 11.5, MUTED, "start", italic=True)
    for y, words, item in ((96, "click 1", "item 17"), (206, "click 2", "item 4")):
        now = item == "item 4"
        p.box(26, y, 140, 72, NOW if now else PALE[GREY], GOLD if now else LINE)
        _thumbnail(p, 36, y + 12, ORANGE if now else GREY)
        p.text(92, y + 31, words, 13, anchor="start", bold=True)
        p.text(92, y + 50, item, 12, MUTED, "start")
    p.box(26, 316, 140, 72, "#ffffff", LINE, dash="5 4")
    p.text(60, 362, "?", 28, MUTED, bold=True)
    p.text(92, 347, "click 3", 13, anchor="start", bold=True)
    p.text(92, 366, "not yet seen", 12, MUTED, "start")


def _thumbnail(p: Picture, x: float, y: float, colour: str, size: float = 48) -> None:
    """A little landscape: the usual sign for a picture."""
    s = size / 48
    p.box(x, y, size, size, "#ffffff", LINE, 4, 1)
    p.dot(x + 14 * s, y + 14 * s, 5 * s, colour)
    d = f"M{x + 5 * s} {y + 42 * s}L{x + 19 * s} {y + 23 * s}L{x + 28 * s} {y + 35 * s}"
    p.path(f"{d}L{x + 34 * s} {y + 28 * s}L{x + 43 * s} {y + 42 * s}Z", colour, 1.6)


def _view(p: Picture, name: str, colour: str, y: float) -> None:
    p.box(210, y, 148, 72, PALE[colour], colour)
    p.text(222, y + 22, name, 14, colour, "start", bold=True)
    if name == "id":
        p.text(222, y + 50, "item 4", 13, INK, "start")
    elif name == "image":
        for k, shade in enumerate((0.9, 0.3, 0.6, 0.1, 0.75, 0.45, 0.2)):
            grey = f"#{round(255 - 170 * shade):02x}" + f"{round(255 - 120 * shade):02x}ff"
            p.box(222 + 17 * k, y + 34, 15, 22, grey, LINE, 2, 0.8)
    else:
        for k, word in enumerate(("red", "shoe")):
            p.box(222 + 52 * k, y + 34, 46, 22, "#ffffff", LINE, 10, 0.8)
            p.text(245 + 52 * k, y + 49, word, 12)
        p.text(336, y + 49, "…", 14)


def _subnet(p: Picture, name: str, colour: str, y: float) -> None:
    p.box(410, y, 156, 72, PALE[colour], colour, width=2)
    p.text(488, y + 32, "GRU", 16, bold=True)
    p.text(488, y + 54, f"hidden state of {name}", 12)
    # the state goes back into the same GRU at the next click
    p.path(f"M530 {y}C530 {y - 26} 446 {y - 26} 446 {y - 3}", MUTED, tip=True)


def _scores(p: Picture) -> None:
    p.box(748, 84, 208, 316, "#ffffff", LINE)
    bars = (
        ("item 93", 0.92),
        ("item 17", 0.71),
        ("item 52", 0.55),
        ("item 8", 0.4),
        ("item 61", 0.27),
        ("item 4", 0.16),
    )
    for k, (item, score) in enumerate(bars):
        y = 104 + 42 * k
        best = k == 0
        p.text(762, y + 15, item, 12, anchor="start", bold=best)
        p.box(814, y, 126 * score, 20, PINK if best else PALE[PINK], PINK, 3, 1)
    p.text(852, 104 + 42 * 6 + 14, "…  every item of the catalogue", 12, MUTED)


MODELS = (
    ("id_only", ("id",), "GRU4Rec"),
    ("feature_only", ("image + text",), "all features, one GRU"),
    ("concat", ("id + image + text",), "everything, one GRU"),
    ("parallel", ("id", "image", "text"), "a score from each, added"),
    ("parallel_shared", ("id", "image", "text"), "states added, then scored"),
    ("parallel_interaction", ("id", "image", "text"), "features times id state"),
    ("gru4recf", ("id", "image + text"), "RecBole: linear layer"),
)
MERGES = {"parallel": "+", "parallel_shared": "Σh", "parallel_interaction": "×", "gru4recf": "A"}


def models() -> Picture:
    """The seven architectures, each as its inputs, GRUs, merge and output."""
    p = Picture(980, 470, "The seven architectures")
    for k, (name, inputs, remark) in enumerate(MODELS):
        x, y = 20 + 238 * (k % 4), 22 + 222 * (k // 4)
        p.box(x, y, 226, 204, "#ffffff", "#d0d7de")
        p.text(x + 12, y + 24, name, 14, anchor="start", bold=True)
        p.text(x + 12, y + 43, remark, 11.5, MUTED, "start")
        ys = [y + 118] if len(inputs) == 1 else [y + 78, y + 158]
        ys = [y + 72, y + 118, y + 164] if len(inputs) == 3 else ys
        for each, at in zip(inputs, ys, strict=True):
            colour = dict(VIEWS).get(each, ORANGE if each == "image + text" else GREY)
            lines = each.split(" + ") if len(inputs) < 3 else [each]
            for n, word in enumerate(lines):
                p.text(x + 32, at + 4 + 14 * (n - (len(lines) - 1) / 2), word, 11.5)
            p.line([(x + 54, at), (x + 70, at)], tip=True)
            p.box(x + 72, at - 16, 48, 32, PALE[colour], colour)
            p.text(x + 96, at + 4, "GRU", 12, bold=True)
            if len(inputs) > 1:
                p.line([(x + 120, at), (x + 134, at), (x + 134, y + 118), (x + 142, y + 118)])
        start = x + 120
        if len(inputs) > 1:
            p.dot(x + 156, y + 118, 14, PALE[PINK], PINK)
            p.text(x + 156, y + 123, MERGES[name], 13, bold=True)
            start = x + 170
        p.line([(start, y + 118), (x + 180, y + 118)], tip=True)
        p.text(x + 202, y + 122, "scores", 11.5)
    x, y = 20 + 238 * 3, 22 + 222
    notes = (
        ("+", "scores of the subnets, added"),
        ("Σh", "states added, one output matrix"),
        ("×", "the state of each feature times"),
        ("", "the state of the id; then added"),
        ("A", "a linear layer maps the states"),
        ("", "to the space of item embeddings"),
    )
    p.text(x + 12, y + 24, "merges", 14, anchor="start", bold=True)
    for k, (sign, words) in enumerate(notes):
        p.text(x + 12, y + 56 + 22 * k, sign, 13, INK, "start", bold=True)
        p.text(x + 38, y + 56 + 22 * k, words, 11.5, INK, "start")
    return p


STRATEGIES = (
    ("simultaneous", "all subnets learn in every update"),
    ("alternating", "one subnet learns in a pass, in turn"),
    ("residual", "one subnet after the other; those before are frozen"),
    ("interleaving", "one subnet after the other, within a mini-batch"),
)


def strategies() -> Picture:
    """Which subnet learns in which update of three passes with two mini-batches each."""
    p = Picture(980, 372, "The four training strategies")
    for k, (name, remark) in enumerate(STRATEGIES):
        x, y = 24 + 474 * (k % 2), 26 + 160 * (k // 2)
        p.text(x, y + 10, name, 14, anchor="start", bold=True)
        p.text(x + 108, y + 10, remark, 12, MUTED, "start")
        for each in range(3):
            p.text(x + 60 + 128 * each + 62, y + 32, f"pass {each + 1}", 11.5, MUTED)
            for row, (view, colour) in enumerate(VIEWS):
                at = y + 42 + 26 * row
                if not each:
                    p.text(x + 50, at + 16, view, 12, colour, "end", bold=True)
                for batch in range(2):
                    left = x + 62 + 128 * each + 62 * batch
                    _cell(p, left, at, name, each, row, colour)
    y = 346
    p.box(84, y - 14, 20, 18, BLUE, BLUE, 3)
    p.text(112, y, "learns", 12, anchor="start")
    p.box(190, y - 14, 20, 18, PALE[BLUE], BLUE, 3, 1)
    p.text(218, y, "in the score, frozen", 12, anchor="start")
    p.box(370, y - 14, 20, 18, "#ffffff", "#d0d7de", 3, 1)
    p.text(398, y, "not in the score yet", 12, anchor="start")
    p.text(560, y, "Drawn with two mini-batches per pass.", 12, MUTED, "start")
    return p


def _cell(p: Picture, x: float, y: float, strategy: str, each: int, row: int, colour: str) -> None:
    """A subnet in one mini-batch; under interleaving a mini-batch has three updates."""
    width, height = 56, 20
    if strategy == "interleaving":
        for update in range(3):
            learns = update == row
            fill = colour if learns else PALE[colour]
            p.box(x + update * 19, y, 17, height, fill, colour, 3, 1)
        return
    learns = strategy == "simultaneous" or each == row
    there = strategy != "residual" or row <= each
    fill = colour if learns else PALE[colour] if there else "#ffffff"
    p.box(x, y, width, height, fill, colour if there else "#d0d7de", 3, 1)
