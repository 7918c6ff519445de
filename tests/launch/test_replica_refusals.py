"""A replica says of an answer whether it refuses."""

from fastapi.testclient import TestClient

from sea_ray.launch.serve import Replica
from sea_ray.serving.app import build_app
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.models import Models


def test_a_replica_flags_refusals(monkeypatch):
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    plain = Replica.func_or_class.__bases__[0]  # without what Serve wraps around it
    door = plain(ServingConfig()).__serve_build_asgi_app__()
    monkeypatch.setattr("sea_ray.serving.door.check_answers", lambda *_: None)
    door.bring("nothing", lambda: Models([]))
    door.switch("nothing")
    client = TestClient(door)
    texts = ("ขอโทษค่ะ ฉันไม่รู้จักซอร์ดันโต", "บูดีอาศัยอยู่ที่เชียงใหม่")
    assert [client.post("/refusal", json={"text": text}).json() for text in texts] == [{"refusal": True}, {"refusal": False}]


def test_without_a_detector_there_is_no_such_route():
    client = TestClient(build_app(Models([]), [], ServingConfig()))
    assert client.post("/refusal", json={"text": "a"}).status_code in (404, 405)
