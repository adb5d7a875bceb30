"""Serve one checkpoint: clicks of live sessions in, the best next items out. See docs/serve.md.

    python examples/serve.py checkpoint=outputs/.../best.pt port=8000
    P_RNN_CHECKPOINT=outputs/.../best.pt uvicorn --app-dir examples --factory serve:app

The event loop owns sessions and counters, one thread the model. Requests reach it through a queue,
and those that wait there become one mini-batch.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import p_rnn
from p_rnn.recommend import Recommender, load
from p_rnn.settings.errors import UserError
from serving.messages import Answer, Click, Health, NoOptions, Options, Problem, SessionId, Whole
from serving.metrics import Metrics
from serving.sessions import Sessions
from serving.settings import Settings, help_of, read_settings
from serving.worker import Job, Worker

api = APIRouter()
Responses = dict[int | str, dict[str, Any]]
PROBLEMS: Responses = {
    413: {"model": Problem, "description": "the body is too large"},
    422: {"model": Problem, "description": "a malformed request, or unknown candidates"},
    503: {"model": Problem, "description": "too many requests wait"},
}
NO_SESSION: Responses = {404: {"model": Problem, "description": "no click so far, or expired"}}
TOO_LONG: Responses = {409: {"model": Problem, "description": "the session has too many clicks"}}
JSON_HEADER = "the header content-type: application/json"
LONGEST = 300  # characters of an error
Clock = Callable[[], float]


class State:
    """What the requests of one server share."""

    def __init__(
        self, recommender: Recommender, settings: Settings, metrics: Metrics, clock: Clock
    ) -> None:
        self.recommender, self.settings, self.metrics = recommender, settings, metrics
        self.sessions = Sessions(settings, clock)
        self.worker = Worker(recommender, settings)


@api.post("/sessions/{name}/clicks", responses=PROBLEMS | TOO_LONG)
async def click(
    name: SessionId, body: Click, options: Annotated[Options, Query()], request: Request
) -> Answer:
    """A click: the session goes on, or begins; returns the best next items."""
    state: State = request.app.state.shared
    visit = state.sessions.open(name)
    if visit.clicks >= state.settings.max_clicks:
        raise HTTPException(409, f"the session has {visit.clicks} clicks, the most; delete it")
    answered = state.worker.submit(Job(options.k, options.exclude_seen, visit, body.item))
    visit.clicks += 1
    answer = await answered
    state.metrics.clicks[bool(answer.read)] += 1
    return answer


@api.get("/sessions/{name}/top", responses=PROBLEMS | NO_SESSION)
async def top(name: SessionId, options: Annotated[Options, Query()], request: Request) -> Answer:
    """The best next items of a session, without a click."""
    state: State = request.app.state.shared
    visit = state.sessions.get(name)
    if visit is None:
        raise HTTPException(404, "no such session: it has no click so far, or has expired")
    return await state.worker.submit(Job(options.k, options.exclude_seen, visit))


@api.delete("/sessions/{name}", status_code=204, responses=NO_SESSION)
async def delete(name: SessionId, request: Request) -> None:
    """Forget a session."""
    state: State = request.app.state.shared
    if not state.sessions.close(name):
        raise HTTPException(404, "no such session: it has no click so far, or has expired")


@api.post("/recommend", responses=PROBLEMS)
async def recommend(
    body: Whole, nothing: Annotated[NoOptions, Query()], request: Request
) -> Answer:
    """The best next items of a whole session; nothing is kept. All of it stands in the body."""
    state: State = request.app.state.shared
    candidates = None if body.candidates is None else tuple(body.candidates)
    job = Job(body.k, body.exclude_seen, ids=body.session, candidates=candidates)
    return await state.worker.submit(job)


@api.get("/health", responses={503: {"model": Health}})
async def health(request: Request, response: Response) -> Health:
    """Whether it answers, and with which model."""
    state: State = request.app.state.shared
    response.status_code = 200 if state.worker.alive else 503
    config = state.recommender.config
    return Health(
        ready=state.worker.alive,
        model=config.model.name,
        dataset=config.dataset.name,
        items=state.recommender.num_items,
    )


@api.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> str:
    """Counters for Prometheus."""
    state: State = request.app.state.shared
    state.sessions.expire()
    return state.metrics.text(
        sessions_live=len(state.sessions),
        sessions_expired_total=state.sessions.expired,
        sessions_dropped_total=state.sessions.dropped,
        batches_total=state.worker.batches,
        batch_requests_total=state.worker.jobs,
    )


class Watch:
    """Around every request: its size, its status and its time."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body: int) -> None:
        self.app, self.metrics, self.max_body = app, metrics, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, size = time.perf_counter(), 500, 0

        async def measured() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.max_body:
                raise HTTPException(413, f"the body has more than {self.max_body} bytes")
            return message

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, measured, noted)
        finally:
            # Routes, not paths, and no methods that a client makes up: there is no end of those.
            route = getattr(scope.get("route"), "path", "other")
            method = "other" if route == "other" or status == 405 else scope["method"]
            self.metrics.request(method, route, status, time.perf_counter() - started)


def create_app(
    settings: Settings, recommender: Recommender, clock: Clock = time.monotonic
) -> FastAPI:
    """The application; `clock` gives seconds, by which sessions expire."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.shared = state = State(recommender, settings, metrics, clock)
        yield
        await state.worker.stop()

    app = FastAPI(
        title="p_rnn",
        version=p_rnn.__version__,
        description=repr(recommender),
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.include_router(api)
    app.add_middleware(Watch, metrics=metrics, max_body=settings.max_body)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        found = [(".".join(map(str, each["loc"])), each["msg"]) for each in error.errors()]
        kind = request.headers.get("content-type", "none")
        if "json" not in kind and any(where.startswith("body") for where, _ in found):
            return problem(422, f"the content-type is {kind}: send {JSON_HEADER}, and JSON")
        return problem(422, "; ".join(f"{where}: {what}" for where, what in found))

    @app.exception_handler(UserError)
    async def refused(request: Request, error: UserError) -> JSONResponse:
        return problem(422, str(error))

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        failed = problem(500, "internal error; the log of the server has more")
        failed.headers["connection"] = "close"  # uvicorn closes it after an error
        return failed

    return app


def problem(status: int, text: str) -> JSONResponse:
    """One line, with no more than a little of what the client sent."""
    line = " ".join(text.split()).encode(errors="replace").decode()
    return JSONResponse(
        {"detail": line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."}, status
    )


def app(words: Sequence[str] = ()) -> FastAPI:
    """For uvicorn's --factory, and for `main`; an error of the user is one line."""
    try:
        settings = read_settings(Settings, words, os.environ)
        if not settings.checkpoint:
            raise UserError("give checkpoint=<best.pt of a run>, or P_RNN_CHECKPOINT")
        recommender = load(settings.checkpoint, settings.device, settings.num_threads)
        recommender.start().top()  # the first time takes longer than others
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    return create_app(settings, recommender)


def main() -> None:
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_of(Settings, sys.argv[0]))
        return
    server = app(sys.argv[1:])
    settings: Settings = server.state.settings
    uvicorn.run(server, host=settings.host, port=settings.port, access_log=False)


if __name__ == "__main__":
    main()
