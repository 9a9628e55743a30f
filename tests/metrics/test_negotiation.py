from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cgwatch.metrics.negotiation import CONTENT_TYPES, Format, choose_format, wants_gzip

# Captured from Prometheus 2.42.0, as it is and with --enable-feature=native-histograms.
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_2_HISTOGRAMS = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
    "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
# Prometheus 3: what acceptHeader in its scrape.go makes of the default scrape_protocols (3.5), and with
# PrometheusProto first (3.0).
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_HISTOGRAMS = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
# Prometheus 3 with scrape_protocols: [PrometheusText1.0.0, PrometheusText0.0.4, OpenMetricsText1.0.0].
PROMETHEUS_3_TEXT_FIRST = (
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,"
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.3"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    "accept",
    [
        PROMETHEUS_2,
        PROMETHEUS_2_HISTOGRAMS,
        PROMETHEUS_3,
        PROMETHEUS_3_HISTOGRAMS,
        "application/openmetrics-text",
        "Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8",
        'application/openmetrics-text; version="1.0.0"',
        "text/plain;q=0.2, application/openmetrics-text;q=0.3",
        "text/plain, application/openmetrics-text",
        "text/plain;q=0.1, */*;q=0.9, application/openmetrics-text;q=0.5",
        "text/plain;q=0, application/openmetrics-text;q=0.001",
        "text/plain;q=much, application/openmetrics-text;q=.5",
    ],
)
def test_who_ranks_openmetrics_highest_gets_it(accept: str) -> None:
    assert choose_format(accept) is Format.OPENMETRICS


@pytest.mark.parametrize(
    "accept",
    [
        PROMETHEUS_3_TEXT_FIRST,
        BROWSER,
        "*/*",
        "text/*",
        "text/plain",
        "text/plain;version=0.0.4",
        "application/*",
        "application/openmetrics-text;q=0.3, text/plain;q=0.5",
        "application/openmetrics-text;q=0.3, */*;q=0.5",
        "application/openmetrics-text;q=0.3, text/plain;version=0.0.4;q=0.5, text/plain;q=0.1",
    ],
)
def test_who_ranks_text_highest_gets_text(accept: str) -> None:
    assert choose_format(accept) is Format.TEXT


@pytest.mark.parametrize(
    "accept",
    [
        "",
        ",;,=;q,",
        "image/png",
        "application/vnd.google.protobuf",
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;q=2",
        "application/openmetrics-text;q=nan",
        "application/openmetrics-text;q=-1",
        "application/openmetrics-text;version=0.0.1",
        "application/openmetrics-text;version=2.0.0",
        "text/plain;version=1.0.0",
        "text/plain;q=0, application/openmetrics-text;q=0",
    ],
)
def test_who_names_nothing_that_we_have_gets_text_as_the_last_resort(accept: str) -> None:
    assert choose_format(accept) is Format.TEXT


def test_a_header_of_64_kib_is_read_to_its_end() -> None:
    noise = "application/json;q=0.1," * 2848
    assert len(noise) > 65_000
    assert choose_format(noise + "application/openmetrics-text") is Format.OPENMETRICS


@given(st.text())
@example("application/openmetrics-text;q=\u0661")
@example("text/plain;q=1" + "0" * 400)
def test_any_accept_header_gives_a_format(accept: str) -> None:
    assert choose_format(accept) in CONTENT_TYPES


@given(
    st.lists(
        st.sampled_from(["text/plain", "application/openmetrics-text", "*/*", "a/b"]).flatmap(
            lambda name: st.integers(0, 1000).map(lambda quality: f"{name};q={quality / 1000:.3f}")
        )
    )
)
def test_the_order_of_an_accept_header_does_not_matter(elements: list[str]) -> None:
    assert choose_format(",".join(elements)) is choose_format(",".join(reversed(elements)))


@pytest.mark.parametrize(
    "accept_encoding",
    [
        "gzip",
        "GZIP",
        "deflate, gzip;q=1.0, *;q=0.5",
        "gzip, deflate, br, zstd",
        "*",
        "identity;q=0.5, gzip;q=0.5",
        "identity;q=0, *",
    ],
)
def test_who_takes_gzip_gets_gzip(accept_encoding: str) -> None:
    assert wants_gzip(accept_encoding)


@pytest.mark.parametrize(
    "accept_encoding",
    [
        "",
        "identity",
        "gzip;q=0",
        "gzip;q=0.000, *",
        "*;q=0",
        "br",
        "gzip;q=0.5, identity",
        "gzip;q=high",
        "xgzip",
    ],
)
def test_who_does_not_take_gzip_or_likes_it_less_gets_the_page_as_it_is(accept_encoding: str) -> None:
    assert not wants_gzip(accept_encoding)


@given(st.text())
def test_any_accept_encoding_header_gives_an_answer(accept_encoding: str) -> None:
    assert wants_gzip(accept_encoding) in {True, False}
