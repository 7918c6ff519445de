"""cluster.yaml through Ray's own validation and AWS bootstrap to running instances, against a simulated AWS in this process."""

import base64
import copy
import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from moto import mock_aws

from deploy import aws
from sea_ray.launch.capacity import worker_needs
from sea_ray.launch.compose import compose_experiment

REPO = Path(__file__).resolve().parents[2]
BUCKET, ADDRESS = "a-team-of-ours", "203.0.113.7/32"


@pytest.fixture
def account(monkeypatch, tmp_path):
    """An empty account whose default network exists, as every new account's does; nobody's real keys are looked at."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "none")
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    from ray.autoscaler._private.aws import config, utils

    monkeypatch.setattr("time.sleep", lambda seconds: None)  # Ray waits for IAM to spread
    with mock_aws():
        utils.resource_cache.cache_clear()
        utils.client_cache.cache_clear()
        config._get_subnets_or_die.cache_clear()
        import boto3

        yield lambda service: boto3.client(service, region_name=aws.REGION)
    utils.resource_cache.cache_clear()
    utils.client_cache.cache_clear()


@pytest.fixture
def booted(account):
    """The configuration as the head gets it, and Ray's node provider for it."""
    from ray.autoscaler._private.commands import _bootstrap_config
    from ray.autoscaler._private.providers import _get_node_provider

    config = _bootstrap_config(copy.deepcopy(aws.CLUSTER), no_config_cache=True)  # as `ray up` does, validation included
    return config, _get_node_provider(config["provider"], config["cluster_name"], use_cache=False)


def launched(booted, account, kind):
    """Start one node of a type as Ray does and return what was asked of EC2 and what came of it."""
    from ray.autoscaler.tags import TAG_RAY_NODE_KIND, TAG_RAY_NODE_NAME, TAG_RAY_USER_NODE_TYPE

    config, provider = booted
    role = "head" if kind == config["head_node_type"] else "worker"
    asked = {**config["available_node_types"][kind]["node_config"], **(config["head_node"] if role == "head" else {})}
    (name,) = provider.create_node(asked, {TAG_RAY_NODE_KIND: role, TAG_RAY_USER_NODE_TYPE: kind, TAG_RAY_NODE_NAME: kind}, 1)
    (found,) = account("ec2").describe_instances(InstanceIds=[name])["Reservations"][0]["Instances"]
    return asked, found


def rules(account, group):
    """(protocol, first port, last port, addresses, groups) of everything that a security group lets in."""
    (found,) = account("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"]
    return sorted((rule["IpProtocol"], rule.get("FromPort", -1), rule.get("ToPort", -1),
                   tuple(entry["CidrIp"] for entry in rule["IpRanges"]),
                   tuple(pair["GroupId"] for pair in rule["UserIdGroupPairs"])) for rule in found["IpPermissions"])


def test_the_account_gets_a_closed_bucket_two_narrow_roles_and_a_group_with_ssh_from_one_address(account, capsys):
    for _ in range(2):  # a second time changes nothing
        aws.main(["make", "--bucket", BUCKET, "--ssh-from", ADDRESS])
    public = account("s3").get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
    assert set(public.values()) == {True}
    (group,) = account("ec2").describe_security_groups(Filters=[{"Name": "group-name", "Values": ["sea-ray"]}])["SecurityGroups"]
    assert rules(account, group["GroupId"]) == [("-1", -1, -1, (), (group["GroupId"],)), ("tcp", 22, 22, (ADDRESS,), ())]
    rights = {name: account("iam").get_role_policy(RoleName=name, PolicyName="sea-ray")["PolicyDocument"]["Statement"]
              for name in ("sea-ray-head", "sea-ray-worker")}
    worker = [action for right in rights["sea-ray-worker"] for action in right["Action"]]
    assert all(action.startswith("s3:") for action in worker), "a worker can't start or end machines"
    assert all(BUCKET in right["Resource"] for right in rights["sea-ray-worker"])
    ending = next(right for right in rights["sea-ray-head"] if "ec2:TerminateInstances" in right["Action"])
    assert ending["Condition"] == {"StringEquals": {"ec2:ResourceTag/ray-cluster-name": "sea-ray"}}
    passing = next(right for right in rights["sea-ray-head"] if right["Action"] == "iam:PassRole")
    assert passing["Resource"].endswith(":role/sea-ray-worker"), "not its own, nor another"

    aws.main(["remove"])
    left = [role["RoleName"] for role in account("iam").list_roles()["Roles"]]
    assert not {"sea-ray-head", "sea-ray-worker"} & set(left)
    assert not aws._groups(account("ec2"))
    assert account("s3").list_buckets()["Buckets"], "results stay"


