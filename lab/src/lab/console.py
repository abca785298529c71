"""What the person at the terminal sees: each long step, and each failure as one sentence."""

import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_LAST_LINES = 15
_one_line_at_a_time = threading.Lock()  # steps may run side by side


class Problem(Exception):  # noqa: N818  it is a message for the user, and reads so where it is raised
    """One clear sentence for the user: what happened, where, and what to do."""


def say(text: str) -> None:
    """Print one line at once, whole, from whichever thread."""
    with _one_line_at_a_time:
        print(text, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say that a long step starts, and how many seconds it took or that it failed."""
    say(f"  .. {title}")
    start = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"  !! {title}: failed after {time.monotonic() - start:.0f} s")
        raise
    say(f"  ok {title}: {time.monotonic() - start:.1f} s")


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    hint: str = "",
) -> str:
    """
    Run a program and return its standard output and errors as one text.

    On failure a Problem names the command, shows its last lines and the path of the whole output (`log`, or a
    temporary file); `hint` says what the user can do.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise Problem(f"The program {words[0]!r} is not on this machine. {hint}".rstrip()) from error
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(done.stdout)
    if done.returncode:
        raise Problem(_failure(words, done.returncode, done.stdout, log, hint))
    return done.stdout


def _failure(words: list[str], code: int, output: str, log: Path | None, hint: str) -> str:
    """Word the failure of a program, with the end of what it said."""
    if log is None:
        with tempfile.NamedTemporaryFile("w", prefix="dpx-", suffix=".log", delete=False) as file:
            file.write(output)
        log = Path(file.name)
    shown = " ".join(words)
    shown = shown if len(shown) <= 200 else shown[:200] + " ..."  # noqa: PLR2004  a line or two of a terminal
    lines = [f"`{shown}` ended with code {code}.", *output.splitlines()[-_LAST_LINES:], f"All of it: {log}"]
    return "\n".join([*lines, hint] if hint else lines)
