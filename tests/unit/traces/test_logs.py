"""Logs of your own: CSV with named columns, nginx's and Envoy's access logs."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from aibalance import ConfigError, FormatError
from aibalance.traces import ENVOY_DEFAULT, NGINX_COMBINED, read_access_log, read_csv

NGINX = '10.0.0.1 - - [31/Jan/2025:12:00:0{s} +0100] "GET /a?x=\\"y\\" HTTP/1.1" 200 {size} "-" "curl/8 (x; y)"\n'
ENVOY = (
    '[2025-01-31T12:00:00.{ms:03d}Z] "POST /v1/chat HTTP/2" 200 - 10 20 {took} 30 "-" "agent one" '
    '"0f3a" "api.example.com" "10.1.0.{host}:8000"\n'
)


def file(tmp_path: Path, text: str, name: str = "a.log") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_with_named_columns(tmp_path: Path) -> None:
    path = file(tmp_path, "\ufeffwho,at,took,in,out\nx,1500,20,7,1\n\ny,1000,10,5,2\nz,2000.5,0,0,0\n", "mine.csv")
    trace = read_csv(
        path, time="at", duration="took", input_tokens="in", output_tokens="out", time_unit="ms", duration_unit="ms"
    )
    assert trace.name == "mine"
    assert trace.arrival_s.tolist() == pytest.approx([0.0, 0.5, 1.0005])
    assert trace.input_tokens.tolist() == [5, 7, 0]
    assert trace.output_tokens.tolist() == [2, 1, 0]
    assert trace.reordered == 1
    assert trace.service_s is not None
    assert trace.service_s.tolist() == pytest.approx([0.01, 0.02, 0.0])
    plain = read_csv(path, time="at")
    assert plain.service_s is None
    assert plain.duration_s == pytest.approx(1000.5)
    assert plain.input_tokens.tolist() == [0, 0, 0]


def test_csv_with_iso_times_and_another_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "b.csv.gz"
    path.write_bytes(
        gzip.compress(b"t;n\n2025-01-31T12:00:00Z;1\n2025-01-31T12:00:01.5;2\n2025-01-31T14:00:03+02:00;3\n")
    )
    trace = read_csv(path, time="t", input_tokens="n", delimiter=";")
    assert trace.arrival_s.tolist() == pytest.approx([0.0, 1.5, 3.0])
    assert trace.input_tokens.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no requests"),
        ("at\n", "no requests"),
        ("when\n1\n", "line 1: time: column 'at'"),
        ("at,at\n1,1\n", "line 1"),
        ("at\nsoon\n", "line 2: at: 'soon'"),
        ("at\nnan\n", "line 2: at"),
        ("at\n1e300\n", "line 2: at"),
        ("n,at\n-1,1\n", None),
        ('at\n"1\n', "not CSV"),
    ],
)
def test_csv_that_cannot_be_read(tmp_path: Path, text: str, what: str | None) -> None:
    path = file(tmp_path, text)
    if what is None:
        with pytest.raises(FormatError, match="line 2: n: '-1'; allowed: a whole number"):
            read_csv(path, time="at", input_tokens="n")
    else:
        with pytest.raises(FormatError, match=what):
            read_csv(path, time="at")


def test_csv_parameters(tmp_path: Path) -> None:
    path = file(tmp_path, "at\n1\n")
    with pytest.raises(ConfigError, match="time_unit"):
        read_csv(path, time="at", time_unit="hours")
    with pytest.raises(ConfigError, match="delimiter"):
        read_csv(path, time="at", delimiter="")


def test_nginx_combined(tmp_path: Path) -> None:
    lines = [NGINX.format(s=s, size=size) for s, size in ((0, 1), (0, 2), (3, 3))]
    log = read_access_log(file(tmp_path, "".join([*lines, "rubbish\n"])), log_format=NGINX_COMBINED)
    # Whole seconds: two in one second are spread within it.
    assert log.arrival_s.tolist() == pytest.approx([0.0, 0.5, 3.25])
    assert log.columns["body_bytes_sent"] == ("1", "2", "3")
    assert log.columns["http_user_agent"][0] == "curl/8 (x; y)"
    assert log.columns["request"][0] == 'GET /a?x=\\"y\\" HTTP/1.1'
    assert (log.skipped, log.service_s) == (1, None)
    assert len(log.trace()) == 3


def test_nginx_with_durations_takes_them_off(tmp_path: Path) -> None:
    text = "100.500 200 0.500 0.100, 0.300\n101.000 500 0.250 -\n"
    path = file(tmp_path, text)
    form = "$msec $status $request_time $upstream_response_time"
    log = read_access_log(path, log_format=form)
    assert log.arrival_s.tolist() == pytest.approx([0.0, 0.75])
    assert log.service_s is not None
    assert log.service_s.tolist() == pytest.approx([0.5, 0.25])
    upstream = read_access_log(path, log_format=form, duration="upstream_response_time").service_s
    assert upstream is not None
    assert upstream.tolist() == pytest.approx([0.4, 0.0])


def test_envoy(tmp_path: Path) -> None:
    path = file(tmp_path, "".join(ENVOY.format(ms=ms, took=took, host=ms % 3) for ms, took in ((500, 40), (10, 30))))
    log = read_access_log(path, log_format=ENVOY_DEFAULT)
    assert log.arrival_s.tolist() == pytest.approx([0.0, 0.49])
    assert log.service_s is not None
    assert log.service_s.tolist() == pytest.approx([0.03, 0.04])
    assert log.columns["UPSTREAM_HOST"] == ("10.1.0.1:8000", "10.1.0.2:8000")
    assert log.columns["authority"] == ("api.example.com",) * 2


def test_logs_that_are_something_else(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="2 of 2 lines"):
        read_access_log(file(tmp_path, "a\nb\n"))
    with pytest.raises(FormatError, match="no requests"):
        read_access_log(file(tmp_path, "\n"))
    with pytest.raises(ConfigError, match="no time"):
        read_access_log(file(tmp_path, "a\n"), log_format="$status")
    with pytest.raises(ConfigError, match="log_format"):
        read_access_log(file(tmp_path, "a\n"), log_format="plain")
    with pytest.raises(ConfigError, match="duration"):
        read_access_log(file(tmp_path, "a\n"), log_format="$msec", duration="request_time")


def test_equal_seconds_keep_their_order(tmp_path: Path) -> None:
    text = "".join(NGINX.format(s=1, size=i) for i in range(10))
    log = read_access_log(file(tmp_path, text))
    assert np.diff(log.arrival_s).tolist() == pytest.approx([0.1] * 9)
    assert log.columns["body_bytes_sent"] == tuple(map(str, range(10)))
