"""Which way each image comes, and when it is made anew. No image is pulled or built here."""

import subprocess
from pathlib import Path

import pytest

from lab import images
from lab.console import Problem, run, step

TAGS = {
    "mosquitto": "eclipse-mosquitto:2.0.21",
    "telegraf": "telegraf:1.39.3",
    "influxdb": "influxdb:2.9.1",
    "grafana": "grafana/grafana:13.2.3",
    "govee2mqtt": "ghcr.io/wez/govee2mqtt:2026.03.25-ab9deb66",
    "python": "python:3.13.5-slim-trixie",
}


class Engine:
    """Stands for Docker: which images are here (tag -> label dpx.recipe), and what was done."""

    def __init__(self, patch: pytest.MonkeyPatch, *, silent: dict[str, str]) -> None:
        self.here: dict[str, str] = {}
        self.refuses: set[str] = set()
        self.done: list[str] = []
        patch.setattr(images, "versions", lambda: TAGS)
        patch.setattr(images, "unreachable", lambda _: silent)
        patch.setattr(images, "label", lambda tag, _: self.here.get(tag))
        patch.setattr(images, "image_id", lambda tag: f"id of {self.here[tag]}" if tag in self.here else "")
        patch.setattr(images, "pull", self.pull)
        patch.setattr(images, "make_base", lambda: self.make("debian"))
        patch.setattr(images, "build_simulators", lambda: self.make("simulators", "from docker's cache"))
        patch.setattr(images, "build_image", lambda name, _: self.make(name))
        patch.setattr(images, "toolchain", lambda _: {})
        patch.setattr(images, "build_binary", self.compile)

    def make(self, name: str, recipe: str | None = None) -> None:
        self.done.append(f"build {name}")
        self.here[images.tag_of(name)] = recipe or images.recipe(name)

    def pull(self, tag: str) -> str:
        if tag in self.refuses:
            return "denied"
        self.done.append(f"pull {tag}")
        self.here[tag] = ""
        return ""

    def compile(self, name: str) -> Path:
        self.done.append(f"compile {name}")
        return Path(name)


SILENT = {"docker.io": "docker.io: no such host", "ghcr.io": "ghcr.io: no such host"}


def test_without_a_registry_every_image_of_a_site_is_built_or_stood_in_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Engine(monkeypatch, silent=SILENT)
    how = {report.name: report.how for report in images.ensure()}
    assert {tag: how[tag] for tag in TAGS.values()} == {
        "eclipse-mosquitto:2.0.21": "built",
        "telegraf:1.39.3": "built",
        "influxdb:2.9.1": "built",
        "python:3.13.5-slim-trixie": "built",
        "grafana/grafana:13.2.3": "stand-in",
        "ghcr.io/wez/govee2mqtt:2026.03.25-ab9deb66": "stand-in",
    }


def test_a_second_time_nothing_is_compiled_or_built(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, silent=SILENT)
    images.ensure()
    engine.done.clear()
    assert {report.how for report in images.ensure()} == {"cached"}
    # Docker's own cache decides what of the simulators changed.
    assert engine.done == ["build simulators"]


def test_an_image_here_needs_nothing_that_it_once_stood_on(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, silent=SILENT)
    images.ensure(["telegraf"])
    del engine.here["debian:trixie-slim"]
    engine.done.clear()
    images.ensure(["telegraf"])
    assert engine.done == []


def test_where_registries_answer_all_is_pulled_and_only_the_labs_own_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(monkeypatch, silent={})
    images.ensure()
    assert {word for word in engine.done if word.startswith("build")} == {"build box", "build simulators"}
    assert {f"pull {tag}" for tag in TAGS.values()} < set(engine.done)
    engine.done.clear()
    images.ensure()
    assert engine.done == ["build simulators"]


def test_the_real_image_replaces_a_stand_in_once_its_registry_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(monkeypatch, silent=SILENT)
    images.ensure(["grafana"])
    assert engine.here["grafana/grafana:13.2.3"] != ""
    monkeypatch.setattr(images, "unreachable", lambda _: {})
    images.ensure(["grafana"])
    assert engine.here["grafana/grafana:13.2.3"] == ""


def test_what_a_registry_refuses_is_built_and_the_reason_told(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, silent={})
    engine.refuses.add("telegraf:1.39.3")
    report = images.ensure(["telegraf"])[-1]
    assert (report.how, report.note) == ("built", "denied")
    assert "compile telegraf" in engine.done


def test_changed_simulators_renew_what_stands_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, silent=SILENT)
    images.ensure()
    engine.done.clear()
    monkeypatch.setattr(images, "build_simulators", lambda: engine.make("simulators", "another"))
    images.ensure()
    assert engine.done == ["build simulators", "build grafana", "build govee2mqtt"]


