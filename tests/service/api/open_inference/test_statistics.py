from __future__ import annotations

from pathlib import Path

from service.api.context import RequestContext
from service.api.open_inference.statistics import Statistics


def request(images: int, status: int = 200) -> RequestContext:
    found = RequestContext()
    found.was_read("mnist-mlp@2", images)
    found.queue, found.compute = 0.25, 0.5
    found.was_answered(status, 0)
    return found


def test_workers_that_share_a_directory_say_the_same(tmp_path: Path) -> None:
    one, other = Statistics(tmp_path), Statistics(tmp_path)
    one.add("a.encoder", "2", request(3))
    other.add("a.encoder", "2", request(4))
    other.add("a.encoder", "2", request(1, status=500))
    other.add("a.encoder", "1", request(9))
    asked = [("a.encoder", "2"), ("a.decoder", "2")]
    assert one.documents(asked) == other.documents(asked)
    encoder, decoder = one.documents(asked)
    assert (encoder["inference_count"], encoder["execution_count"]) == (7, 2)
    times = encoder["inference_stats"]
    assert isinstance(times, dict)
    assert (times["queue"], times["compute_infer"]) == (
        {"count": 2, "ns": 500_000_000},
        {"count": 2, "ns": 10**9},
    )
    assert times["fail"]["count"] == 1
    assert (decoder["inference_count"], decoder["last_inference"]) == (0, 0)


def test_more_models_than_there_is_room_for_are_not_counted() -> None:
    statistics, names = Statistics(), [f"model-{number}.encoder" for number in range(5000)]
    for name in names:
        statistics.add(name, "1", request(1))
    counts = [document["inference_count"] for document in statistics.documents([(name, "1") for name in names])]
    assert set(counts[:1500]) == {1}
    assert counts[-1] == 0
