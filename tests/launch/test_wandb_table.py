"""A table goes to W&B as a table, offline, as a run of the experiment."""

from sea_ray.launch.wandb_tracker import WandbSettings, WandbTracker


def test_a_table_is_logged_as_one_and_a_part_prefixes_it(tmp_path, monkeypatch):
    import wandb

    logged = {}

    class Run:
        def log(self, figures):
            logged.update(figures)

        def finish(self, exit_code):
            pass

    monkeypatch.setattr(wandb, "init", lambda **_: Run())
    settings = WandbSettings(project="p", group="g", identity="i", folder=tmp_path, config={})
    run = WandbTracker(settings, {}).child("figures")
    run.table("all", ("language", "value"), [("th", 0.5), ("vi", None)])
    run.child("th").table("own", ("value",), [(1.0,)])
    run.finish()
    assert list(logged) == ["all", "th/own"]
    assert isinstance(logged["all"], wandb.Table)
    assert logged["all"].columns == ["language", "value"]
    assert logged["all"].data == [["th", 0.5], ["vi", None]]
