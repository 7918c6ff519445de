"""What W&B says to the key and the entity is heard before anything starts; a W&B that is not reached hinders nothing."""

import time

import pytest
from fake_wandb import KEY, FakeWandb, dropping_proxy

from sea_ray.config import TrackingConfig
from sea_ray.errors import ConfigError
from sea_ray.launch.wandb_access import ANSWER_S, check_access, find_key, resolve_mode


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """No key in the environment or the home."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


@pytest.fixture
def wandb_service(bare):
    fake = FakeWandb(entities=("team", "jakarta-lab"))
    bare.setenv("WANDB_BASE_URL", fake.url)
    bare.setenv("WANDB_API_KEY", KEY)
    yield fake
    fake.close()


def test_auto_is_online_only_with_a_key_for_that_host(bare, tmp_path):
    assert resolve_mode("auto") == "offline"
    (tmp_path / ".netrc").write_text("machine example.org login user password x\n")
    assert resolve_mode("auto") == "offline"
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert (resolve_mode("auto"), find_key()) == ("online", KEY)
    bare.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert resolve_mode("auto") == "offline"
    bare.setenv("WANDB_API_KEY", KEY)
    assert resolve_mode("auto") == "online"
    bare.setenv("WANDB_MODE", "disabled")
    assert resolve_mode("auto") == "disabled"
    assert resolve_mode("offline") == "offline"


def test_online_without_a_key_is_refused_before_anything_starts(bare):
    with pytest.raises(ConfigError, match=r"tracking\.wandb: there is no W&B key for api\.wandb\.ai: set WANDB_API_KEY"):
        check_access(TrackingConfig(wandb="online"))


def test_a_key_that_is_taken_says_whose_project_it_is(wandb_service):
    assert check_access(TrackingConfig()).entity == "team"
    assert check_access(TrackingConfig(entity="jakarta-lab")).entity == "jakarta-lab"


def test_a_refused_key_is_an_error_that_does_not_show_it(wandb_service):
    wandb_service.keys = {"another"}
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1 refuses the W&B key: take a new one") as caught:
        check_access(TrackingConfig())
    assert KEY not in str(caught.value)


def test_an_entity_that_does_not_exist_is_an_error_with_the_nearest(wandb_service):
    with pytest.raises(ConfigError, match=r"tracking\.entity: .* no user or team 'jakarta-lap'; did you mean jakarta-lab\?"):
        check_access(TrackingConfig(entity="jakarta-lap"))


def test_a_proxy_that_drops_everything_costs_seconds_and_is_no_error(bare):
    bare.setenv("WANDB_API_KEY", KEY)
    with dropping_proxy() as (url, taken):
        for name in ("HTTPS_PROXY", "https_proxy"):
            bare.setenv(name, url)
        began = time.monotonic()
        access = check_access(TrackingConfig())
        assert time.monotonic() - began < ANSWER_S + 2
        assert taken, "the proxy was not asked"
    assert access.entity == ""
    assert "api.wandb.ai" in access.problem


def test_an_answer_that_is_none_of_wandbs_counts_as_not_reached(wandb_service, monkeypatch):
    for answer in ((500, {}), (502, {}), (200, ["a page of a hotel's network"]), (200, "login")):
        monkeypatch.setattr(wandb_service, "answer", lambda *_, answer=answer: answer)
        assert check_access(TrackingConfig()).problem
