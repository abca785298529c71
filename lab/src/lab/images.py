"""
Brings every container image of a site onto this machine, under its official name and version.

Where an image registry answers, the official image is pulled. Where none does, the same version of the real
program is built (from source or from Debian) into an image with the official paths, user and variables. What
can be neither pulled nor built is a stand-in from `lab.simulators`, and says so in its label `dpx.standin`.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

from lab import machine
from lab.console import Problem, run, step
from lab.machine import STATE, docker, root

REPO = Path(__file__).parents[3]
IMAGES = REPO / "lab" / "images"
VERSIONS = REPO / "group_vars" / "all" / "versions.yml"
AUTHORITIES = Path("/usr/local/share/ca-certificates")
PROBE_S = 10

# How each image is made where it cannot be pulled: `lab/images/<name>/Dockerfile`, from the image `base`.
BASE_OF = {
    "python": "debian",
    "mosquitto": "debian",
    "telegraf": "debian",
    "influxdb": "debian",
    "box": "debian",
    "simulators": "python",
    "grafana": "simulators",
    "govee2mqtt": "simulators",
}
# Beside the images of a site. No registry has our own two.
LAB_TAGS = {
    "debian": "debian:trixie-slim",
    "box": "dpx-lab/box:latest",
    "simulators": "dpx-lab/simulators:latest",
}
OUR_OWN = ("box", "simulators")
FROM_SOURCE = ("influxdb", "telegraf")  # the longer build first
STAND_INS = {
    "grafana": "Grafana can be neither pulled nor built here: a stand-in that answers its HTTP interface",
    "govee2mqtt": "govee2mqtt can be neither pulled nor built here: a stand-in that plays the Govee cloud",
}
# The oldest that build what is named above; Go fetches a newer one of itself where a program asks for it.
_GO = (1, 21)
_CARGO = (1, 83)


@dataclass(frozen=True)
class ImageReport:
    """How one image came to be here: `pulled`, `built`, `stand-in` or `cached` (was here already)."""

    name: str
    how: str
    seconds: float
    note: str = ""


def versions() -> dict[str, str]:
    """Return the official name with version of each image of a site, by the short name that roles use."""
    text = VERSIONS.read_text() if VERSIONS.exists() else ""
    found = (yaml.safe_load(text) or {}).get("versions_images")
    if not isinstance(found, dict) or not found:
        raise Problem(f"{VERSIONS} names no `versions_images`: restore it from git.")
    return {str(name): str(tag) for name, tag in found.items()}


def tag_of(name: str) -> str:
    """Return the full name of an image, also of the lab's own: `box`, `simulators`, `debian`."""
    return LAB_TAGS.get(name) or versions()[name]


def version_in(tag: str) -> str:
    """Return the bare version in an image's tag: 3.13.5 of `python:3.13.5-slim-trixie`."""
    return tag.rpartition(":")[2].partition("-")[0]


def ensure(names: Sequence[str] | None = None) -> list[ImageReport]:
    """
    Bring the images called `names` (default: all of a site, `box` and `simulators`) onto this machine.

    What they stand on comes along and is reported too. Raises Problem; what is made by then is kept.
    """
    wanted = list(names or [*versions(), "box", "simulators"])
    unknown = [name for name in wanted if name not in {**versions(), **LAB_TAGS}]
    if unknown:
        raise Problem(
            f"No such image: {', '.join(unknown)}. There are {', '.join([*versions(), *LAB_TAGS])}."
        )
    silent = unreachable(wanted)
    with ThreadPoolExecutor(len(FROM_SOURCE)) as pool:
        work = _Work(silent)
        for name in FROM_SOURCE:
            if name in wanted and work.will_build(name):
                if not binary_of(name).exists():
                    toolchain(name)  # a compiler that is too old is told at once
                work.binaries[name] = pool.submit(build_binary, name)
        for name in sorted(wanted, key=lambda name: name in work.binaries):  # what waits for a compiler, last
            work.ensure(name)
    return list(work.reports.values())


