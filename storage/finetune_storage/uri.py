"""The parts of a place's URI."""

from urllib.parse import SplitResult, urlsplit


def split_uri(uri: str) -> SplitResult:
    """Scheme, bucket or claim, and path, still quoted.

    "?" and "#" are characters of keys and folders as any others. `urlsplit` would drop what stands behind them, and
    jobs that differ in that alone would write to one place.
    """
    return urlsplit(uri.replace("?", "%3F").replace("#", "%23"))
