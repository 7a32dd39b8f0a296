"""Retry policy of steps: outages are tried again, errors of data or configuration are not."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from cloud_assets.errors import CloudAssetsError, SourceUnreachable, TrackingUnavailable

RETRIES = dg.RetryPolicy(max_retries=3, delay=3, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""Three more tries after about 3, 6 and 12 seconds, scattered so that steps do not all come back at once."""

_OUTAGES = (SourceUnreachable, TrackingUnavailable)


@contextmanager
def only_outages_are_retried() -> Iterator[None]:
    """Takes care that an error which another try would meet again ends the step at once.

    Raises:
        Failure: In place of such an error, which is its cause.
    """
    try:
        yield
    except _OUTAGES:
        raise
    except CloudAssetsError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