@dataclass
class _Work:
    """One run of `ensure`: what is known of the registries, what compiles meanwhile, what is done."""

    silent: Mapping[str, str]  # registry -> why it cannot be used
    binaries: dict[str, Future[Path]] = field(default_factory=dict)
    reports: dict[str, ImageReport] = field(default_factory=dict)

    def ensure(self, name: str) -> None:
        if name in self.reports:
            return
        start, earlier = time.monotonic(), set(self.reports)
        how, note = self._bring(name)
        below = sum(report.seconds for other, report in self.reports.items() if other not in earlier)
        self.reports[name] = ImageReport(tag_of(name), how, time.monotonic() - start - below, note)

    def will_build(self, name: str) -> bool:
        """Say whether this image has to be built now: not to be pulled, and not here from this recipe."""
        made_by = label(tag_of(name), "dpx.recipe")
        return registry_of(tag_of(name)) in self.silent and made_by not in ("", recipe(name))

    def _bring(self, name: str) -> tuple[str, str]:
        """Bring one image by the best way there is; return how, and what the user should know of it."""
        tag, why = tag_of(name), ""
        if name not in OUR_OWN:
            if label(tag, "dpx.recipe") == "":
                return "cached", "pulled earlier"
            why = self.silent.get(registry_of(tag)) or pull(tag)
            if not why:
                return "pulled", ""
        if name == "simulators":
            return self._simulators()
        if BASE_OF.get(name) == "simulators":
            self.ensure("simulators")
        if label(tag, "dpx.recipe") == recipe(name):
            return "cached", STAND_INS.get(name, "")
        if name == "debian":
            make_base()
            return "built", why
        return self._build(name, why)

    def _build(self, name: str, why: str) -> tuple[str, str]:
        self.ensure(BASE_OF[name])
        binary = self.binaries[name].result() if name in self.binaries else None
        if binary is None and name in FROM_SOURCE:
            binary = build_binary(name)
        with step(f"build {tag_of(name)}"):
            build_image(name, binary)
        return ("stand-in", STAND_INS[name]) if name in STAND_INS else ("built", why)

    def _simulators(self) -> tuple[str, str]:
        """Build from the repository as it stands; Docker's own cache knows what changed."""
        self.ensure("python")
        before = image_id(tag_of("simulators"))
        with step("build the simulators"):
            build_simulators()
        return ("cached" if image_id(tag_of("simulators")) == before else "built"), ""


# --- registries -----------------------------------------------------------------------------------------


def registry_of(tag: str) -> str:
    """Return the registry's host in an image's name; Docker's own where the name has none."""
    first, slash, _ = tag.partition("/")
    return first if slash and re.search(r"[.:]|^localhost$", first) else "docker.io"


def unreachable(names: Iterable[str]) -> dict[str, str]:
    """
    Ask each registry for one of these images or of what they stand on, all at once.

    Returns the registries that do not give it, with the reason.
    """
    chain = [*names]
    for name in chain:  # grows while it is walked
        chain += [BASE_OF[name]] if name in BASE_OF else []
    asked = {registry_of(tag_of(name)): tag_of(name) for name in chain if name not in OUR_OWN}
    with ThreadPoolExecutor(8) as pool:
        answers = dict(zip(asked, pool.map(_ask_registry, asked.values()), strict=True))
    return {registry: why for registry, why in answers.items() if why}


def pull(tag: str) -> str:
    """Pull an image; return why it could not be, or "" if it was."""
    try:
        with step(f"pull {tag}"):
            run([*docker(), "pull", tag])
    except Problem as problem:
        return str(problem).splitlines()[-2:][0]  # what Docker said last
    return ""


def _ask_registry(tag: str) -> str:
    try:
        words = [*docker(), "manifest", "inspect", tag]
        done = subprocess.run(words, capture_output=True, text=True, timeout=PROBE_S, check=False)
    except subprocess.TimeoutExpired:
        return f"{registry_of(tag)} does not answer within {PROBE_S} s"
    # The last words of a chain of causes: "no such host", "denied", "manifest unknown".
    return "" if done.returncode == 0 else f"{registry_of(tag)}: {done.stderr.strip().rpartition(': ')[2]}"


# --- recipes: what an image is made from, as one number -------------------------------------------------


def recipe(name: str) -> str:
    """Return the number that changes when anything changes that the image `name` is built from."""
    parts = [fingerprint(IMAGES / name), version_in(tag_of(name))]
    if name in ("debian", "box"):
        parts.append(fingerprint(AUTHORITIES))
    if name == "debian":
        parts[0] = fingerprint(IMAGES / "base")
    elif BASE_OF[name] == "simulators":
        parts.append(image_id(tag_of("simulators")))
    else:
        parts.append(recipe(BASE_OF[name]))
    return _number(parts)