def test_ssh_from_everywhere_is_refused(account):
    with pytest.raises(SystemExit, match="every address"):
        aws.main(["make", "--bucket", BUCKET, "--ssh-from", "0.0.0.0/0"])


@pytest.fixture
def made(account):
    aws.make(BUCKET, ADDRESS)


@pytest.mark.parametrize(("kind", "machine", "market", "role"), [
    ("head", "m6i.xlarge", None, "sea-ray-head"), ("gpu_spot", "g5.xlarge", "spot", "sea-ray-worker"),
    ("gpu_on_demand", "g5.xlarge", None, "sea-ray-worker")])
def test_a_node_of_each_type_starts_as_cluster_yaml_says(made, booted, account, kind, machine, market, role):
    asked, found = launched(booted, account, kind)
    assert found["InstanceType"] == machine
    assert found.get("InstanceLifecycle") == market
    assert found["IamInstanceProfile"]["Arn"].endswith(f":instance-profile/{role}")
    assert {"ray-cluster-name": "sea-ray", "ray-user-node-type": kind}.items() <= {
        tag["Key"]: tag["Value"] for tag in found["Tags"]}.items()
    ec2 = account("ec2")

    def attribute(name):
        return ec2.describe_instance_attribute(InstanceId=found["InstanceId"], Attribute=name)

    assert attribute("instanceInitiatedShutdownBehavior")["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"
    script = base64.b64decode(attribute("userData")["UserData"]["Value"]).decode()
    assert "pgrep -x raylet" in script
    assert "shutdown -h now" in script
    assert asked["ImageId"].startswith("resolve:ssm:/aws/service/")
    assert asked["MetadataOptions"] == {"HttpTokens": "required"}
    (disk,) = asked["BlockDeviceMappings"]
    assert disk["Ebs"]["DeleteOnTermination"]
    (group,) = found["SecurityGroups"]
    assert [(ports, addresses) for _, ports, _, addresses, groups in rules(account, group["GroupId"]) if not groups] == [
        (22, (ADDRESS,))], "SSH from one address, the rest from its own members"


def test_without_a_group_of_its_name_ray_makes_one_that_lets_in_ssh_and_its_own_members_only(booted, account):
    config, _ = booted
    (group,) = {name for kind in config["available_node_types"].values() for name in kind["node_config"]["SecurityGroupIds"]}
    assert [(protocol, first) for protocol, first, _, addresses, groups in rules(account, group) if addresses] == [("tcp", 22)]


def test_ray_asks_for_no_role_of_its_own(made, booted, account):
    """Its default one may do anything with EC2 and every bucket."""
    assert booted[0]["head_node"] == {}
    assert not [role for role in account("iam").list_roles()["Roles"] if role["RoleName"].startswith("ray-autoscaler")]


@pytest.fixture
def refused(monkeypatch):
    """EC2 as it is when a kind of machine has run out; returns what was asked of it."""
    from botocore.exceptions import ClientError
    from ray.autoscaler._private.aws import node_provider

    asked = []

    def refusing(code):
        def make(*arguments, **options):
            ec2 = real(*arguments, **options)
            create = ec2.create_instances

            def create_instances(**request):
                asked.append("spot" if "InstanceMarketOptions" in request else "on demand")
                if asked[-1] == "spot":
                    raise ClientError({"Error": {"Code": code, "Message": "no"}}, "RunInstances")
                return create(**request)

            ec2.create_instances = create_instances
            return ec2

        real = node_provider.make_ec2_resource
        monkeypatch.setattr(node_provider, "make_ec2_resource", make)
        return asked

    return refusing


def test_where_ec2_has_no_spot_machine_the_node_starts_on_demand_and_spot_has_a_rest(made, refused, booted, account):
    from ray.autoscaler._private.providers import _get_node_provider

    config, _ = booted
    asked = refused("InsufficientInstanceCapacity")
    provider = _get_node_provider(config["provider"], config["cluster_name"], use_cache=False)
    for _ in range(2):
        _, found = launched((config, provider), account, "gpu_spot")
        assert found.get("InstanceLifecycle") is None
        assert {"Key": "ray-user-node-type", "Value": "gpu_spot"} in found["Tags"], "as the autoscaler expects it"
    assert asked.index("on demand") >= 4, "all zones were tried before"
    assert asked[asked.index("on demand"):] == ["on demand"] * 2, "and not again at once"


def test_what_is_wrong_with_the_request_itself_is_no_reason_to_pay_more(made, refused, booted, account):
    from ray.autoscaler._private.providers import _get_node_provider
    from ray.autoscaler.node_launch_exception import NodeLaunchException

    config, _ = booted
    asked = refused("UnauthorizedOperation")
    provider = _get_node_provider(config["provider"], config["cluster_name"], use_cache=False)
    with pytest.raises(NodeLaunchException):
        launched((config, provider), account, "gpu_spot")
    assert set(asked) == {"spot"}


def test_the_end_terminates_workers_first_and_the_head_last_and_nothing_of_others(made, booted, account, capsys):
    ids = {kind: launched(booted, account, kind)[1]["InstanceId"] for kind in ("head", "gpu_spot", "gpu_on_demand")}
    ec2 = account("ec2")
    (other,) = ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)["Instances"]
    assert aws.main(["remains"]) == 1
    assert capsys.readouterr().out.count("machine i-") == 3
    assert aws.main(["end", "--workers"]) == 0
    assert ids["head"] not in capsys.readouterr().out
    assert [machine["id"] for machine in aws.machines()] == [ids["head"]]
    ids |= {kind: launched(booted, account, kind)[1]["InstanceId"] for kind in ("gpu_spot", "gpu_on_demand")}
    assert aws.main(["end"]) == 0
    first, second = (line for line in capsys.readouterr().out.splitlines() if line.startswith("terminate"))
    assert set(first.split()[1:]) == {ids["gpu_spot"], ids["gpu_on_demand"]}
    assert second.split()[1:] == [ids["head"]]
    assert aws.main(["remains"]) == 0
    assert "machine" not in capsys.readouterr().out.split("disk")[0]
    (still,) = ec2.describe_instances(InstanceIds=[other["InstanceId"]])["Reservations"][0]["Instances"]
    assert still["State"]["Name"] == "running"


