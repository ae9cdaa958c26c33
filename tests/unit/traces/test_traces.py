from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aibalance import ConfigError, FormatError, traces

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens\r
2023-11-16 23:59:59.9799600,4808,10\r
2023-11-17 00:00:00.0000001,3180,8\r
2023-11-17 00:00:01,110,27\r
"""

MOONCAKE = """{"timestamp": 1000, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}
{"timestamp": 1000, "input_length": 700, "output_length": 6, "hash_ids": [0, 2]}
{"timestamp": 1000, "input_length": 100, "output_length": 7, "hash_ids": []}
{"timestamp": 4000, "input_length": 1500, "output_length": 8, "hash_ids": [0, 1, 3]}
{"timestamp": 7000, "input_length": 10, "output_length": 9, "hash_ids": [4]}
{"timestamp": 7000, "input_length": 20, "output_length": 10, "hash_ids": [5]}
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(text: str | bytes, name: str = "trace.txt", *, packed: bool = False) -> Path:
        data = text.encode() if isinstance(text, str) else text
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if packed else data)
        return path

    return put


def test_azure_keeps_the_hundred_nanosecond_digits_over_midnight(write: Write) -> None:
    trace = traces.read(write(AZURE, "day.csv"))
    assert trace.format == "azure-llm"
    assert trace.name == "day"
    assert trace.arrival_s.tolist() == [0.0, 0.0200401, 1.02004]
    assert trace.input_tokens.tolist() == [4808, 3180, 110]
    assert trace.output_tokens.tolist() == [10, 8, 27]
    assert trace.hash_values is None
    assert trace.blocks(0).size == 0
    assert trace.arrival_s.dtype == np.float64
    assert trace.input_tokens.dtype == np.int64


def test_azure_reads_the_2024_spelling_other_column_orders_and_a_byte_order_mark(write: Write) -> None:
    text = "\ufeffGeneratedTokens,extra,TIMESTAMP,ContextTokens\n7,x,2024-05-10 00:00:00.009930+00:00,5\n"
    trace = traces.read(write(text))
    assert (trace.input_tokens.tolist(), trace.output_tokens.tolist()) == ([5], [7])


@pytest.mark.parametrize("name", ["day.csv.gz", "without-an-ending"])
def test_gzip_is_recognised_by_content_not_by_name(write: Write, name: str) -> None:
    assert len(traces.read(write(AZURE, name, packed=True))) == 3
    assert len(traces.read(write(AZURE, name, packed=False))) == 3


def test_azure_sorts_rows_that_are_out_of_order_and_counts_them(write: Write) -> None:
    text = AZURE + "2023-11-17 00:00:00.5,1,1\n2023-11-17 00:00:01,2,2\n"
    trace = traces.read(write(text))
    assert trace.arrival_s.tolist() == [0.0, 0.0200401, 0.52004, 1.02004, 1.02004]
    assert trace.input_tokens.tolist() == [4808, 3180, 1, 110, 2]
    assert trace.reordered == 1
    assert "1 out of order" in trace.describe()


def test_mooncake_spreads_equal_times_over_the_gap_by_default(write: Write) -> None:
    trace = traces.read(write(MOONCAKE))
    assert trace.format == "mooncake"
    assert trace.arrival_s.tolist() == [0.0, 1.0, 2.0, 3.0, 6.0, 7.5]
    assert trace.spread
    assert "spread" in trace.describe()


def test_mooncake_keeps_the_times_of_the_file_when_asked(write: Write) -> None:
    trace = traces.read(write(MOONCAKE), spread=False)
    assert trace.arrival_s.tolist() == [0.0, 0.0, 0.0, 3.0, 6.0, 6.0]
    assert not trace.spread
    assert trace.describe() == "trace: 6 requests in 6 s"


def test_spreading_never_reaches_over_a_pause(write: Write) -> None:
    times = [0, 0, 1, 2, 3, 3, 3600_000]
    text = "".join(f'{{"timestamp": {t}, "input_length": 1, "output_length": 1}}\n' for t in times)
    trace = traces.read(write(text))
    assert trace.arrival_s.tolist() == [0.0, 0.0005, 0.001, 0.002, 0.003, 0.0035, 3600.0]
    assert trace.hash_values is None


def test_one_instant_cannot_be_spread(write: Write) -> None:
    line = '{"timestamp": 5, "input_length": 1, "output_length": 1}\n'
    trace = traces.read(write(line * 3))
    assert trace.arrival_s.tolist() == [0.0, 0.0, 0.0]
    assert np.isnan(trace.mean_rps)


