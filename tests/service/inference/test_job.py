from __future__ import annotations

import time

import pytest

from service.errors import ClientGone, DeadlineExceeded
from service.inference.job import Job


def test_an_expired_or_abandoned_job_is_refused() -> None:
    job = Job()
    job.check()
    job.deadline = time.perf_counter()
    with pytest.raises(DeadlineExceeded):
        job.check()
    job.gone = True
    with pytest.raises(ClientGone):
        job.check()
