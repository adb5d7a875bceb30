"""The server of examples/serve.py: its answers, and many requests at the same time."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from p_rnn.recommend import Recommender
from tests.recommend.served import (  # skips without the packages of the server
    Job,
    Load,
    Settings,
    Worker,
    check,
    checkpoint,
    click,
    client,
    create_app,
    httpx,
    measure,
    recommender,
    served,
)

__all__ = ["checkpoint", "client", "recommender"]  # fixtures


# --- answers ------------------------------------------------------------------------------------


def test_clicks_give_what_recommend_gives(client: Any, recommender: Recommender) -> None:
    session = ["A-3", "A-5", "A-5", "A-9"]
    for n in range(len(session)):
        answer = click(client, "v", session[n])
        assert answer["read"] is True
        check(answer, recommender, session[: n + 1])
    for how in ({"k": 3}, {"exclude_seen": True}, {"k": 100, "exclude_seen": True}):
        answer = client.get("/sessions/v/top", params=how).json()
        check(answer, recommender, session, **how)
        assert answer["read"] is None
        assert ("A-5" in [each["item"] for each in answer["items"]]) is False or "k" in how


def test_whole_sessions(client: Any, recommender: Recommender) -> None:
    for session in ([], ["A-1"], ["A-1", "nothing", "A-7"]):
        for how in (
            {},
            {"k": 2},
            {"exclude_seen": True, "k": 30},
            {"candidates": ["A-7", "A-8", "A-9"], "exclude_seen": True},
        ):
            answer = client.post("/recommend", json={"session": session, **how}).json()
            check(answer, recommender, session, **how)
    assert "p_rnn_sessions_live 0\n" in client.get("/metrics").text


def test_labels_are_those_of_the_item_table(client: Any) -> None:
    answer = client.post("/recommend", json={"session": [], "k": 100}).json()
    labels = {each["item"]: each["labels"] for each in answer["items"]}
    assert len(labels) == 30
    assert labels["A-6"] == {"size": 1.5}
    assert labels["A-3"] == {"size": None}


def test_unknown_items_are_reported(client: Any, recommender: Recommender) -> None:
    assert click(client, "v", "A-1")["read"] is True
    for item in ("nothing", 7, -(10**30), "\x00", "A" * 200):
        answer = click(client, "v", item)
        assert answer["read"] is False
    check(answer, recommender, ["A-1", "nothing", 7, -(10**30), "\x00", "A" * 200])
    metrics = client.get("/metrics").text
    assert 'p_rnn_clicks_total{read="true"} 1\n' in metrics
    assert 'p_rnn_clicks_total{read="false"} 5\n' in metrics


def test_sessions_side_by_side_and_deleted(client: Any, recommender: Recommender) -> None:
    sessions: dict[str, list[str]] = {"a": [], "b": [], "ein Gast/": []}
    for n in range(12):
        name = list(sessions)[n % 3]
        sessions[name].append(f"A-{n * 7 % 30}")
        if "/" in name:
            response = client.post("/sessions/ein%20Gast%2F/clicks", json={"item": "A-1"})
            assert response.status_code == 404  # a slash is none of an id
            continue
        check(click(client, name, sessions[name][-1]), recommender, sessions[name])
    assert client.delete("/sessions/a").status_code == 204
    assert client.delete("/sessions/a").status_code == 404
    assert client.get("/sessions/a/top").status_code == 404
    check(click(client, "a", "A-2"), recommender, ["A-2"])  # begins anew
    check(client.get("/sessions/b/top").json(), recommender, sessions["b"])


# --- at the same time ---------------------------------------------------------------------------


def together(app: Any, *requests: tuple[str, dict[str, Any]]) -> list[Any]:
    """The responses to POST requests that are sent at the same time, in this order."""

    async def run() -> list[Any]:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as http,
        ):
            return await asyncio.gather(*(http.post(path, json=body) for path, body in requests))

    return asyncio.run(run())


def test_concurrent_clicks_of_a_session_keep_their_order(recommender: Recommender) -> None:
    rng = np.random.default_rng(0)
    sessions = {f"s{n}": [f"A-{k}" for k in rng.integers(0, 33, 6 + n)] for n in range(5)}
    sent = [
        (f"/sessions/{name}/clicks?k={5 + n}", {"item": item})
        for name, session in sessions.items()
        for n, item in enumerate(session)
    ]
    app = create_app(Settings(max_batch=16), recommender)
    answers = iter(together(app, *sent))
    for session in sessions.values():
        for n in range(len(session)):
            check(next(answers).json(), recommender, session[: n + 1], k=5 + n)
    worker = app.state.shared.worker
    assert worker.jobs == len(sent) > 3 * worker.batches


def test_each_of_a_mini_batch_gets_its_own_answer(recommender: Recommender) -> None:
    whole: list[dict[str, Any]] = [
        {"session": ["A-1"], "k": 3},
        {"session": ["A-1", "A-2"], "k": 5, "exclude_seen": True},
        {"session": [], "k": 30, "candidates": ["A-9", "A-8"]},
        {"session": ["A-4"], "k": 1, "candidates": ["A-9", "A-8"]},
        {"session": ["A-4"], "k": 7},
        {"session": ["A-4"], "candidates": ["nothing"]},
    ]
    clicks = [("/sessions/a/clicks?k=2&exclude_seen=1", "A-1"), ("/sessions/b/clicks?k=9", "A-1")]
    app = create_app(Settings(), recommender)
    sent = [("/recommend", body) for body in whole]
    answers = together(app, *sent, *((path, {"item": item}) for path, item in clicks))
    assert app.state.shared.worker.batches == 1
    assert answers[5].status_code == 422
    for body, answer in zip(whole[:5], answers[:5], strict=True):
        how = {key: value for key, value in body.items() if key != "session"}
        check(answer.json(), recommender, body["session"], **how)
    check(answers[6].json(), recommender, ["A-1"], k=2, exclude_seen=True)
    check(answers[7].json(), recommender, ["A-1"], k=9)


def test_too_many_that_wait_are_turned_away(recommender: Recommender) -> None:
    app = create_app(Settings(max_waiting=8, max_batch=4), recommender)
    answers = together(app, *[("/sessions/a/clicks", {"item": "A-1"})] * 30)
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 503}
    counts = [answer.json()["clicks"] for answer in answers if answer.status_code == 200]
    assert counts == list(range(1, statuses.count(200) + 1))
    assert app.state.shared.sessions.get("a").clicks == statuses.count(200)


def test_those_that_wait_are_answered_before_the_end(recommender: Recommender) -> None:
    async def run() -> list[Any]:
        worker = Worker(recommender, Settings(max_batch=3))
        answers = [worker.submit(Job(2, False, ids=["A-1"] * n)) for n in range(10)]
        assert worker.alive
        await worker.stop()
        assert not worker.alive
        return [answer.result() for answer in answers]

    assert [answer.clicks for answer in asyncio.run(run())] == list(range(10))


def test_fifty_clients_over_the_network(recommender: Recommender) -> None:
    with served(recommender) as client:
        measured = asyncio.run(measure(Load(str(client.base_url), clients=50, clicks=8, k=5)))
        worker, metrics = client.app.state.shared.worker, client.get("/metrics").text
    assert not measured.errors
    assert len(measured.times) == 400
    assert "400 clicks in " in str(measured)
    assert worker.jobs == 401
    assert 'p_rnn_clicks_total{read="true"} 400\n' in metrics
    assert "p_rnn_sessions_live 50\n" in metrics
