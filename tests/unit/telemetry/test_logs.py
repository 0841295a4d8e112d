import io
import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.telemetry import logs

log = logging.getLogger("edge.test")


@pytest.fixture(autouse=True)
def _root_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level, logging.raiseExceptions
    yield
    for handler in [handler for handler in root.handlers if isinstance(handler, logs.LineHandler)]:
        root.removeHandler(handler)
    root.level, logging.raiseExceptions = before
    logging.captureWarnings(False)


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_a_record_of_text_is_one_line_with_its_extras() -> None:
    stream = io.StringIO()
    logs.set_up("info", "text", stream=stream)
    log.debug("not this")
    log.warning("model %s", "a\nFORGED \x1b[2J", extra={"model": "det", "why": "too slow"})
    (line,) = lines(stream)
    time, rest = line.split(" ", 1)
    assert time.endswith("Z")
    assert len(time) == len("2026-11-20T22:02:00.123Z")
    assert rest == 'WARNING edge.test: model a\\nFORGED \\u001b[2J model=det why="too slow"'


def test_an_extra_that_is_quoted_steers_no_terminal() -> None:
    stream = io.StringIO()
    logs.set_up("info", "text", stream=stream)
    log.warning("refused", extra={"path": "/a \x9b31m\x7f"})
    (line,) = lines(stream)
    assert line.endswith(r'path="/a \u009b31m\u007f"')


def test_a_record_of_json_is_one_object_with_its_exception_as_one_string() -> None:
    stream = io.StringIO()
    logs.set_up("info", "json", stream=stream)
    try:
        raise KeyError("x")
    except KeyError:
        log.exception("broke", extra={"model": "det", "path": Path("/m"), "run_s": float("nan")})
    (line,) = lines(stream)
    record = json.loads(line)
    assert list(record)[:4] == ["time", "level", "logger", "message"]
    assert (record["level"], record["logger"], record["message"]) == ("error", "edge.test", "broke")
    assert (record["model"], record["path"], record["run_s"]) == ("det", "/m", None)
    assert record["exception"].startswith("Traceback")
    assert record["exception"].endswith("KeyError: 'x'")


def test_an_exception_is_one_line_of_text_where_nobody_reads_it_on_a_terminal() -> None:
    stream = io.StringIO()
    logs.set_up("info", "text", stream=stream)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("broke")
    (line,) = lines(stream)
    assert 'exception="Traceback' in line


@pytest.mark.parametrize("form", ["text", "json"])
def test_words_that_cannot_be_encoded_are_logged_all_the_same(form: str, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        handler = logs.set_up("info", "json" if form == "json" else "text", stream=stream)
        log.info("name %s", "\udcff", extra={"key": {1: "\udcff"}})
    assert handler.dropped == 0
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    with open("/dev/full", "w") as full:
        handler = logs.set_up("info", "text", stream=full)
        for _ in range(1000):
            log.info("x" * 100)
    assert handler.dropped == 1000


def test_a_closed_stream_or_a_message_that_cannot_be_formatted_costs_that_line() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        handler = logs.set_up("info", "text", stream=stream)
        log.info("nobody reads")
    log.info("closed")
    assert handler.dropped == 2
    stream2 = io.StringIO()
    handler = logs.set_up("info", "text", stream=stream2)
    log.info("%d", "not a number")
    assert handler.dropped == 1
    assert lines(stream2) == []


@pytest.mark.parametrize("closing", ["2>/dev/full", "2>&-"])
def test_a_process_whose_log_cannot_be_written_ends_well(closing: str) -> None:
    code = "from edge.telemetry import logs; import logging; logs.set_up(); logging.getLogger().error('x'); print('ok')"
    command = ["sh", "-c", f'"$0" -c "$1" {closing}', sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ok\n")


def test_a_line_has_a_bound() -> None:
    stream = io.StringIO()
    logs.set_up("info", "text", stream=stream)
    log.info("x" * (2 * logs.MAX_LINE_CHARS))
    assert len(lines(stream)[0]) == logs.MAX_LINE_CHARS + 1


def test_setting_up_again_replaces_what_was_there() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.set_up("info", "text", stream=first)
    logs.set_up("error", "json", stream=second)
    log.info("quiet")
    log.error("loud")
    assert first.getvalue() == ""
    assert [json.loads(line)["message"] for line in lines(second)] == ["loud"]


@pytest.mark.parametrize(
    ("env", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"NO_COLOR": "", "TERM": "xterm"}, False)],
)
def test_only_a_terminal_that_wants_them_gets_colours(env: dict[str, str], coloured: bool) -> None:
    controller, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stream:
        logs.set_up("info", "text", stream=stream, env=env)
        log.warning("hello")
        seen = os.read(controller, 1000)
    os.close(controller)
    assert (b"\033[" in seen) is coloured


def test_a_pipe_that_nobody_reads_costs_lines_and_no_time() -> None:
    """The write would block, and with it every answer."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as reader, open(writing, "w") as stream:
        handler = logs.set_up(stream=stream)
        for _ in range(200):
            logging.getLogger("x").warning("a" * 5_000)
        assert handler.dropped > 100
        os.set_blocking(reading, False)
        while reader.read(1 << 20):
            pass
        logging.getLogger("x").warning("there is room again")
        *_, last = reader.read(1 << 20).decode().splitlines()
        assert last.endswith("there is room again")