def test_another_version_is_another_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, silent=SILENT)
    images.ensure(["telegraf"])
    before = images.recipe("telegraf")
    monkeypatch.setattr(images, "versions", lambda: TAGS | {"telegraf": "telegraf:1.40.0"})
    assert images.recipe("telegraf") != before
    engine.done.clear()
    images.ensure(["telegraf"])
    assert engine.done == ["compile telegraf", "build telegraf"]


def test_a_compiler_that_is_too_old_is_told_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, silent=SILENT)

    def too_old(name: str) -> None:
        raise Problem(f"too old for {name}")

    monkeypatch.setattr(images, "toolchain", too_old)
    monkeypatch.setattr(images, "STATE", Path("/nowhere"))
    with pytest.raises(Problem, match="too old for influxdb"):
        images.ensure()
    assert engine.done == []


def test_an_unknown_name_is_refused_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, silent=SILENT)
    with pytest.raises(Problem, match="telegraph"):
        images.ensure(["mosquitto", "telegraph"])
    assert engine.done == []


def test_a_fingerprint_knows_content_mode_and_name(tmp_path: Path) -> None:
    file = tmp_path / "entrypoint.sh"
    file.write_text("exec")
    seen = {images.fingerprint(tmp_path)}
    file.chmod(0o755)
    seen.add(images.fingerprint(tmp_path))
    file.write_text("exec x")
    seen.add(images.fingerprint(tmp_path))
    file.rename(tmp_path / "entry.sh")
    seen.add(images.fingerprint(tmp_path))
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("tag", "registry", "version"),
    [
        ("telegraf:1.39.3", "docker.io", "1.39.3"),
        ("grafana/grafana:13.2.3", "docker.io", "13.2.3"),
        ("ghcr.io/wez/govee2mqtt:2026.03.25-ab9deb66", "ghcr.io", "2026.03.25"),
        ("localhost:5000/python:3.13.5-slim-trixie", "localhost:5000", "3.13.5"),
    ],
)
def test_a_tag_names_its_registry_and_version(tag: str, registry: str, version: str) -> None:
    assert images.registry_of(tag) == registry
    assert images.version_in(tag) == version


def test_only_a_debian_mirror_is_taken_from_apt() -> None:
    seen = "Debian|Debian-Security|http://one/debian-security/\nDebian|Debian|http://two/debian/\n"
    assert images.debian_mirror(seen) == ["http://two/debian/"]
    assert images.debian_mirror("Ubuntu|Ubuntu|http://three/ubuntu/\nDebian|Debian|cdrom://x/\n") == []


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26)),
        ("cargo 1.85.0 (d73d2caf9 2024-12-31)", (1, 85)),
        ("", (0, 0)),
    ],
)
def test_a_compilers_version_is_read(said: str, number: tuple[int, int]) -> None:
    assert images.version_number(said) == number


def test_the_versions_of_the_repository_name_every_image_that_can_be_built() -> None:
    assert set(images.versions()) == set(images.BASE_OF) - set(images.OUR_OWN)
    assert all(":" in tag and not tag.endswith(":latest") for tag in images.versions().values())


def test_each_image_that_is_built_has_its_dockerfile() -> None:
    missing = [name for name in images.BASE_OF if not (images.IMAGES / name / "Dockerfile").exists()]
    assert missing == []


def test_the_scripts_in_images_are_sound() -> None:
    scripts = [
        path
        for path in images.IMAGES.rglob("*")
        if path.suffix == ".sh" or path.name in ("build", "box-init")
    ]
    assert len(scripts) >= 6
    for script in scripts:
        assert script.stat().st_mode & 0o100, script
        subprocess.run(["bash", "-n", script], check=True)


def test_a_bundle_of_images_that_are_not_here_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Engine(monkeypatch, silent=SILENT)
    with pytest.raises(Problem, match="grafana/grafana"):
        images.bundle(tmp_path / "images.tar")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_command_shows_its_last_lines_and_where_all_of_it_is(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "x.log"
    with pytest.raises(Problem) as caught:
        run(["sh", "-c", "seq 100; exit 3"], log=log, hint="Do that.")
    lines = str(caught.value).splitlines()
    assert "code 3" in lines[0]
    assert lines[-3:] == ["100", f"All of it: {log}", "Do that."]
    assert log.read_text().splitlines()[0] == "1"


def test_a_missing_program_is_named() -> None:
    with pytest.raises(Problem, match="no-such-program"):
        run(["no-such-program"])


def test_a_step_says_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    with step("build x"):
        pass
    with pytest.raises(Problem), step("build y"):
        raise Problem("no")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["..", "ok", "..", "!!"]
    assert "build y: failed" in lines[-1]