def test_azure_can_be_spread_too(write: Write) -> None:
    rows = "".join(f"2023-11-16 00:00:0{s},1,1\n" for s in (0, 0, 1, 2))
    path = write("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    assert traces.read(path).arrival_s.tolist() == [0.0, 0.0, 1.0, 2.0]
    assert traces.read(path, spread=True).arrival_s.tolist() == [0.0, 0.5, 1.0, 2.0]


def test_blocks_follow_their_request_through_the_sort(write: Write) -> None:
    lines = MOONCAKE.splitlines(keepends=True)
    trace = traces.read(write("".join([lines[3], *lines[:3], "\n", *lines[4:]])))
    assert [trace.blocks(i).tolist() for i in range(len(trace))] == [[0, 1], [0, 2], [], [0, 1, 3], [4], [5]]
    assert trace.blocks(-1).tolist() == [5]
    assert trace.reordered == 3
    with pytest.raises(IndexError):
        trace.blocks(6)


def test_a_trace_is_read_only_and_pickles(write: Write) -> None:
    trace = traces.read(write(MOONCAKE))
    copy = pickle.loads(pickle.dumps(trace))
    for one in (trace, copy):
        for column in (one.arrival_s, one.input_tokens, one.output_tokens, one.hash_values, one.hash_offsets):
            assert column is not None
            assert not column.flags.writeable
    assert repr(copy) == repr(trace) == "<Trace 'trace' (mooncake): 6 requests in 8 s, 9 prefix blocks>"
    assert copy.arrival_s.tolist() == trace.arrival_s.tolist()


HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
GOOD = "2023-11-16 18:17:03.9799600,4808,10\n"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (HEAD + GOOD + "yesterday,1,1\n", 3, "TIMESTAMP: 'yesterday'; allowed: a time like"),
        (HEAD + "2023-13-16 18:17:03.9,1,1\n", 2, "TIMESTAMP: '2023-13-16"),
        (HEAD + "2023-11-16 18:17:03.1234567890,1,1\n", 2, "TIMESTAMP"),
        (HEAD + GOOD + "2023-11-16 18:17:04,-5,1\n", 3, "ContextTokens: '-5'; allowed: a whole number from 0 to"),
        (HEAD + "2023-11-16 18:17:04,5,nan\n", 2, "GeneratedTokens: 'nan'"),
        (HEAD + "2023-11-16 18:17:04,5,1.5\n", 2, "GeneratedTokens: '1.5'"),
        (HEAD + "2023-11-16 18:17:04,99999999999999999999,1\n", 2, "ContextTokens: '99999999999999999999'"),
        (HEAD + "2023-11-16 18:17:04,5,²\n", 2, "GeneratedTokens: '²'"),
        (HEAD + GOOD + "2023-11-16 18:17:04,5\n", 3, "2 fields; allowed: 3 or more"),
        (HEAD + "\n" + GOOD + '"2023\n', 4, "not CSV"),
        ("TIMESTAMP,ContextTokens\n" + GOOD, 1, "GeneratedTokens must stand there once"),
        ("TIMESTAMP,TIMESTAMP,ContextTokens,GeneratedTokens\n" + GOOD, 1, "TIMESTAMP must stand there once"),
        ("hello\n", 1, "'hello' starts no known trace; allowed: a CSV header with TIMESTAMP"),
        ("{oops\n", 1, "not JSON"),
        ('{"timestamp": 0, "input_length": 1, "output_length": 1}\n[1]\n', 2, "[1]; allowed: one JSON object a line"),
        ('{"input_length": 1, "output_length": 1}\n', 1, "timestamp: missing; allowed: milliseconds"),
        ('{"timestamp": NaN, "input_length": 1, "output_length": 1}\n', 1, "timestamp: nan"),
        ('{"timestamp": -1, "input_length": 1, "output_length": 1}\n', 1, "timestamp: -1"),
        ('{"timestamp": 1e300, "input_length": 1, "output_length": 1}\n', 1, "timestamp: 1e+300"),
        ('{"timestamp": true, "input_length": 1, "output_length": 1}\n', 1, "timestamp: True"),
        ('{"timestamp": 0, "input_length": "9", "output_length": 1}\n', 1, "input_length: '9'"),
        ('{"timestamp": 0, "input_length": 9, "output_length": 1.0}\n', 1, "output_length: 1.0"),
        ('{"timestamp": 0, "input_length": 9}\n', 1, "output_length: missing"),
        ('{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [1, -2]}\n', 1, "hash_ids: -2"),
        ('{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": 7}\n', 1, "hash_ids: 7"),
        (MOONCAKE + '{"timestamp": 0, "input_length": 1, "output_length": 1}\n', 7, "hash_ids: in some lines"),
        ("[" * 100_000, 1, "starts no known trace"),
        ('{"a": ' + "[" * 100_000, 1, "not JSON"),
        ('{"timestamp": ' + "9" * 5_000 + "}", 1, "not JSON"),
    ],
)
def test_a_malformed_line_is_named(write: Write, text: str, line: int, says: str) -> None:
    path = write(text)
    with pytest.raises(FormatError) as caught:
        traces.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {line}: ")
    assert says in message
    assert "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize("text", ["", "\n\n", HEAD, HEAD + "\n"])
