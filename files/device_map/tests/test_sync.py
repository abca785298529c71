import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from device_map import api
from device_map import sync as sync_module
from device_map.sources import SourceError
from device_map.sync import Paths, sync

SOURCE = Path(sync_module.__file__).parents[1]


MAC = "A4C138000001"
SENSOR = {"id": "A4:C1:38:00:00:01", "name": "stage_left", "room": "stage", "model": "H5075"}
APP = [
    {"sku": "H5075", "id": "19:54:A4:C1:38:00:00:01", "name": "Stage Left", "room": None, "state": None},
    {"sku": "H5179", "id": "17:A8:D0:03:C1:06:19:76", "name": "Ice Truck", "room": "Catering Tent"},
]


class FakeGovee:
    """Answers `GET /api/devices` with `body`; `answer` may be replaced to misbehave."""

    def __init__(self) -> None:
        self.body = json.dumps(APP).encode()
        self.answer: Callable[[BaseHTTPRequestHandler], None] = self.well
        self.asked: list[str] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.asked.append(self.path)
                fake.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def well(self, request: BaseHTTPRequestHandler, announced: int | None = None) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(announced or len(self.body)))
        request.end_headers()
        request.wfile.write(self.body)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def govee() -> Iterator[FakeGovee]:
    fake = FakeGovee()
    yield fake
    fake.close()


def names(site: Paths) -> dict[str, dict[str, str]]:
    return json.loads((site.out / "devices.json").read_text())  # type: ignore[no-any-return]


def with_reload(site: Paths, script: str) -> Paths:
    return replace(site, reload=("sh", "-c", script))


def command(site: Paths, *more: str) -> list[str]:
    arguments = ["--inventory", site.inventory, "--overrides", site.overrides, "--out", site.out]
    arguments += ["--state", site.state, "--api", site.api_url or "none", *more]
    return [sys.executable, "-m", "device_map", "sync", *map(str, arguments)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE)}


def test_first_run_writes_both_files_for_all_readers(site: Paths, govee: FakeGovee) -> None:
    mask = os.umask(0o077)
    status = sync(replace(site, api_url=govee.url))
    os.umask(mask)
    assert (status.error, status.api, status.changed) == (None, "ok", ["models.json", "devices.json"])
    assert govee.asked == ["/api/devices"]
    assert names(site) == {
        MAC: {"device_name": "stage_left", "room": "stage"},
        "1954A4C138000001": {"device_name": "stage_left", "room": "stage", "z_device_id": MAC},
        "A4C138000002": {"device_name": "foh", "room": "foh"},
        "33FA4381ECA1010A": {"device_name": "foh", "room": "foh", "z_device_id": "A4C138000002"},
        "17A8D003C1061976": {"device_name": "ice_truck", "room": "catering_tent"},
    }
    models = json.loads((site.out / "models.json").read_text())
    assert models == {MAC: "H5075", "A4C138000002": "H5074"}
    for name in ("devices.json", "models.json"):
        assert stat.S_IMODE((site.out / name).stat().st_mode) == 0o644
    assert {path.name for path in site.out.iterdir()} == {"devices.json", "models.json"}


def test_a_second_run_changes_and_reloads_nothing(site: Paths, govee: FakeGovee, tmp_path: Path) -> None:
    site = with_reload(replace(site, api_url=govee.url), f"echo x >> {tmp_path}/reloads")
    assert sync(site).reloaded
    before = [(site.out / name).stat() for name in ("devices.json", "models.json")]
    again = sync(site)
    assert (again.changed, again.reloaded, again.error) == ([], False, None)
    after = [(site.out / name).stat() for name in ("devices.json", "models.json")]
    assert [(s.st_ino, s.st_mtime_ns) for s in after] == [(s.st_ino, s.st_mtime_ns) for s in before]
    assert (tmp_path / "reloads").read_text() == "x\n"


def test_a_rename_takes_effect_before_the_reload(site: Paths, tmp_path: Path) -> None:
    site = with_reload(site, f"cp {site.out}/devices.json {tmp_path}/seen")
    sync(site)
    site.overrides.write_text(json.dumps({MAC: {"name": "stage_right"}}))
    status = sync(site)
    assert (status.changed, status.reloaded) == (["devices.json"], True)
    assert json.loads((tmp_path / "seen").read_text())[MAC]["device_name"] == "stage_right"
    site.overrides.unlink()
    sync(site)
    assert names(site)[MAC]["device_name"] == "stage_left"


def test_a_model_alone_needs_no_reload(site: Paths) -> None:
    site = with_reload(site, "true")
    sync(site)
    site.overrides.write_text(json.dumps({MAC: {"model": "H5179"}}))
    status = sync(site)
    assert (status.changed, status.reloaded) == (["models.json"], False)


def cut_off(fake: FakeGovee) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda request: fake.well(request, announced=len(fake.body) + 10)


