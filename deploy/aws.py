"""An AWS account's part of the cluster of cluster.yaml: made before `ray up`, looked at and removed after `ray down`.

    python -m deploy.aws make --bucket BUCKET --ssh-from 203.0.113.7/32
    python -m deploy.aws end       # every machine of the cluster, the head last; from a laptop or from the head itself
    python -m deploy.aws remains   # what of it still bills; exits with 1 if a machine does
    python -m deploy.aws remove    # roles and security group; the bucket stays, it holds the results
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.exceptions import ClientError

CLUSTER = yaml.safe_load((Path(__file__).parents[1] / "cluster.yaml").read_text(encoding="utf-8"))
NAME, REGION = CLUSTER["cluster_name"], CLUSTER["provider"]["region"]
GROUP = CLUSTER["provider"]["security_group"]["GroupName"]
HEAD, WORKER = (CLUSTER["available_node_types"][kind]["node_config"]["IamInstanceProfile"]["Name"]
                for kind in ("head", "gpu_spot"))
BILLED = ["pending", "running", "stopping", "stopped"]
"""States of an instance in which it, or its disk, is paid for."""


def bucket_rights(bucket: str) -> list[dict[str, Any]]:
    """Return what every node may do: read and write one bucket."""
    return [{"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetBucketLocation"], "Resource": f"arn:aws:s3:::{bucket}"},
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
             "Resource": f"arn:aws:s3:::{bucket}/*"}]


def head_rights(account: str) -> list[dict[str, Any]]:
    """Return what the autoscaler on the head may do: start and name machines, give workers their role, end its own cluster's."""
    return [{"Effect": "Allow", "Action": ["ec2:RunInstances", "ec2:CreateTags", "ec2:Describe*"], "Resource": "*"},
            {"Effect": "Allow", "Action": ["ec2:TerminateInstances", "ec2:DeleteTags"], "Resource": "*",
             "Condition": {"StringEquals": {"ec2:ResourceTag/ray-cluster-name": NAME}}},
            {"Effect": "Allow", "Action": "ssm:GetParameters", "Resource": "arn:aws:ssm:*::parameter/aws/service/*"},
            {"Effect": "Allow", "Action": "iam:PassRole", "Resource": f"arn:aws:iam::{account}:role/{WORKER}"}]


def make(bucket: str, ssh_from: str) -> None:
    """Make bucket, roles and security group; what is there already stays.

    Args:
        bucket: name; nobody else in the world may have it.
        ssh_from: CIDR of the addresses that may open SSH connections.
    """
    if ssh_from.endswith("/0"):
        sys.exit(f"--ssh-from {ssh_from} is every address there is: name yours, such as $(curl -s https://checkip.amazonaws.com)/32")
    s3 = boto3.client("s3", region_name=REGION)
    where = {} if REGION == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
    with _there("BucketAlreadyOwnedByYou"):
        s3.create_bucket(Bucket=bucket, **where)
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(
        ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True))
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [
        {"ID": "half uploads", "Status": "Enabled", "Filter": {}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2}}]})
    account = boto3.client("sts", region_name=REGION).get_caller_identity()["Account"]
    _role(HEAD, head_rights(account) + bucket_rights(bucket))
    _role(WORKER, bucket_rights(bucket))
    with _there("InvalidInput", "EntityAlreadyExists"):  # the account's first spot request needs it
        boto3.client("iam").create_service_linked_role(AWSServiceName="spot.amazonaws.com")
    _security_group(ssh_from)
    print(f"bucket {bucket}, roles {HEAD} and {WORKER}, security group {GROUP} (SSH from {ssh_from}) in {REGION}")


