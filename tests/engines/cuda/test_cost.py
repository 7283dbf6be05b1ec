"""The cost model: which side it picks, how its estimates grow, and what others measured."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.cuda.capability import STREAM_FORMATS
from gpuzarr.engines.cuda.cost import (
    DOUBT,
    BatchFacts,
    Estimate,
    choose,
    cores_rate,
    estimate,
    host_share,
)
from gpuzarr.engines.cuda.tuning import CODECS, DEFAULTS, SHAPES, STREAM_NBYTES

CASES: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("recorded_cases.json").read_text()
)
NBYTES = st.integers(0, 1 << 40)
COUNTS = st.integers(1, 1 << 20)
SECONDS = st.floats(1e-6, 1e6)


@st.composite
def facts(draw: st.DrawFn) -> BatchFacts:
    decoded = draw(NBYTES)
    return BatchFacts(
        draw(st.sampled_from(CODECS)),
        chunks=draw(COUNTS),
        requests=draw(COUNTS),
        encoded_nbytes=draw(NBYTES),
        decoded_nbytes=decoded,
        largest_stream=draw(st.integers(0, decoded)),
        filters=draw(st.integers(0, 3)),
        threads=draw(st.integers(1, 256)),
    )


@st.composite
def estimates(draw: st.DrawFn) -> Estimate:
    host, device, read = draw(SECONDS), draw(SECONDS), draw(SECONDS)
    return Estimate(host, device, host * draw(st.floats(0.5, 1)), device, read)


def facts_of_case(case: dict[str, Any]) -> BatchFacts:
    codec, chunk = case["codec"], case["chunk_nbytes"]
    return BatchFacts(
        codec,
        chunks=case["chunks"],
        requests=case["chunks"],
        encoded_nbytes=case["encoded_nbytes"],
        decoded_nbytes=case["decoded_nbytes"],
        largest_stream=min(chunk, STREAM_NBYTES.get(codec, chunk)),
        threads=case["cores"],
    )


def test_it_picks_the_faster_side_of_recorded_cases() -> None:
    assert len(CASES) >= 12
    assert {case["faster"] for case in CASES} == {"host", "device"}
    wrong = []
    for case in CASES:
        clear = max(case["cpu_ms"], case["gpu_ms"]) > DOUBT * min(case["cpu_ms"], case["gpu_ms"])
        assert case["source"], case["name"]
        assert case["faster"] == ("host" if case["cpu_ms"] < case["gpu_ms"] else "device")
        found = estimate(facts_of_case(case), DEFAULTS)
        if choose(found) != case["faster"]:
            assert not clear, (case["name"], found)
            wrong.append((case["name"], found))
    assert len(wrong) <= len(CASES) // 10, wrong


def test_its_times_are_of_the_order_of_recorded_ones() -> None:
    """Which side is faster may be right where times are not, and shares would be wrong then."""
    rows = [(case, estimate(facts_of_case(case), DEFAULTS)) for case in CASES]
    ratios = [1e3 * found.host_s / case["cpu_ms"] for case, found in rows]
    ratios += [1e3 * found.device_s / case["gpu_ms"] for case, found in rows]
    near = [ratio for ratio in ratios if 0.2 < ratio < 5]
    assert len(near) >= 0.8 * len(ratios), ratios


@given(facts(), st.sampled_from(["chunks", "decoded_nbytes", "encoded_nbytes", "filters"]))
def test_more_work_never_takes_less_time(batch: BatchFacts, what: str) -> None:
    more = replace(batch, **{what: getattr(batch, what) * 2 + 1})
    less, found = estimate(batch, DEFAULTS), estimate(more, DEFAULTS)
    for each in fields(Estimate):
        assert getattr(found, each.name) >= getattr(less, each.name)


@given(facts())
def test_more_threads_never_take_longer_and_do_no_wonders(batch: BatchFacts) -> None:
    one, many = (estimate(replace(batch, threads=n), DEFAULTS) for n in (1, 64))
    assert many.host_s <= one.host_s
    assert many.device_s == one.device_s
    assert cores_rate(64, DEFAULTS.further_core) <= 64
    single = replace(batch, requests=1)
    assert estimate(replace(single, threads=64), DEFAULTS) == estimate(
        replace(single, threads=1), DEFAULTS
    ), "the chunks of one request are decoded by one thread"


@given(facts())
def test_estimates_are_sound(batch: BatchFacts) -> None:
    found = estimate(batch, DEFAULTS)
    assert 0 < found.host_busy_s <= found.host_s
    assert DEFAULTS.batch_s <= found.device_busy_s <= found.device_s
    assert found.read_s >= 0


@given(estimates())
def test_the_host_is_chosen_only_where_it_is_clearly_faster(found: Estimate) -> None:
    assert (choose(found) == "host") == (DOUBT * found.host_s < found.device_s)


@given(estimates(), st.floats(1, DOUBT))
def test_shares_do_no_harm_where_the_host_is_as_slow_as_may_be(
    found: Estimate, slower: float
) -> None:
    share = host_share(found)
    if choose(found) == "host":
        assert share == 1.0
        return
    assert 0.0 <= share <= 1.0
    host = slower * share * found.host_busy_s
    assert max(host, (1 - share) * found.device_busy_s) <= found.device_busy_s * (1 + 1e-9)


def test_small_ones_go_to_the_host_and_large_ones_to_the_device() -> None:
    for codec in CODECS:
        small = BatchFacts(codec, 1, 1, 1 << 15, 1 << 16, 1 << 16, threads=2)
        assert choose(estimate(small, DEFAULTS)) == "host", codec
        nbytes = 1 << 30
        large = BatchFacts(codec, 4096, 4096, nbytes // 2, nbytes, 1 << 18, threads=16)
        assert choose(estimate(large, DEFAULTS)) == "device", codec


def test_every_format_that_the_device_decodes_has_its_rows() -> None:
    assert set(CODECS) == set(STREAM_FORMATS) == set(DEFAULTS.codecs) == set(SHAPES) - {None}
    assert set(STREAM_NBYTES) <= set(CODECS)