def fingerprint(folder: Path) -> str:
    """Return a number over the names, modes and contents of all files below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return _number(
        f"{path.relative_to(folder)} {os.access(path, os.X_OK)} {_number([path.read_text(errors='replace')])}"
        for path in files
    )


def _number(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def label(tag: str, key: str) -> str | None:
    """Return a label of an image ("" if it has no such label), or None if the image is not here."""
    labels = _inspect(tag, "{{json .Config.Labels}}")
    return None if labels is None else str((json.loads(labels) or {}).get(key, ""))


def image_id(tag: str) -> str:
    """Return the id of an image, or "" if it is not here."""
    return _inspect(tag, "{{.Id}}") or ""


def _inspect(tag: str, what: str) -> str | None:
    words = [*docker(), "image", "inspect", "--format", what, tag]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


# --- building -------------------------------------------------------------------------------------------


def authorities(to: Path) -> None:
    """Copy the authorities that this machine trusts beyond Debian's (often none) to a new folder."""
    if AUTHORITIES.is_dir():
        shutil.copytree(AUTHORITIES, to)
    else:
        to.mkdir()


def make_base() -> None:
    """Make debian:trixie-slim by debootstrap."""
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"  # Ubuntu lacks them
    machine.install({"debootstrap": ["debootstrap"], keys: ["debian-archive-keyring"]})
    with step("build debian:trixie-slim"), tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        tar, trusted = Path(folder, "base.tar"), Path(folder, "ca")
        authorities(trusted)
        run(root(str(IMAGES / "base" / "build"), str(tar), str(trusted), *_mirror()), log=_log("debian"))
        changes = [f"--change=LABEL dpx.recipe={recipe('debian')}", '--change=CMD ["bash"]']
        run([*docker(), "import", *changes, tar, tag_of("debian")])


def _mirror() -> list[str]:
    form = "$(ORIGIN)|$(LABEL)|$(REPO_URI)"
    return debian_mirror(run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"]))


def debian_mirror(targets: str) -> list[str]:
    """Return the Debian mirror in apt's lines `origin|label|address`; none (on Ubuntu): debootstrap's own."""
    found = [line.split("|") for line in targets.splitlines() if line.startswith("Debian|Debian|http")]
    return [found[0][2]] if found else []


def build_image(name: str, binary: Path | None) -> None:
    """Build `lab/images/<name>`, with the program that was compiled for it, under its official name."""
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder, "context")
        shutil.copytree(IMAGES / name, context)
        if binary:
            shutil.copy(binary, context / binary.name.partition("-")[0])
        if name == "box":
            authorities(context / "ca")
        labels = {"dpx.recipe": recipe(name), "dpx.standin": STAND_INS.get(name, "")}
        docker_build(name, context, context / "Dockerfile", labels)


