"""Settings from a command line of key=value and from the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from p_rnn.settings.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)
MAY_BE_ZERO = ("port", "wait_ms")
HIGHEST = {"port": 65_535}


def about(default: Any, text: str) -> Any:
    """A setting with what --help says of it."""
    return field(default=default, metadata={"about": text})


@dataclass(frozen=True)
class Settings:
    """Of the server; each is given as key=value, or as P_RNN_<KEY> in the environment."""

    checkpoint: str = about("", "best.pt or final.pt of a run, or its folder")
    host: str = about("127.0.0.1", "where it listens; 0.0.0.0 for all addresses")
    port: int = about(8000, "0: any that is free")
    device: str = about("auto", "auto, cpu or cuda")
    num_threads: int = about(1, "of the CPU, for the model")
    ttl: float = about(1800.0, "seconds from its last request until a session expires")
    max_sessions: int = about(100_000, "beyond it, the one used least recently is dropped")
    max_clicks: int = about(1000, "of a session")
    max_body: int = about(2**18, "bytes of a request")
    max_waiting: int = about(1024, "requests in the queue; beyond it, the answer is 503")
    max_batch: int = about(64, "requests of a mini-batch")
    wait_ms: float = about(2.0, "for a mini-batch to fill")


def help_of(kind: type[DataclassInstance], script: str) -> str:
    """What --help prints: every setting with its default."""
    lines = [
        f"  {f'{each.name}={each.default}':<24} {each.metadata.get('about', '')}".rstrip()
        for each in fields(kind)
    ]
    return "\n".join([f"usage: {script} [key=value ...]", "", *lines])


def read_settings(kind: type[T], words: Sequence[str], environ: Mapping[str, str]) -> T:
    """A dataclass of text and numbers from words key=value and, where they lack it, P_RNN_<KEY>.

    Raises:
        UserError: an unknown key, or a value that is no number, too small or too large.
    """
    types: dict[str, Any] = {each.name: type(each.default) for each in fields(kind)}
    given = {key: environ[_name(key)] for key in types if _name(key) in environ}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in types:
            raise UserError(f"'{word}' is no setting; give key=value of {', '.join(types)}")
        given[key] = value
    values: dict[str, Any] = {}
    for key, text in given.items():
        try:
            values[key] = value = types[key](text)
        except ValueError:
            raise UserError(f"{key}={text} must be a number") from None
        if not isinstance(value, str) and not (value > 0 or (value == 0 and key in MAY_BE_ZERO)):
            raise UserError(f"{key}={text} must be larger than 0")
        if key in HIGHEST and values[key] > HIGHEST[key]:
            raise UserError(f"{key}={text} must be at most {HIGHEST[key]}")
    return kind(**values)


def _name(key: str) -> str:
    return f"P_RNN_{key.upper()}"