def test_dashboard_is_on_loopback_and_everything_needs_the_token():
    values = yaml.safe_load((REPO / "cluster.yaml").read_text())
    head, worker = values["head_start_ray_commands"][-1], values["worker_start_ray_commands"][-1]
    assert all("ray start" in line for line in (head, worker))
    assert "--dashboard-host=127.0.0.1" in head
    assert "RAY_enable_autoscaler_v2=1" in head
    assert all("RAY_AUTH_MODE=token" in line for line in (head, worker))
    assert values["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("requirements.lock" in line for line in values["setup_commands"])
    assert json.dumps(values).count("0.0.0.0") == 0


@pytest.mark.slow
def test_a_machine_without_ray_ends_itself_after_a_while_and_one_with_ray_does_not(tmp_path):
    """The script of the user data, with minutes of a hundredth of a second and a stand-in for the process list."""
    script = aws.CLUSTER["available_node_types"]["head"]["node_config"]["UserData"]
    (tmp_path / "end").write_text(script.split("SCRIPT'\n")[1].split("SCRIPT\n")[0])
    (tmp_path / "ray").write_text("")
    for name, text in (("pgrep", f"test -e {tmp_path}/ray; code=$?; echo $code >> {tmp_path}/asked; exit $code"),
                       ("shutdown", f"touch {tmp_path}/ended; kill $PPID")):
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    process = subprocess.Popen(["bash", tmp_path / "end"], env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "MINUTE": "0.01"})
    asked = tmp_path / "asked"
    try:
        while not asked.exists() or asked.read_text().count("0") < 60:
            time.sleep(0.05)
        assert not (tmp_path / "ended").exists()
        (tmp_path / "ray").unlink()
        process.wait(60)
    finally:
        process.kill()
    assert (tmp_path / "ended").exists()
    assert asked.read_text().count("1") == 10, "a restart of Ray takes a minute or two"


@pytest.mark.parametrize(("lately_failed", "limits", "starts"), [
    ({}, {}, {"gpu_spot": 3}), ({"gpu_spot": 0.0}, {}, {"gpu_on_demand": 3}),
    ({}, {"gpu_spot": 2}, {"gpu_spot": 2, "gpu_on_demand": 1})], ids=["spot first", "spot never came up", "spot is full"])
def test_autoscaler_two_takes_spot_first_and_on_demand_where_spot_does_not_come_up_or_is_full(lately_failed, limits, starts):
    """Ray's own scheduler, asked for three training workers of conf/cluster/aws.yaml."""
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    cluster = copy.deepcopy(aws.CLUSTER)
    for name, limit in limits.items():
        cluster["available_node_types"][name]["max_workers"] = limit
    config = AutoscalingConfig(cluster, skip_content_hash=True)
    needs = worker_needs(compose_experiment(["experiment=demo", "cluster=aws"]).cluster)
    reply = ResourceDemandScheduler().schedule(SchedulingRequest(
        disable_launch_config_check=True, node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count([ResourceRequestUtil.make(dict(needs))] * 3),
        recoverable_resource_availabilities=lately_failed))
    assert {launch.instance_type: launch.count for launch in reply.to_launch} == starts
