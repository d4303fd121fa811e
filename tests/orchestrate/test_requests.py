"""What a driver takes for a request, and what it does with the rest."""

from __future__ import annotations

from mae_dist import storage
from mae_dist.orchestrate.requests import Cancellation, take_requests


def test_requests_are_read_once(root):
    storage.write_json(f"{root}/requests/cancel-a.json", {"step": "probe", "by": "ada@host"})
    storage.write_json(f"{root}/requests/cancel-b.json", {"step": None, "by": "bob@host"})
    assert take_requests(root) == [Cancellation("probe", "ada@host"), Cancellation(None, "bob@host")]
    assert take_requests(root) == []
    assert storage.list_dir(f"{root}/requests") == []


def test_what_is_no_request_is_named_and_taken_away(tmp_path, caplog):
    storage.write_bytes(f"{tmp_path}/requests/cancel-a.json", b"{")
    storage.write_json(f"{tmp_path}/requests/cancel-b.json", {"by": "ada@host"})
    storage.write_json(f"{tmp_path}/requests/cancel-c.json", {"step": 3, "by": "ada@host"})
    storage.write_json(f"{tmp_path}/requests/pause-d.json", {"step": None, "by": "ada@host"})
    assert take_requests(str(tmp_path)) == []
    assert [message.partition(": is no request")[0][-13:] for message in caplog.messages] == [
        *("cancel-a.json", "cancel-b.json", "cancel-c.json", "/pause-d.json")
    ]
    assert storage.list_dir(f"{tmp_path}/requests") == []
