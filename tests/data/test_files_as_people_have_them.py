"""Every command of "Files as people have them" in data/README.md, on files written here."""

from __future__ import annotations

import bz2
import csv
import datetime
import io
import json
import random
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.dataset import Dataset
from p_rnn.data.prepare import prepare
from p_rnn.settings.hydra_glue import load_config

README = Path(__file__).parent.parent.parent / "data" / "README.md"
DAY_S, START_S = 86_400, 1_569_888_000  # 2019-10-01
Event = tuple[str, int, int]  # session, item, time


def log(num_sessions: int = 120) -> list[Event]:
    """Sessions of 2 to 6 events within 6 days, in time order, of 10 items, no repeats at once."""
    rng = random.Random(0)
    events: list[Event] = []
    for s in range(num_sessions):
        time, item = START_S + s * 6 * DAY_S // num_sessions, 0
        for _ in range(rng.randint(2, 6)):
            item = rng.choice([i for i in range(1, 11) if i != item])
            time += rng.randint(1, 99)
            events.append((f"s{s}", item, time))
    return events


EVENTS = log()
HEADER = "session,item,time"


def rows(events: Iterable[Event], separator: str = ",", *more: str) -> str:
    return "".join(separator.join([*map(str, event), *more]) + "\n" for event in events)