def endless(_: FakeGovee) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                request.wfile.write(b" " * 1_000_000)
        except OSError:
            pass

    return answer


def status_500(_: FakeGovee) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda request: request.send_error(500)


def body(content: bytes) -> Callable[[FakeGovee], Callable[[BaseHTTPRequestHandler], None]]:
    def misbehave(fake: FakeGovee) -> Callable[[BaseHTTPRequestHandler], None]:
        fake.body = content
        return fake.well

    return misbehave


@pytest.mark.parametrize(
    ("misbehave", "reason"),
    [
        (body(b"[]"), "lists no device"),
        (body(b"<html>starting</html>"), "not valid JSON"),
        (body(b'{"code":500}'), "no list of devices"),
        (body(b'[{"id": 5}]'), "without the known fields"),
        (body(json.dumps(APP).encode()[:-5]), "not valid JSON"),
        (body(b""), "not valid JSON"),
        (cut_off, "cut off"),
        (endless, "more than 5000000 bytes"),
        (status_500, "500"),
    ],
)
def test_a_failed_api_call_takes_nothing_away(
    site: Paths,
    govee: FakeGovee,
    misbehave: Callable[[FakeGovee], Callable[[BaseHTTPRequestHandler], None]],
    reason: str,
) -> None:
    site = replace(site, api_url=govee.url)
    sync(site)
    before = names(site)
    govee.answer = misbehave(govee)
    status = sync(site)
    assert (status.error, status.api, status.changed) == (None, "kept", [])
    assert reason in str(status.api_error)
    assert govee.url in str(status.api_error)
    assert names(site) == before
    assert json.loads((site.state / "status.json").read_text())["api"] == "kept"


def test_names_can_be_changed_while_the_api_is_down(site: Paths, govee: FakeGovee) -> None:
    site = replace(site, api_url=govee.url)
    sync(site)
    govee.close()
    site.overrides.write_text(json.dumps({MAC: {"name": "stage_right"}}))
    status = sync(site)
    assert (status.error, status.api, status.changed) == (None, "kept", ["devices.json"])
    assert names(site)["1954A4C138000001"]["device_name"] == "stage_right"
    assert names(site)["17A8D003C1061976"]["device_name"] == "ice_truck"


