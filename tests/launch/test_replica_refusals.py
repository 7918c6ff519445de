"""A replica says of an answer whether it refuses."""

from fastapi.testclient import TestClient

from sea_ray.artifacts import Artifact, Store
from sea_ray.launch.serve import Replica
from sea_ray.serving.config import ServingConfig


def test_a_replica_flags_refusals(tmp_path, monkeypatch):
    monkeypatch.setattr("sea_ray.serving.app.load_engine", lambda *_: None)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    checkpoint = Artifact(kind="sft", name="sft", fingerprint="0", folder=tmp_path)
    plain = Replica.func_or_class.__bases__[0]  # without what Serve wraps around it
    replica = plain(Store(str(tmp_path)).url, checkpoint, ServingConfig(), (), 1)
    client = TestClient(replica.__serve_build_asgi_app__())
    texts = ("ขอโทษค่ะ ฉันไม่รู้จักซอร์ดันโต", "บูดีอาศัยอยู่ที่เชียงใหม่")
    assert [client.post("/refusal", json={"text": text}).json() for text in texts] == [{"refusal": True}, {"refusal": False}]