def sessions(events: list[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for event in events:
        found.setdefault(event[0], []).append(event)
    return found


def histories(events: list[Event]) -> str:
    """SR-GNN's rows as RecBole has them: of each session, from the longest to the shortest."""
    lines = ["session_id:token\titem_id_list:token_seq\titem_id:token"]
    for own in sessions(events).values():
        items = [str(item) for _, item, _ in own]
        for n in range(len(items) - 1, 0, -1):
            lines.append(f"{len(lines)}\t{' '.join(items[:n])}\t{items[n]}")
    return "\n".join(lines) + "\n"


def utc(time: int) -> str:
    return f"{datetime.datetime.fromtimestamp(time, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


def write_shop(shop: Path) -> None:
    """The files that the commands name."""
    shop.mkdir()

    def save(name: str, text: str, encoding: str = "utf-8") -> None:
        (shop / name).write_text(text, encoding=encoding)

    save("clicks.csv", f"{HEADER}\n{rows(EVENTS)}")
    save("raw.csv", "".join(f"{s},{t},{i}\n" for s, i, t in EVENTS))
    save("semicolon.csv", f"session;item;time\n{rows(EVENTS, ';')}")
    save("latin.csv", f"{HEADER},name\n{rows(EVENTS, ',', 'café')}", "latin-1")
    for n, part in enumerate(np.array_split(np.arange(len(EVENTS)), 3)):
        text = f"{HEADER}\n{rows(EVENTS[k] for k in part)}"
        (shop / f"2024-{n:02}.csv.bz2").write_bytes(bz2.compress(text.encode()))
    save("inches.csv", f"{HEADER},title\n{rows(EVENTS, ',', chr(34) + 'weird' + chr(34) + ' 5')}")
    file = io.StringIO()
    writer = csv.writer(file, doublequote=False, escapechar="\\", lineterminator="\n")
    writer.writerow([*HEADER.split(","), "title"])
    writer.writerows([*event, 'a "big", red hat'] for event in EVENTS)
    save("escaped.csv", file.getvalue())
    lines = [f"{s},{i},{utc(t)},b{i}\n" for s, i, t in EVENTS]
    save("utc.csv", f"{HEADER},brand\n{''.join(lines)},7,{utc(START_S)},b7\ns0,,{utc(START_S)},b\n")
    records = [{"session": s, "item": i, "time": t} for s, i, t in EVENTS]
    save("events.jsonl", "\n".join(map(json.dumps, records)) + "\n")
    grouped = [
        {"session": s, "events": [{"aid": i, "ts": t * 1000} for _, i, t in own]}
        for s, own in sessions(EVENTS).items()
    ]
    save("sessions.jsonl", "\n".join(map(json.dumps, grouped)))
    pytest.importorskip("pyarrow")
    lists = pd.DataFrame(EVENTS, columns=HEADER.split(",")).groupby("session", sort=False)
    lists.agg(list).reset_index().to_parquet(shop / "lists.parquet")
    names = list(sessions(EVENTS))
    train, valid, test = names[:80], names[80:100], names[100:]
    for name, chosen in (("train", train), ("valid", valid), ("test", test)):
        own = [event for event in EVENTS if event[0] in chosen]
        save(f"{name}.csv", f"{HEADER}\n{rows(own)}")
        save(
            f"shop.{name}.inter",
            f"user_id:token\titem_id:token\ttimestamp:float\n{rows(own, chr(9))}",
        )
        save(f"prefix.{name}.inter", histories(own))
    days = [(s, (t - START_S) // DAY_S, i, t) for s, i, t in EVENTS]
    save("days.csv", "user,day,item,time\n" + "".join(f"{','.join(map(str, d))}\n" for d in days))
    both = [*rows(EVENTS, ",", "4").splitlines(), *rows(EVENTS, ",", "3.5").splitlines()]
    save("ratings.csv", f"{HEADER},rating\n" + "\n".join(both) + "\n")


def commands() -> list[str]:
    section = README.read_text().split("## Files as people have them")[1].split("\n**RecBole")[0]
    return re.findall(r"^    python scripts/prepare\.py (.*)$", section, re.MULTILINE)


def prepared(arguments: str, folder: Path) -> Dataset:
    write_shop(folder / "shop")
    config = load_config(
        *shlex.split(arguments), f"paths.raw={folder}", f"paths.prepared={folder / 'prepared'}"
    )
    return prepare(config.dataset, config.paths)


def triples(dataset: Dataset) -> list[Event]:
    """All events as raw ids and times, in the order of sessions."""
    found: list[Event] = []
    for split in dataset.splits:
        parts = dataset.sessions(split)
        names = np.repeat(np.load(dataset.folder / split / "session_ids.npy"), parts.lengths)
        found += zip(names, dataset.item_ids[parts.items], parts.times, strict=True)
    return found


def test_there_is_a_command_for_each_case() -> None:
    assert len(commands()) == 17


ALL = [c for c in commands() if "=given" not in c and "=all" not in c]


@pytest.mark.parametrize("arguments", ALL)
def test_all_events_are_read(tmp_path: Path, arguments: str) -> None:
    dataset = prepared(arguments, tmp_path)
    found: list[Any] = triples(dataset)
    if "days.csv" in arguments:
        found = [(name.rpartition("|")[0], *rest) for name, *rest in found]
    assert sorted(map(tuple, found)) == sorted(EVENTS)
    read, *rules, left = dataset.manifest["rules"]
    extra = {"utc.csv": 2, "ratings.csv": len(EVENTS)}
    others = sum(n for name, n in extra.items() if name in arguments)
    assert read["events"] == len(EVENTS) + others
    dropped = {row["rule"]: row["events"] for row in rules if row["events"]}
    rule = {"utc.csv": "missing_ids", "ratings.csv": "where"}
    assert dropped == {r: others for name, r in rule.items() if name in arguments}
    assert left["events"] == len(EVENTS)


def test_all_repeats_in_a_session_go(tmp_path: Path) -> None:
    (arguments,) = [c for c in commands() if "=all" in c]
    expected = []
    for own in sessions(EVENTS).values():
        first = {item: event for event in reversed(own) for item in [event[1]]}
        kept = [event for event in own if first[event[1]] is event]
        expected += kept if len(kept) >= 2 else []
    assert len(expected) < len(EVENTS)
    assert sorted(triples(prepared(arguments, tmp_path))) == sorted(expected)


@pytest.mark.parametrize("arguments", [c for c in commands() if "=given" in c])
def test_given_splits_are_taken_as_they_are(tmp_path: Path, arguments: str) -> None:
    dataset = prepared(arguments, tmp_path)
    own = [[item for _, item, _ in events] for events in sessions(EVENTS).values()]
    items = {"train": own[:80], "valid": own[80:100], "test": own[100:]}
    if "prefix" in arguments:  # in the test, each row counts by its last event
        del items["valid"]
        items["test"] = [row[:n] for row in items["test"] for n in range(len(row), 1, -1)]
    assert dataset.splits == list(items)
    for split, rows_of_items in items.items():
        parts = dataset.sessions(split)
        raw = dataset.item_ids[parts.items]
        found = [raw[a:b].tolist() for a, b in zip(parts.offsets, parts.offsets[1:], strict=False)]
        assert found == rows_of_items
        if split == "train":
            assert parts.context is None
        else:
            last_only = "prefix" in arguments
            assert parts.context is not None
            assert parts.context.tolist() == [len(r) - 1 if last_only else 1 for r in rows_of_items]
