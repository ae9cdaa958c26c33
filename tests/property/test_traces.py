from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aibalance import FormatError, traces

tokens = st.integers(0, 1_000_000_000)
requests = st.lists(
    st.tuples(st.integers(0, 10**9), tokens, tokens, st.lists(st.integers(0, 2**63 - 1), max_size=4)),
    min_size=1,
    max_size=30,
)


def read(data: bytes, **options: object) -> traces.Trace:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace"
        path.write_bytes(data)
        return traces.read(path, **options)  # type: ignore[arg-type]


@given(requests, st.booleans())
def test_what_was_written_is_read_back_in_order_of_time(
    rows: list[tuple[int, int, int, list[int]]], packed: bool
) -> None:
    keys = ("timestamp", "input_length", "output_length", "hash_ids")
    data = "".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows).encode()
    trace = read(gzip.compress(data) if packed else data, spread=False)
    expected = sorted(rows, key=lambda row: row[0])
    first = expected[0][0]
    assert trace.input_tokens.tolist() == [row[1] for row in expected]
    assert trace.output_tokens.tolist() == [row[2] for row in expected]
    assert [trace.blocks(i).tolist() for i in range(len(trace))] == [row[3] for row in expected]
    np.testing.assert_allclose(trace.arrival_s, [(row[0] - first) / 1e3 for row in expected], atol=1e-6)
    assert (trace.reordered == 0) == ([row[0] for row in rows] == [row[0] for row in expected])


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_spreading_keeps_order_and_never_reaches_the_next_group(times: list[int]) -> None:
    data = "".join(f'{{"timestamp": {1000 * t}, "input_length": {t}, "output_length": 0}}\n' for t in times).encode()
    kept, spread = read(data, spread=False), read(data)
    assert (np.diff(spread.arrival_s) >= 0).all()
    assert spread.input_tokens.tolist() == kept.input_tokens.tolist()
    moved = spread.arrival_s - kept.arrival_s
    assert (moved >= 0).all()
    distinct = np.unique(kept.arrival_s)
    following = np.append(distinct[1:], np.inf)[np.searchsorted(distinct, kept.arrival_s)]
    assert (spread.arrival_s < following).all()
    assert len(distinct) == 1 or len(np.unique(spread.arrival_s)) == len(times)


@settings(max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(str.encode),
        st.text(max_size=100).map(lambda text: b"TIMESTAMP,ContextTokens,GeneratedTokens\n" + text.encode()),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["timestamp", "input_length", "output_length", "hash_ids"]), inner, max_size=4
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
        st.binary(max_size=60).map(lambda tail: b"\x1f\x8b\x08\x00" + tail),
    )
)
def test_any_bytes_are_a_trace_or_a_format_error(data: bytes) -> None:
    for form in (None, *traces.FORMATS):
        said = ""
        try:
            trace = read(data, format=form)
        except FormatError as error:
            said = str(error)
        assert "\n" not in said
        if not said:
            assert len(trace) >= 1
            assert trace.arrival_s[0] == 0
