"""What is fuzzed: each target has seeds, and reads bytes as the files of a data set, say.

A target returns if the bytes were read or refused by a `UserError`; anything else is a finding.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p_rnn.data.dataset import open_dataset
from p_rnn.data.events import collect
from p_rnn.data.prepare import prepare
from p_rnn.data.readers import make_readers
from p_rnn.data.rules import apply_rules
from p_rnn.data.splits import split
from p_rnn.runs.experiment import train
from p_rnn.settings.dataset_rules import resolve_dataset
from p_rnn.settings.sections import DatasetConfig, PathsConfig
from p_rnn.training.checkpoint import load_checkpoint
from tests.composed import composed

NEXT = b"\n=====\n"  # between the files of a data set


@dataclass(frozen=True)
class Target:
    """`run(data, folder)` reads the bytes from an empty folder."""

    run: Callable[[bytes, Path], None]
    seeds: Callable[[Path], list[bytes]]


def rows(line: Callable[[int, int, int], str], header: str = "") -> bytes:
    """A small log: `line(session, item, second)` for each event."""
    made = [line(s, (s * 7 + k * k) % 9, 9000 * s + 30 * k) for s in range(30) for k in range(4)]
    return ("\n".join([header, *made] if header else made) + "\n").encode()


def day(second: int) -> str:
    return f"2019-10-{1 + second // 86400:02d} {second % 86400 // 3600:02d}:{second % 60:02d}:00"


def reading(names: list[str], reader: str, **settings: Any) -> Callable[[bytes, Path], None]:
    """Reads files of these names, and applies the rules and the split."""

    def run(data: bytes, folder: Path) -> None:
        for name, content in zip(names, data.split(NEXT), strict=False):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
        config = DatasetConfig.of(name="fuzz", reader=reader, **{"test_days": 1.0, **settings})
        dataset = resolve_dataset(config)
        readers = make_readers(dataset, PathsConfig(str(folder), str(folder / "prepared")))
        events, _ = apply_rules(collect(readers, "fuzz"), dataset)
        split(events, dataset)
        readers["train"].items()

    return run


def seeds_of(*seeds: list[bytes]) -> Callable[[Path], list[bytes]]:
    return lambda folder: [NEXT.join(files) for files in seeds]


TABLE = rows(lambda s, i, t: f"{s},{i},{t}", "session,item,time")
WORDS = rows(lambda s, i, t: f'"a""{s}",é{i},{t}.5', "session,item,time")
ITEMS = b"item,tags,price\n" + b"".join(b"%d,a|b%d,%d.5\n" % (i, i, i) for i in range(9))
JSONL = rows(lambda s, i, t: json.dumps({"session": s, "item": i, "time": t, "x": {"y": [i]}}))
LISTS = rows(lambda s, i, t: json.dumps({"session": s, "item": [i, 2], "time": [t, t + 1]}))
ATOMIC = rows(lambda s, i, t: f"{s}\t{i}\t{t}", "user_id:token\titem_id:token\ttimestamp:float")
ATOMIC_ITEMS = b"item_id:token\tclass:token_seq\tvec:float_seq\n" + b"".join(
    b"%d\ta b\t0.5 %d\n" % (i, i) for i in range(9)
)
GLOBO = rows(
    lambda s, i, t: (
        f"7,{s},{1506826800000 + t * 1000},3,{i},{1506826800000 + t * 1000},4,1,17,1,25,2"
    ),
    "user_id,session_id,session_start,session_size,click_article_id,click_timestamp,"
    "click_environment,click_deviceGroup,click_os,click_country,click_region,click_referrer_type",
)
ARTICLES = b"article_id,category_id,created_at_ts,publisher_id,words_count\n" + b"".join(
    b"%d,%d,1506826800000,0,%d\n" % (i, i % 3, 100 + i) for i in range(9)
)
TREE = b"categoryid,parentid\n1,\n2,1\n"
PROPERTIES = b"timestamp,itemid,property,value\n" + b"".join(
    b"1435000000000,%d,categoryid,%d\n" % (i, 1 + i % 2) for i in range(9)
)
COLUMNS = {"session": "session", "item": "item", "time": "time"}
TABULAR = {"path": "log.csv", "columns": COLUMNS}
ITEM_TABLE = {"path": "items.csv", "item": "item", "list_separator": "|", "list_columns": ["tags"]}

TARGETS: dict[str, Target] = {
    "csv": Target(
        reading(["log.csv", "items.csv"], "table", **TABULAR, item_table=ITEM_TABLE),
        seeds_of([TABLE, ITEMS], [WORDS, ITEMS]),
    ),
    "dates": Target(
        reading(["log.csv.gz"], "table", **TABULAR | {"path": "log.csv.gz"}, time_unit="iso"),
        seeds_of([rows(lambda s, i, t: f"{s},{i},{day(t)}", "session,item,time")]),
    ),
    "jsonl": Target(
        reading(["log.jsonl"], "table", **TABULAR | {"path": "log.jsonl"}),
        seeds_of([JSONL], [LISTS]),
    ),
    "atomic": Target(
        reading(["x/x.inter", "x/x.item"], "atomic", path="x"), seeds_of([ATOMIC, ATOMIC_ITEMS])
    ),
    "sequences": Target(
        reading(
            ["log.txt", "attributes.json"],
            "sequences",
            path="log.txt",
            item_table={"path": "attributes.json"},
            split="leave_one_out",
            test_days=None,
        ),
        seeds_of([b"1 2 3 4 5\n2 3 4\n3 1 2 5\n" * 3, b'{"1": [1, 2], "2": ["a"], "3": []}']),
    ),
    "globo": Target(
        reading(["globo/clicks/clicks_hour_000.csv", "globo/articles_metadata.csv"], "globo"),
        seeds_of([GLOBO, ARTICLES]),
    ),
    "movielens": Target(
        reading(["ml/u.data", "ml/u.item"], "movielens", path="ml"),
        seeds_of(
            [
                rows(lambda s, i, t: f"{s}\t{i}\t4\t{t}"),
                b"".join(
                    b"%d|M (1995)|01-Jan-1995||u|0|1|0%s\n" % (i, b"|0" * 16) for i in range(9)
                ),
            ]
        ),
    ),
    "yoochoose": Target(
        reading(["yoochoose/yoochoose-clicks.dat"], "yoochoose", path="yoochoose"),
        seeds_of([rows(lambda s, i, t: f"{s},{day(t).replace(' ', 'T')}.351Z,{i},0")]),
    ),
    "retailrocket": Target(
        reading(
            [
                "r/events.csv",
                "r/item_properties_part1.csv",
                "r/item_properties_part2.csv",
                "r/category_tree.csv",
            ],
            "retailrocket",
            path="r",
        ),
        seeds_of(
            [
                rows(
                    lambda s, i, t: f"{1435000000000 + 1000 * t},{s},view,{i},",
                    "timestamp,visitorid,event,itemid,transactionid",
                ),
                PROPERTIES,
                PROPERTIES,
                TREE,
            ]
        ),
    ),
    "diginetica": Target(
        reading(
            ["d/train-item-views.csv", "d/products.csv", "d/product-categories.csv"],
            "diginetica",
            path="d",
        ),
        seeds_of(
            [
                rows(
                    lambda s, i, t: f"{s};NA;{i};{t * 10};{day(t)[:10]}",
                    "sessionId;userId;itemId;timeframe;eventdate",
                ),
                b"itemId;pricelog2;product.name.tokens\n"
                + b"".join(b"%d;10;1,2,%d\n" % (i, i) for i in range(9)),
                b"itemId;categoryId\n" + b"".join(b"%d;%d\n" % (i, i % 3) for i in range(9)),
            ]
        ),
    ),
}


def checkpoint(data: bytes, folder: Path) -> None:
    (folder / "best.pt").write_bytes(data)
    for mmap in (False, True):
        load_checkpoint(folder / "best.pt", mmap)


def checkpoint_seeds(folder: Path) -> list[bytes]:
    (folder / "log.csv").write_bytes(TABLE)
    words = ["dataset=table", "dataset.path=log.csv", "dataset.test_days=1", "device=cpu"]
    words += ["tracking.tensorboard=false", "tracking.progress=false"]
    small = ["hidden_size=2", "num_negatives=2", "batch_size=2", "num_epochs=1", "compile=never"]
    paths = PathsConfig(str(folder), str(folder / "prepared"))
    for model, own in (("pop", []), ("id_only", small)):
        train(replace(composed(*words, f"model={model}", *own), paths=paths), folder / model)
    found = folder.glob("*/checkpoints/best.pt")
    return [path.read_bytes() for path in sorted(found)]


def manifest(data: bytes, folder: Path) -> None:
    whole = prepared(folder.parent)
    shutil.copytree(whole, folder / whole.name)
    (folder / whole.name / "manifest.json").write_bytes(data)
    dataset = open_dataset(folder / whole.name)
    for name in dataset.splits:
        dataset.sessions(name).support(dataset.num_items)


def prepared(folder: Path) -> Path:
    """A small prepared data set, made once."""
    found = sorted((folder / "prepared").glob("seed-*"))
    if not found:
        (folder / "log.csv").write_bytes(TABLE)
        config = DatasetConfig.of(name="seed", reader="table", **TABULAR, test_days=1.0)
        return prepare(config, PathsConfig(str(folder), str(folder / "prepared"))).folder
    return found[0]


TARGETS["checkpoint"] = Target(checkpoint, checkpoint_seeds)
TARGETS["manifest"] = Target(
    manifest, lambda folder: [(prepared(folder) / "manifest.json").read_bytes()]
)