def _role(name: str, rights: list[dict[str, Any]]) -> None:
    iam = boto3.client("iam")
    trust = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
    with _there("EntityAlreadyExists"):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
    iam.put_role_policy(RoleName=name, PolicyName="sea-ray",
                        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": rights}))
    with _there("EntityAlreadyExists"):
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


def _security_group(ssh_from: str) -> None:
    ec2 = boto3.client("ec2", region_name=REGION)
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    found = _groups(ec2)
    group = found[0] if found else ec2.create_security_group(
        GroupName=GROUP, Description="sea_ray: SSH, and the cluster's own nodes", VpcId=vpc)["GroupId"]
    for rule in ({"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": ssh_from}]},
                 {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}):
        with _there("InvalidPermission.Duplicate"):
            ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])


def _groups(ec2: Any) -> list[str]:
    found = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [GROUP]}])
    return [group["GroupId"] for group in found["SecurityGroups"]]


@contextmanager
def _there(*codes: str) -> Iterator[None]:
    """Pass over an AWS error of these codes: what is to be made is there, or what is to be removed is not."""
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise


def machines() -> list[dict[str, Any]]:
    """Return the cluster's instances that are still paid for, the head last."""
    pages = boto3.client("ec2", region_name=REGION).get_paginator("describe_instances").paginate(Filters=[
        {"Name": "tag:ray-cluster-name", "Values": [NAME]}, {"Name": "instance-state-name", "Values": BILLED}])
    found = [{"id": instance["InstanceId"], "type": instance["InstanceType"], "state": instance["State"]["Name"],
              "kind": {tag["Key"]: tag["Value"] for tag in instance["Tags"]}.get("ray-node-type", "")}
             for page in pages for reservation in page["Reservations"] for instance in reservation["Instances"]]
    return sorted(found, key=lambda machine: machine["kind"] == "head")


def end(*, head: bool = True) -> None:
    """Terminate every machine of the cluster, the head last, since that may be the one that this runs on.

    Args:
        head: whether it goes, too.
    """
    ec2 = boto3.client("ec2", region_name=REGION)
    found = machines()
    for heads in (False, True)[:1 + head]:
        if chosen := [machine["id"] for machine in found if (machine["kind"] == "head") is heads]:
            print("terminate", *chosen, flush=True)
            ec2.terminate_instances(InstanceIds=chosen)


def remains() -> int:
    """Print what still bills and return how many machines do."""
    found = machines()
    for machine in found:
        print("machine", *machine.values())
    volumes = boto3.client("ec2", region_name=REGION).describe_volumes(Filters=[{"Name": "status", "Values": ["available"]}])
    for volume in volumes["Volumes"]:
        print("disk of no machine", volume["VolumeId"], volume["Size"], "GB (anybody's in this account and region)")
    for bucket in boto3.client("s3", region_name=REGION).list_buckets()["Buckets"]:
        print("bucket", bucket["Name"], "(what it holds bills by the month)")
    return len(found)


def remove() -> None:
    """Remove roles and security group."""
    iam, ec2 = boto3.client("iam"), boto3.client("ec2", region_name=REGION)
    for name in (HEAD, WORKER):
        with _there("NoSuchEntity"):
            iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name)
            iam.delete_instance_profile(InstanceProfileName=name)
        with _there("NoSuchEntity"):
            iam.delete_role_policy(RoleName=name, PolicyName="sea-ray")
            iam.delete_role(RoleName=name)
    for group in _groups(ec2):
        ec2.delete_security_group(GroupId=group)


def main(arguments: list[str] | None = None) -> int:
    """Carry out a command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.aws", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="bucket, roles, security group")
    making.add_argument("--bucket", required=True)
    making.add_argument("--ssh-from", required=True, metavar="CIDR")
    commands.add_parser("end", help="terminate all machines").add_argument("--workers", action="store_true", help="but the head")
    commands.add_parser("remains", help="what still bills")
    commands.add_parser("remove", help="roles and security group")
    parsed = parser.parse_args(arguments)
    if parsed.command == "make":
        make(parsed.bucket, parsed.ssh_from)
        return 0
    if parsed.command == "end":
        end(head=not parsed.workers)
        return 0
    return int(bool({"remains": remains, "remove": remove}[parsed.command]()))


if __name__ == "__main__":
    sys.exit(main())
