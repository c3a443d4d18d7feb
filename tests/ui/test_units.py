import pytest

from selfee_cli.ui.units import byte_text, count_text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (512, "512 bytes"), (3_090_064, "3.1 MB"), (26_031_000_000, "26.0 GB")],
)
def test_bytes(count: int, text: str) -> None:
    assert byte_text(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(7, "7"), (1_542_016, "1.5 M"), (6_738_423_808, "6.7 B"), (999_999, "1.0 M")],
)
def test_counts(count: int, text: str) -> None:
    assert count_text(count) == text