def test_an_empty_trace_is_an_error(write: Write, text: str) -> None:
    path = write(text)
    with pytest.raises(FormatError, match="no requests") as caught:
        traces.read(path)
    assert str(path) in str(caught.value)


def test_files_that_are_not_text(write: Write, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="line 2: not UTF-8"):
        traces.read(write(HEAD.encode() + b"\xff\xfe\n"))
    packed = gzip.compress((AZURE + GOOD * 2000).encode())
    with pytest.raises(FormatError, match="damaged gzip"):
        traces.read(write(packed[: len(packed) // 2]))
    with pytest.raises(FormatError, match="damaged gzip"):
        traces.read(write(packed[:20] + b"\x00" * 40))
    with pytest.raises(FormatError, match="cannot be read: No such file"):
        traces.read(tmp_path / "nowhere.csv")
    with pytest.raises(FormatError, match="cannot be read"):
        traces.read(tmp_path)


def test_a_format_that_does_not_fit(write: Write) -> None:
    with pytest.raises(ConfigError, match="format: 'csv' is not one of azure-llm, mooncake"):
        traces.read(write(AZURE), format="csv")
    with pytest.raises(FormatError, match="line 1: not JSON"):
        traces.read(write(AZURE), format="mooncake")
    with pytest.raises(FormatError, match="line 1: header"):
        traces.read(write(MOONCAKE), format="azure-llm")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"arrival_s": np.array([])}, "at least one request"),
        ({"arrival_s": np.array([0.0, np.nan])}, "not finite at index 1"),
        ({"arrival_s": np.array([1.0, 2.0])}, "must start at 0"),
        ({"arrival_s": np.array([0.0, -1.0])}, "falls at index 1"),
        ({"input_tokens": np.array([1])}, "input_tokens: 1 entries, but arrival_s has 2"),
        ({"output_tokens": np.array([1, -1])}, "output_tokens: -1 at index 1"),
        ({"output_tokens": np.array([1.5, 2.5])}, "output_tokens: must be"),
        ({"output_tokens": np.array([[1, 2]])}, "output_tokens: must be"),
        ({"hash_values": np.array([1])}, "give both or neither"),
        ({"hash_values": np.array([1]), "hash_offsets": np.array([0, 1])}, "hash_offsets: must be 3 rising"),
        ({"hash_values": np.array([1, 2]), "hash_offsets": np.array([0, 3, 2])}, "hash_offsets: must be 3 rising"),
    ],
)
def test_a_trace_of_ones_own_is_checked(change: dict[str, np.ndarray], says: str) -> None:
    fields: dict[str, Any] = {
        "arrival_s": np.array([0.0, 1.0]),
        "input_tokens": np.array([1, 2]),
        "output_tokens": np.array([1, 2]),
    }
    with pytest.raises(ConfigError, match=says):
        traces.Trace("mine", "made up", **(fields | change))


SHARED = Path(__file__).parents[4] / "shared" / "traces"


@pytest.mark.parametrize(
    ("name", "requests", "span_s", "input_mean", "output_mean"),
    [
        ("azure_llm_2023_code.csv.gz", 8_819, 3_436, 2_048, 27.9),
        ("azure_llm_2023_conv.csv.gz", 19_366, 3_502, 1_155, 211),
        ("mooncake_fast25_conversation.jsonl.gz", 12_031, 3_537, 12_035, 343),
        ("mooncake_fast25_synthetic.jsonl.gz", 3_993, 1_022, 15_325, 149),
    ],
)
def test_the_real_traces(name: str, requests: int, span_s: float, input_mean: float, output_mean: float) -> None:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{name} is not in ../shared/traces: the real traces are not shipped")
    trace = traces.read(path, spread=False)
    assert len(trace) == requests
    assert trace.duration_s == pytest.approx(span_s, abs=1)
    assert trace.input_tokens.mean() == pytest.approx(input_mean, rel=0.002)
    assert trace.output_tokens.mean() == pytest.approx(output_mean, rel=0.003)
    assert trace.reordered == 0
    spread = traces.read(path, spread=True)
    assert (np.diff(spread.arrival_s) >= 0).all()
    assert spread.duration_s == pytest.approx(span_s, abs=4)
    if name == "mooncake_fast25_conversation.jsonl.gz":
        assert len(np.unique(trace.arrival_s)) == 1_180
        assert len(np.unique(spread.arrival_s)) == requests
        assert trace.hash_values is not None
        assert (len(trace.hash_values), len(np.unique(trace.hash_values))) == (288_500, 182_790)
