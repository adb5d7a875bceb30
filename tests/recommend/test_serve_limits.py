"""The server of examples/serve.py: its limits, malformed requests, metrics and settings."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from p_rnn.recommend import Recommender
from p_rnn.settings.errors import UserError
from tests.recommend.served import (  # skips without the packages of the server
    Metrics,
    Settings,
    check,
    checkpoint,
    click,
    client,
    httpx,
    main,
    read_settings,
    recommender,
    served,
)

__all__ = ["checkpoint", "client", "recommender"]  # fixtures


ROOT = Path(__file__).parents[2]
# --- limits -------------------------------------------------------------------------------------


def test_sessions_expire(recommender: Recommender) -> None:
    now = 1000.0
    with served(recommender, lambda: now, ttl=60) as client:
        click(client, "a", "A-1")
        now += 50
        click(client, "b", "A-2")
        now += 11  # 61 s after a
        assert client.get("/sessions/a/top").status_code == 404
        assert client.get("/sessions/b/top").status_code == 200  # a look keeps it, too
        now += 60
        check(click(client, "b", "A-3"), recommender, ["A-2", "A-3"])
        check(click(client, "a", "A-4"), recommender, ["A-4"])
        now += 61
        metrics = client.get("/metrics").text
        assert "p_rnn_sessions_live 0\n" in metrics
        assert "p_rnn_sessions_expired_total 3\n" in metrics


def test_the_session_used_least_recently_is_dropped(recommender: Recommender) -> None:
    with served(recommender, max_sessions=2) as client:
        for name in ("a", "b", "a", "c"):
            click(client, name, "A-1")
        status = {name: client.get(f"/sessions/{name}/top").status_code for name in "abc"}
        assert status == {"a": 200, "b": 404, "c": 200}
        metrics = client.get("/metrics").text
        assert "p_rnn_sessions_live 2\n" in metrics
        assert "p_rnn_sessions_dropped_total 1\n" in metrics


def test_a_session_has_so_many_clicks(recommender: Recommender) -> None:
    with served(recommender, max_clicks=2) as client:
        for _ in range(2):
            click(client, "a", "A-1")
        response = client.post("/sessions/a/clicks", json={"item": "A-1"})
        assert response.status_code == 409
        assert "2 clicks" in response.json()["detail"]
        assert client.get("/sessions/a/top").json()["clicks"] == 2


CLICKS = "/sessions/a/clicks"


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "says"),
    [
        ("POST", CLICKS, b"", 422, "body"),
        ("POST", CLICKS, b"{", 422, "body.1: JSON decode error"),
        ("POST", CLICKS, b"[]", 422, "body"),
        ("POST", CLICKS, b"\xff\xfe\x00", 400, "parsing the body"),
        ("POST", CLICKS, b"[" * 100_000, 400, "parsing the body"),
        ("POST", CLICKS, b'{"item": ' + b"9" * 5000 + b"}", 400, "parsing the body"),
        ("POST", CLICKS, b"{}", 422, "body.item: Field required"),
        ("POST", CLICKS, b'{"item": null}', 422, "body.item"),
        ("POST", CLICKS, b'{"item": true}', 422, "body.item"),
        ("POST", CLICKS, b'{"item": 1.5}', 422, "body.item"),
        ("POST", CLICKS, b'{"item": NaN}', 422, "body.item"),
        ("POST", CLICKS, b'{"item": ["A-1"]}', 422, "body.item"),
        ("POST", CLICKS, b'{"item": ""}', 422, "body.item"),
        ("POST", CLICKS, b'{"item": "\\ud800"}', 422, "body.item"),
        ("POST", CLICKS, b'{"item": "' + b"A" * 201 + b'"}', 422, "body.item"),
        ("POST", CLICKS, b'{"item": "A-1", "time": 5}', 422, "body.time"),
        ("POST", CLICKS, b'{"item": "A-1", "\\udc80": 5}', 422, "body: "),
        ("POST", CLICKS, b'{"item": "A-1", "' + b"t" * 2**17 + b'": 5}', 422, "body.ttt"),
        ("POST", CLICKS, b'{"item": "A-1", "a\\nb": 5}', 422, "body.a b"),
        ("DESTROY", "/health", b"", 405, "Method Not Allowed"),
        ("POST", CLICKS, b'{"item": "' + b"A" * 2**18 + b'"}', 413, "262144 bytes"),
        ("POST", CLICKS + "?k=0", b'{"item": "A-1"}', 422, "query.k: Input should be greater"),
        ("POST", CLICKS + "?k=101", b'{"item": "A-1"}', 422, "query.k"),
        ("POST", CLICKS + "?k=x", b'{"item": "A-1"}', 422, "query.k"),
        ("POST", CLICKS + "?kk=1", b'{"item": "A-1"}', 422, "query.kk"),
        ("POST", CLICKS + "?exclude_seen=2", b'{"item": "A-1"}', 422, "query.exclude_seen"),
        ("POST", f"/sessions/{'a' * 101}/clicks", b'{"item": "A-1"}', 422, "path.name"),
        ("GET", "/sessions/nobody/top", b"", 404, "no such session"),
        ("GET", CLICKS, b"", 405, "Method Not Allowed"),
        ("GET", "/nothing", b"", 404, "Not Found"),
        ("POST", "/recommend", b"{}", 422, "body.session"),
        ("POST", "/recommend", b'{"session": "A-1"}', 422, "body.session"),
        ("POST", "/recommend", b'{"session": [["A-1"]]}', 422, "body.session.0"),
        ("POST", "/recommend?k=1", b'{"session": []}', 422, "query.k: Extra inputs are not"),
        ("POST", "/recommend?exclude_seen=true", b'{"session": []}', 422, "query.exclude_seen"),
        ("POST", "/recommend", b'{"session": [], "k": 0}', 422, "body.k"),
        ("POST", "/recommend", b'{"session": [' + b"1," * 1000 + b"1]}", 422, "body.session"),
        ("POST", "/recommend", b'{"session": [], "candidates": []}', 422, "body.candidates"),
        (
            "POST",
            "/recommend",
            b'{"session": [], "candidates": ["A-1", "no\\nthing"]}',
            422,
            "the model has no such candidates: 'no thing'",
        ),
    ],
)
def test_malformed_requests(
    client: Any, method: str, path: str, content: bytes, status: int, says: str
) -> None:
    headers = {"content-type": "application/json"}
    response = client.request(method, path, content=content, headers=headers)
    assert response.status_code == status, response.text
    detail = response.json()["detail"]
    assert says in detail
    assert "\n" not in detail
    assert len(detail) < 310
    metrics = client.get("/metrics").text
    assert f'status="{status}"}} 1\n' in metrics
    assert "DESTROY" not in metrics
    click(client, "b", "A-1")  # it goes on


def test_json_needs_its_header(client: Any) -> None:
    for headers in ({}, {"content-type": "application/x-www-form-urlencoded"}):
        response = client.post(CLICKS, content=b'{"item": "A-1"}', headers=headers)
        assert response.status_code == 422
        given = headers.get("content-type", "none")
        says = f"the content-type is {given}: send the header content-type: application/json"
        assert says in response.json()["detail"]


def test_help_has_every_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["examples/serve.py", "--help"])
    main()
    said = capsys.readouterr().out
    for name, line in zip(
        [each.name for each in fields(Settings)], said.splitlines()[2:], strict=True
    ):
        assert line.strip().startswith(f"{name}=")
    assert "port=8000" in said


def test_a_load_test_without_a_server_names_the_address() -> None:
    script, url = str(ROOT / "examples" / "load_test.py"), "http://127.0.0.1:9"
    done = subprocess.run(
        [sys.executable, script, f"url={url}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: no server answers at {url} ")
    assert "python examples/serve.py checkpoint=" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_body_in_pieces_without_a_length(client: Any) -> None:
    pieces = (b" " * 2**16 for _ in range(100))
    response = client.post("/recommend", content=pieces)
    assert response.status_code == 413


def test_a_bug_is_one_line_and_the_server_goes_on(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(recommender) as client:
        with monkeypatch.context() as patch:
            patch.setattr(recommender, "top_many", lambda *a: 1 / 0)
            response = client.post(CLICKS, json={"item": "A-1"})
        assert response.status_code == 500
        assert response.json() == {"detail": "internal error; the log of the server has more"}
        click(client, "b", "A-1")
        assert client.get("/health").json()["ready"] is True
        assert 'status="500"} 1\n' in client.get("/metrics").text


# --- health, metrics, pages ---------------------------------------------------------------------


def test_health_and_pages(client: Any) -> None:
    assert client.get("/health").json() == {
        "ready": True,
        "model": "id_only",
        "dataset": "frame",
        "items": 30,
    }
    assert client.get("/docs").status_code == 200
    api = client.get("/openapi.json").json()
    assert {"/recommend", "/sessions/{name}/clicks", "/health"} <= set(api["paths"])
    assert api["components"]["schemas"]["Click"]["properties"]["item"]["examples"] == ["42"]


def test_the_histogram_counts_what_is_at_most_so_long() -> None:
    metrics = Metrics()
    for seconds in (0.0005, 0.001, 0.003, 70.0):
        metrics.request("GET", "/x", 200, seconds)
    lines = metrics.text(sessions_live=3, batches_total=4).splitlines()
    found = {line.split()[0]: float(line.split()[1]) for line in lines if line[0] != "#"}
    bucket = 'p_rnn_request_seconds_bucket{{route="/x",le="{}"}}'
    assert [found[bucket.format(le)] for le in (0.001, 0.002, 0.005, 5.0, "+Inf")] == [
        2,
        2,
        3,
        3,
        4,
    ]
    assert found['p_rnn_request_seconds_count{route="/x"}'] == 4
    assert found['p_rnn_request_seconds_sum{route="/x"}'] == pytest.approx(70.0045)
    assert found['p_rnn_requests_total{method="GET",route="/x",status="200"}'] == 4
    assert "# TYPE p_rnn_sessions_live gauge" in lines
    assert "# TYPE p_rnn_batches_total counter" in lines


# --- settings -----------------------------------------------------------------------------------


def test_settings_from_words_and_the_environment() -> None:
    environ = {"P_RNN_PORT": "81", "P_RNN_TTL": "5", "P_RNN_RAW_DATA": "elsewhere"}
    settings = read_settings(Settings, ["port=82", "checkpoint=a=b.pt"], environ)
    assert settings == Settings(checkpoint="a=b.pt", port=82, ttl=5.0)
    assert read_settings(Settings, ["port=0", "wait_ms=0"], {}) == Settings(port=0, wait_ms=0)
    for words, says in (
        (["chekpoint=a"], "'chekpoint=a' is no setting"),
        (["8000"], "'8000' is no setting"),
        (["port=x"], "port=x must be a number"),
        (["ttl=nan"], "ttl=nan must be larger than 0"),
        (["max_batch=0"], "max_batch=0 must be larger than 0"),
        (["port=-1"], "port=-1 must be larger"),
        (["port=80170"], "port=80170 must be at most 65535"),
    ):
        with pytest.raises(UserError, match=says):
            read_settings(Settings, words, {})


@pytest.mark.parametrize(
    ("words", "says"),
    [([], "give checkpoint="), (["checkpoint=no.pt"], "no.pt"), (["x=1"], "'x=1' is no setting")],
)
def test_a_wrong_start_is_one_line(
    words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("P_RNN_CHECKPOINT", raising=False)
    monkeypatch.setattr(sys, "argv", ["examples/serve.py", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert says in line
    assert line.count("\n") == 1


def test_started_as_a_script_and_stopped(checkpoint: Path) -> None:
    script = str(ROOT / "examples" / "serve.py")
    command = [sys.executable, script, f"checkpoint={checkpoint}", "port=0", "device=cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        lines = []
        for line in server.stderr:
            lines.append(line)
            if "running on" in line:
                break
        address = re.search(r"http://[\d.:]+", lines[-1])
        assert address is not None, lines
        with httpx.Client(base_url=address[0], timeout=60) as client:
            click(client, "a", "A-1")
        server.terminate()
        lines += server.stderr.readlines()
        assert server.wait(60) in (0, -signal.SIGTERM)
    assert "Application shutdown complete" in "".join(lines)
    assert "Traceback" not in "".join(lines)