def build_simulators() -> None:
    """Build the simulators' image from the whole repository, without what git and Python leave there."""
    if not (IMAGES / "simulators" / "Dockerfile").exists():
        raise Problem(f"{IMAGES / 'simulators' / 'Dockerfile'} is missing: restore it from git.")
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder, "context")
        shutil.copytree(REPO, context, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info"))
        docker_build("simulators", context, context / "lab" / "images" / "simulators" / "Dockerfile", {})


def docker_build(name: str, context: Path, file: Path, labels: Mapping[str, str]) -> None:
    """Run one `docker build`; the image that it replaces is removed if nothing uses it."""
    tag = tag_of(name)
    before = image_id(tag)
    options = [f"--build-arg=BASE={tag_of(BASE_OF[name])}", f"--build-arg=VERSION={version_in(tag)}"]
    options += [f"--label={key}={value}" for key, value in labels.items() if value]
    run([*docker(), "build", "--tag", tag, "--file", file, *options, context], log=_log(name))
    if before and before != image_id(tag):
        subprocess.run([*docker(), "image", "rm", before], capture_output=True, check=False)


def _log(name: str) -> Path:
    return STATE / "logs" / f"{name}.log"


def binary_of(name: str) -> Path:
    """Return where the compiled program of an image is kept, by its recipe."""
    program = {"influxdb": "influxd"}.get(name, name)
    number = _number([fingerprint(IMAGES / name / "binary"), version_in(tag_of(name))])
    return STATE / "bin" / f"{program}-{number}"


def build_binary(name: str) -> Path:
    """Compile the program of an image, or return the one that was compiled from the same recipe before."""
    binary = binary_of(name)
    if binary.exists():
        return binary
    environment = toolchain(name)
    program, version = binary.name.partition("-")[0], version_in(tag_of(name))
    binary.parent.mkdir(parents=True, exist_ok=True)
    with step(f"compile {name} {version} (minutes; kept for next time)"):
        script = IMAGES / name / "binary" / "build"
        run([script, version, binary], env=environment, log=_log(program))
    for old in binary.parent.glob(f"{program}-*"):
        if old != binary and old.is_file():
            old.unlink()
    return binary


@cache
def toolchain(name: str) -> dict[str, str]:
    """Return the environment in which an image's program compiles; apt brings compilers that are missing."""
    environment = {**os.environ, "PATH": machine.PATH, "GOTOOLCHAIN": "auto"}
    things = {"go": ["golang-go"]}
    oldest = {"go": (["go", "version"], _GO)}
    if name == "influxdb":  # Flux, its query language, is written in Rust
        things |= {"cargo": ["cargo"], "gcc": ["gcc"], "pkg-config": ["pkg-config"]}
        things |= {"/usr/include/stdlib.h": ["libc6-dev"]}
        oldest |= {"cargo": (["cargo", "--version"], _CARGO)}
    machine.install(things)
    for program, (question, least) in oldest.items():
        said = run(question, env=environment)
        if version_number(said) < least:
            needed = ".".join(map(str, least))
            raise Problem(
                f"To build the images {program} has to be {needed} or newer, and here it is {said.strip()}: "
                f"install a newer {program}, or rehearse where an image registry answers."
            )
    return environment


def version_number(said: str) -> tuple[int, int]:
    """Return major and minor version in what a compiler says: (1, 26) of `go version go1.26.8 …`."""
    found = re.search(r"(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


# --- the bundle -----------------------------------------------------------------------------------------


def bundle(path: Path) -> Path:
    """
    Save all images of a site as one archive for `docker load`, as a site without internet gets them.

    Written anew only if an image is another than the last time; the ids stand beside it, in `<path>.ids`.
    """
    ids = {tag: image_id(tag) for tag in sorted(set(versions().values()))}
    missing = [tag for tag, number in ids.items() if not number]
    if missing:
        raise Problem(f"Not on this machine yet: {', '.join(missing)}. Run `python -m lab.images` first.")
    beside = path.with_name(path.name + ".ids")
    text = json.dumps(ids, indent=1)
    if path.exists() and beside.exists() and beside.read_text() == text:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    beside.unlink(missing_ok=True)
    with step(f"save {len(ids)} images to {path}"):
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            words = [*docker(), "save", *ids]
            done = subprocess.run(words, stdout=file, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise Problem(f"Docker cannot save the images to {part}: {done.stderr.strip()}")
        part.replace(path)
        beside.write_text(text)
    return path


def program_of(name: str, program: str, folder: Path) -> Path:
    """Copy a program out of an image, to run it here without a container; return where it is."""
    find = ["run", "--rm", "--entrypoint", "sh", tag_of(name), "-c", f"command -v {program}"]
    inside = run([*docker(), *find]).strip()
    container = run([*docker(), "create", tag_of(name)]).strip()
    try:
        run([*docker(), "cp", "--follow-link", f"{container}:{inside}", folder / program])
    finally:
        run([*docker(), "rm", container])
    return folder / program


def table(reports: Sequence[ImageReport]) -> str:
    """Return the reports as lines for a terminal."""
    width = max(len(report.name) for report in reports)
    return "\n".join(f"{r.name:{width}}  {r.how:8}  {r.seconds:6.1f} s  {r.note}".rstrip() for r in reports)


def main() -> int:
    """Bring the images named on the command line, or all, and print how each came."""
    parser = argparse.ArgumentParser(prog="python -m lab.images", description=main.__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join([*versions(), *LAB_TAGS])}")
    try:
        machine.prepare()
        print(table(ensure(parser.parse_args().names or None)))
    except Problem as problem:
        print(f"\n{problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
