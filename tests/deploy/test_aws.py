"""The policies allow what is asked of AWS and no more; the template makes the tables that create_tables makes."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import cfnlint
import pytest

from context_store import ContextStore, create_tables
from tests.support import aws_calls
from tests.support.aws_calls import CONFIG, Calls

FOLDER = Path(__file__).parents[2] / "deploy/aws"
TEMPLATE = FOLDER / "cloudformation.json"
OURS = {"CreationDateTime", "TableArn", "TableId"}
"""What is another of each table."""


def policy(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}-policy.json").read_text())
    return found


def allowed(document: dict[str, Any]) -> Calls:
    """The pairs of action and table, or `key`, of a policy."""
    pairs = set()
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow" and not statement.keys() - {"Sid", "Effect", "Action", "Resource"}
        resources = statement["Resource"]
        for resource in [resources] if isinstance(resources, str) else resources:
            assert re.fullmatch(r"arn:aws:(dynamodb:REGION:ACCOUNT:table/[\w-]+|kms:REGION:ACCOUNT:key/KEY)", resource)
            name = "key" if ":kms:" in resource else resource.partition("/")[2]
            pairs |= {(action, name) for action in statement["Action"]}
    return pairs


def test_a_server_may_do_what_it_does_and_nothing_else() -> None:
    assert allowed(policy("server")) == aws_calls.of_a_server()


def test_an_operator_may_do_what_the_commands_do_and_nothing_else() -> None:
    assert allowed(policy("operator")) == aws_calls.of_an_operator()


def test_what_was_recorded_is_all_that_there_is() -> None:
    """No call of the code was left out, and no method of the store."""
    actions = {action for action, _ in aws_calls.of_a_server() | aws_calls.of_an_operator()}
    assert {action for action in actions if action.startswith("dynamodb:")} == aws_calls.of_the_code()
    methods = {name for name, value in vars(ContextStore).items() if inspect.isfunction(value) and name[0] != "_"}
    played = inspect.getsource(aws_calls.of_a_server.__wrapped__)
    assert {name for name in methods if f".{name}(" not in played} == {"delete_tenant"}  # of erase_tenant


@pytest.fixture
def credentials() -> Iterator[None]:
    with aws_calls.own_aws():
        yield


def make_stack() -> None:
    cloudformation = boto3.client("cloudformation", region_name=CONFIG.region)
    cloudformation.create_stack(
        StackName="carryover", TemplateBody=TEMPLATE.read_text(), Capabilities=["CAPABILITY_IAM"]
    )


def described() -> list[dict[str, Any]]:
    dynamodb = boto3.client("dynamodb", region_name=CONFIG.region)
    tables = [dynamodb.describe_table(TableName=n)["Table"] for n in (CONFIG.events_table, CONFIG.payload_table)]
    return [{name: value for name, value in table.items() if name not in OURS} for table in tables]


def test_the_template_makes_the_tables_that_the_command_makes(credentials: None) -> None:
    create_tables(CONFIG)
    by_command = described()
    client = boto3.client("dynamodb", region_name=CONFIG.region)
    expiry = [
        client.describe_time_to_live(TableName=table["TableName"])["TimeToLiveDescription"] for table in by_command
    ]
    for table in by_command:
        client.delete_table(TableName=table["TableName"])
    make_stack()
    assert described() == by_command
    lines: list[str] = []
    create_tables(CONFIG, report=lines.append)
    assert sum("is there already" in line for line in lines) == 2
    resources = json.loads(TEMPLATE.read_text())["Resources"]  # moto leaves the expiry of a template out
    for name, state in zip(("EventsTable", "PayloadTable"), expiry, strict=True):
        asked = resources[name]["Properties"]["TimeToLiveSpecification"]
        assert asked == {"AttributeName": state["AttributeName"], "Enabled": state["TimeToLiveStatus"] == "ENABLED"}


def test_the_template_has_the_policies_and_a_key_that_the_server_can_use(credentials: None) -> None:
    make_stack()
    outputs = boto3.client("cloudformation", region_name=CONFIG.region).describe_stacks()["Stacks"][0]["Outputs"]
    made = {output["OutputKey"]: output["OutputValue"] for output in outputs}
    iam = boto3.client("iam", region_name=CONFIG.region)
    for key, name in (("ServerPolicy", "server"), ("OperatorPolicy", "operator")):
        document = iam.get_policy_version(PolicyArn=made[key], VersionId="v1")["PolicyVersion"]["Document"]
        plain = re.sub(r":us-east-1:\d+:", ":REGION:ACCOUNT:", json.dumps(document)).replace(
            made["KmsKey"][-36:], "KEY"
        )
        assert json.loads(plain) == policy(name)
    kms = boto3.client("kms", region_name=CONFIG.region)
    assert kms.get_key_rotation_status(KeyId=made["KmsKey"])["KeyRotationEnabled"]


def test_cloudformation_s_linter_finds_nothing() -> None:
    def problems(template: str) -> list[str]:
        return [str(match) for match in cfnlint.lint_all(template) if match.rule.severity != "informational"]

    assert problems(TEMPLATE.read_text()) == []
    wrong = json.loads(TEMPLATE.read_text())
    wrong["Resources"]["EventsTable"]["Properties"]["BillingModus"] = "PAY_PER_REQUEST"
    assert "BillingModus" in str(problems(json.dumps(wrong)))
