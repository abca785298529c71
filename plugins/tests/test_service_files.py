import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from action import service_files as action
from modules import service_files as module

ME = os.getuid()


def file(path: str, content: str = "text\n", **more: Any) -> module.File:
    return module.File(
        path, content, more.get("mode", 0o644), ME, more.get("reload", False), more.get("secret", False)
    )


class Host(module.Host):
    """The module's host with Docker replaced by `verdict`, the folder that was checked kept in `seen`."""

    def __init__(self, root: Path, verdict: str = "") -> None:
        self.root, self.image, self.has_docker, self.verdict = root, "image:1", True, verdict
        self.module = SimpleNamespace(params={"check": None})
        self.seen: list[str] = []

    def check(self, staged: Path) -> None:
        self.seen = sorted(str(p.relative_to(staged)) for p in staged.rglob("*") if p.is_file())
        if self.verdict:
            raise SystemExit(self.verdict)


def test_files_land_with_mode_and_the_second_time_nothing_differs(tmp_path: Path) -> None:
    host = Host(tmp_path / "svc")
    files = [file("a/conf"), file("secret", mode=0o600)]
    module.apply(host, files, files, [])
    assert host.seen == ["a/conf", "secret"]
    assert (tmp_path / "svc/secret").stat().st_mode & 0o777 == 0o600
    assert [f for f in files if f.differs(host.root / f.path)] == []
    assert list(tmp_path.iterdir()) == [tmp_path / "svc"], "the staged copy is gone"


@pytest.mark.parametrize("change", [{"content": "other\n"}, {"mode": 0o600}])
def test_another_text_or_mode_differs(tmp_path: Path, change: dict[str, Any]) -> None:
    file("conf").place(tmp_path / "conf")
    assert file("conf", **change).differs(tmp_path / "conf")


def test_what_a_check_refuses_never_lands(tmp_path: Path) -> None:
    good = file("conf")
    module.apply(Host(tmp_path / "svc"), [good], [good], [])
    bad = file("conf", "broken\n", reload=True)
    with pytest.raises(SystemExit):
        module.apply(Host(tmp_path / "svc", verdict="no"), [bad], [bad], [])
    assert (tmp_path / "svc/conf").read_text() == "text\n"
    assert not (tmp_path / "svc" / module.RELOAD_MARK).exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "svc"]


def test_a_file_that_is_no_longer_rendered_is_removed_and_a_foreign_one_stays(tmp_path: Path) -> None:
    root = tmp_path / "svc"
    both = [file("old.conf"), file("new.conf")]
    module.apply(Host(root), both, both, [])
    (root / "by-hand").write_text("mine")
    gone = module.stale(root, both[1:])
    assert gone == ["old.conf"]
    module.apply(Host(root), both[1:], [], gone)
    assert not (root / "old.conf").exists()
    assert (root / "by-hand").exists()


def test_a_reload_stays_due_until_it_was_done(tmp_path: Path) -> None:
    host, acl = Host(tmp_path / "svc"), file("acl", reload=True)
    module.apply(host, [acl], [acl], [])
    assert not (host.root / module.RELOAD_MARK).exists(), "the first start reads everything"
    module.apply(host, [acl], [acl], [])
    assert (host.root / module.RELOAD_MARK).exists()


def test_a_diff_shows_text_but_no_secret(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    file("conf", "old\n").place(conf)
    assert "-old\n+new\n" in file("conf", "new\n").diff(conf)["prepared"]
    assert "new\n" not in file("conf", "new\n", secret=True).diff(conf)["prepared"]


def test_the_digest_names_contents_whatever_their_order() -> None:
    assert action.digest({"a": "1", "b": "2"}) == action.digest({"b": "2", "a": "1"})
    assert action.digest({"a": "1"}) != action.digest({"a": "2"})
    assert action.digest({"ab": "c"}) != action.digest({"a": "bc"})


def test_a_source_tree_ships_without_its_tests(tmp_path: Path) -> None:
    for name in ("src/x/__init__.py", "tests/test_x.py", "src/x/__pycache__/y.pyc", "Dockerfile"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert sorted(action.tree(tmp_path)) == ["Dockerfile", "src/x/__init__.py"]


def test_only_a_secret_is_private_and_compose_reads_its_own_files_as_root() -> None:
    entry = action.ActionModule._file
    assert entry("secrets/token", "t", 472, [], ["secrets/token"])["mode"] == 0o600
    assert entry("telegraf.env", "t", 999, [], ["telegraf.env"])["owner"] == 0
    assert json.dumps(entry("conf", "t", 999, ["conf"], []))


def test_units_land_where_systemd_looks(tmp_path: Path) -> None:
    host = Host(tmp_path / "svc")
    assert host.target("units/x.timer") == Path("/etc/systemd/system/x.timer")
    assert host.target("config/x") == tmp_path / "svc/config/x"
