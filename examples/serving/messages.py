"""What goes in and out as JSON."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

ItemId = StrictInt | Annotated[StrictStr, Field(min_length=1, max_length=200)]
SessionId = Annotated[str, Path(max_length=100, examples=["visitor-1"])]


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    k: int = Field(20, ge=1, le=100, description="how many items")
    exclude_seen: bool = Field(False, description="leave out the items of the session")


class NoOptions(BaseModel):
    """Of a request whose options stand in its body."""

    model_config = ConfigDict(extra="forbid")


class Click(BaseModel):
    model_config = ConfigDict(extra="forbid")
    item: ItemId = Field(description="raw item id", examples=["42"])


class Whole(Options):
    session: list[ItemId] = Field(
        max_length=1000, description="raw item ids, oldest first", examples=[["42", "7"]]
    )
    candidates: list[ItemId] | None = Field(
        None, min_length=1, max_length=10_000, description="choose from these only", examples=[None]
    )


class Item(BaseModel):
    item: int | str
    score: float
    labels: dict[str, Any] = Field(description="what the item table says of it")


class Answer(BaseModel):
    items: list[Item] = Field(description="best first")
    clicks: int = Field(description="of the session, skipped ones included")
    skipped: list[int | str] = Field(description="those that the model cannot read")
    read: bool | None = Field(None, description="whether the model could read this click")


class Health(BaseModel):
    ready: bool
    model: str
    dataset: str
    items: int = Field(description="those that it can recommend")


class Problem(BaseModel):
    detail: str = Field(description="one line")
