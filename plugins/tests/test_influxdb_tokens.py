import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from modules import influxdb_tokens as module

OPERATOR = "operator-token"


class Fake(BaseHTTPRequestHandler):
    """The part of InfluxDB's API that is used; tokens are hidden in lists, as in 2.9."""

    bucket: ClassVar[dict[str, Any]]
    tokens: ClassVar[dict[str, dict[str, Any]]]

    def reply(self, code: int, body: Any = None) -> None:
        self.send_response(code)
        self.end_headers()
        if body is not None:
            self.wfile.write(json.dumps(body).encode())

    def allowed(self) -> bool:
        token = self.headers["Authorization"].removeprefix("Token ")
        known = {OPERATOR} | {entry["token"] for entry in self.tokens.values()}
        if token not in known:
            self.reply(401, {"code": "unauthorized"})
        return token in known

    def do_GET(self) -> None:
        if not self.allowed():
            return
        if self.path.startswith("/api/v2/buckets"):
            self.reply(200, {"buckets": [self.bucket]})
        else:
            hidden = [{**entry, "token": ""} for entry in self.tokens.values()]
            self.reply(200, {"authorizations": hidden})

    def do_PATCH(self) -> None:
        if self.allowed():
            self.bucket.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.reply(200, {})

    def do_POST(self) -> None:
        if self.allowed():
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            number = f"{len(self.tokens):02}-{body['description']}"
            self.tokens[number] = body | {"id": number, "token": f"secret-{number}"}
            self.reply(201, self.tokens[number])

    def do_DELETE(self) -> None:
        if self.allowed():
            del self.tokens[self.path.rpartition("/")[2]]
            self.reply(204)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def influx() -> Iterator[module.Influx]:
    Fake.bucket = {"id": "b", "orgID": "o", "retentionRules": [{"everySeconds": 3600}]}
    Fake.tokens = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Fake)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield module.Influx(f"http://127.0.0.1:{server.server_port}", OPERATOR)
    server.shutdown()
    server.server_close()


def params(tmp_path: Path) -> dict[str, Any]:
    wanted = {"telegraf": "write", "grafana": "read"}
    return {
        "organization": "o",
        "bucket": "b",
        "retention_days": 90,
        "directory": tmp_path / "t",
        "tokens": wanted,
    }


def test_first_run_makes_all_second_changes_nothing(influx: module.Influx, tmp_path: Path) -> None:
    changed, tokens = module.ensure(influx, params(tmp_path), dry=False)
    assert changed == ["retention", "token telegraf", "token grafana"]
    assert Fake.bucket["retentionRules"][0]["everySeconds"] == 90 * 86400
    assert (tmp_path / "t/telegraf").read_text() == tokens["telegraf"]
    assert (tmp_path / "t/telegraf").stat().st_mode & 0o777 == 0o600
    assert module.ensure(influx, params(tmp_path), dry=False) == ([], tokens)


def test_a_token_may_do_one_thing_in_one_bucket(influx: module.Influx, tmp_path: Path) -> None:
    module.ensure(influx, params(tmp_path), dry=False)
    allowed = {t["description"]: t["permissions"] for t in Fake.tokens.values()}
    resource = {"type": "buckets", "id": "b", "orgID": "o"}
    assert allowed["telegraf"] == [{"action": "write", "resource": resource}]
    assert allowed["grafana"] == [{"action": "read", "resource": resource}]


@pytest.mark.parametrize("loss", ["file", "server"])
def test_a_lost_token_is_replaced_not_doubled(influx: module.Influx, tmp_path: Path, loss: str) -> None:
    module.ensure(influx, params(tmp_path), dry=False)
    if loss == "file":
        (tmp_path / "t/telegraf").unlink()
    else:
        del Fake.tokens["00-telegraf"]
    changed, tokens = module.ensure(influx, params(tmp_path), dry=False)
    assert changed == ["token telegraf"]
    assert [t["description"] for t in Fake.tokens.values()].count("telegraf") == 1
    assert influx.works(tokens["telegraf"])


def test_check_mode_says_but_does_nothing(influx: module.Influx, tmp_path: Path) -> None:
    changed, _ = module.ensure(influx, params(tmp_path), dry=True)
    assert changed == ["retention", "token telegraf", "token grafana"]
    assert Fake.tokens == {}
    assert not (tmp_path / "t").exists()


def test_a_wrong_operator_token_and_a_dead_database_are_errors(influx: module.Influx, tmp_path: Path) -> None:
    with pytest.raises(module.InfluxError, match="401"):
        module.ensure(module.Influx(influx.url, "wrong"), params(tmp_path), dry=False)
    with pytest.raises(module.InfluxError, match="does not answer"):
        module.ensure(module.Influx("http://127.0.0.1:9", OPERATOR), params(tmp_path), dry=False)