def test_a_silent_and_a_dripping_api_are_given_up(govee: FakeGovee) -> None:
    over = threading.Event()

    def silent(_: BaseHTTPRequestHandler) -> None:
        over.wait(30)

    def dripping(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            for _ in range(100):
                request.wfile.write(b" ")
                over.wait(0.02)
        except OSError:
            pass

    for answer, reason in ((silent, "timed out"), (dripping, "took too long")):
        govee.answer = answer
        with pytest.raises(SourceError, match=reason):
            api.fetch(govee.url, timeout_s=0.3)
    over.set()


def test_a_host_proxy_is_not_used(govee: FakeGovee, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert len(api.fetch(govee.url + "/api/devices")) == 2


def test_first_run_without_api_writes_what_is_known(site: Paths) -> None:
    status = sync(replace(site, api_url="http://127.0.0.1:9"))
    assert (status.error, status.api) == (None, "kept")
    assert set(names(site)) == {MAC, "A4C138000002", "33FA4381ECA1010A"}


def test_a_device_gone_from_the_app_leaves_the_map(site: Paths, govee: FakeGovee) -> None:
    site = replace(site, api_url=govee.url)
    sync(site)
    govee.body = json.dumps(APP[:1]).encode()
    assert sync(site).changed == ["devices.json"]
    assert "17A8D003C1061976" not in names(site)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("inventory.json", "[]", "no source knows a device"),
        ("inventory.json", "[{", "not valid JSON"),
        ("inventory.json", None, "cannot be read"),
        ("inventory.json", json.dumps([SENSOR, SENSOR]), "listed twice"),
        ("overrides.json", "", "not valid JSON"),
        ("overrides.json", '{"nonsense": {}}', "no MAC"),
        ("overrides.json", json.dumps({MAC: {"name": "foh"}}), "both be named"),
    ],
)
def test_a_wrong_file_leaves_the_last_good_map(
    site: Paths, file: str, text: str | None, message: str
) -> None:
    sync(site)
    before, models = names(site), (site.out / "models.json").read_text()
    path = site.inventory.with_name(file)
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_text(text)
    done = subprocess.run(
        command(site, "--json"), env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert message in json.loads(done.stdout)["error"]
    assert message in done.stderr
    assert (names(site), (site.out / "models.json").read_text()) == (before, models)
    assert message in json.loads((site.state / "status.json").read_text())["error"]


def test_unreadable_memory_of_the_cloud_does_not_lose_its_devices(site: Paths, govee: FakeGovee) -> None:
    site = replace(site, api_url=govee.url)
    sync(site)
    before = names(site)
    (site.state / "cloud.json").write_text("[{")
    govee.answer = status_500(govee)
    assert "Start govee2mqtt, or delete the file" in str(sync(site).error)
    assert names(site) == before
    govee.answer = govee.well
    assert sync(site).error is None


def test_an_emptied_inventory_leaves_the_decoder_its_models(site: Paths, govee: FakeGovee) -> None:
    site = replace(site, api_url=govee.url)
    sync(site)
    site.inventory.write_text("[]")
    assert sync(site).changed == ["devices.json"]
    assert len(json.loads((site.out / "models.json").read_text())) == 2


def test_a_run_killed_during_the_reload_is_finished_by_the_next(site: Paths, tmp_path: Path) -> None:
    killed = subprocess.run(
        command(site, "--reload", "sh", "-c", "kill -9 $PPID"), env=ENVIRONMENT, check=False
    )
    assert killed.returncode == -9
    assert MAC in names(site)
    site = with_reload(site, f"echo x >> {tmp_path}/reloads")
    status = sync(site)
    assert (status.changed, status.reloaded, status.reload_pending) == ([], True, False)
    assert not sync(site).reloaded
    assert (tmp_path / "reloads").read_text() == "x\n"


def test_a_run_cut_off_at_any_write_is_finished_by_the_next(
    site: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut before the n-th rename for each n: the map is old or new and whole, and the next run reloads."""
    sync(site)
    original, cuts = Path.replace, 0
    for number in range(10):
        site.overrides.write_text(json.dumps({MAC: {"name": f"name{number}", "model": f"H{number}"}}))
        calls = 0

        def cut(path: Path, target: Path, last: int = number) -> Path:
            nonlocal calls
            calls += 1
            if calls > last:
                raise KeyboardInterrupt
            return original(path, target)

        seen = tmp_path / f"seen{number}"
        here = with_reload(site, f"cp {site.out}/devices.json {seen}")
        monkeypatch.setattr(Path, "replace", cut)
        try:
            sync(here)
        except KeyboardInterrupt:
            cuts += 1
        monkeypatch.setattr(Path, "replace", original)
        assert names(site)[MAC]["device_name"] in {
            f"name{number}",
            f"name{number - 1}",
            "stage_left",
        }
        assert sync(here).error is None
        assert json.loads(seen.read_text())[MAC]["device_name"] == f"name{number}"
    assert 4 <= cuts < 10


def test_a_failed_reload_is_said_and_tried_again(site: Paths, tmp_path: Path) -> None:
    failed = sync(with_reload(site, "echo no such container >&2; exit 1"))
    assert "no such container" in str(failed.error)
    assert (failed.reload_pending, failed.reloaded) == (True, False)
    # Telegraf still down: names can be changed all the same.
    site.overrides.write_text(json.dumps({MAC: {"name": "stage_right"}}))
    assert sync(replace(site, reload=("/no/such/program",))).error
    assert names(site)[MAC]["device_name"] == "stage_right"
    last = sync(with_reload(site, f"echo x >> {tmp_path}/reloads"))
    assert (last.error, last.reloaded, last.reload_pending) == (None, True, False)


def test_a_pending_reload_does_not_wait_for_good_sources(site: Paths) -> None:
    sync(with_reload(site, "exit 1"))
    site.inventory.write_text("{")
    status = sync(with_reload(site, "true"))
    assert (status.reloaded, status.reload_pending) == (True, False)
    assert status.error


def test_a_full_disk_leaves_the_old_map(site: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    sync(site)
    before = names(site)
    site.overrides.write_text(json.dumps({MAC: {"name": "stage_right"}}))

    def full(path: Path, target: Path) -> Path:
        if target.name == "devices.json":
            raise OSError(28, "No space left on device")
        return original(path, target)

    original = Path.replace
    monkeypatch.setattr(Path, "replace", full)
    assert "No space left" in str(sync(site).error)
    assert names(site) == before
    assert not list(site.out.glob(".*"))


def test_runs_at_once_make_one_change_and_one_reload(site: Paths, tmp_path: Path) -> None:
    reload = ["--json", "--reload", "sh", "-c", f"sleep 1; echo x >> {tmp_path}/reloads"]
    runs = [
        subprocess.Popen(command(site, *reload), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    results = [json.loads(run.communicate(timeout=60)[0]) for run in runs]
    assert sorted(bool(result["changed"]) for result in results) == [False] * 4 + [True]
    assert (tmp_path / "reloads").read_text() == "x\n"


def test_a_reader_never_sees_half_a_map(site: Paths) -> None:
    sync(site)
    stop, bad = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                json.loads((site.out / "devices.json").read_text())
            except (OSError, ValueError) as error:
                bad.append(error)
            time.sleep(0)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(20):
        site.overrides.write_text(json.dumps({MAC: {"name": f"name{number}"}}))
        sync(site)
    stop.set()
    reader.join()
    assert not bad
