"""What emails stand on, as packaged for production."""

import json

from tests.stack.resolved import Template
from tests.stack.test_template import properties, setting


def test_the_stream_wakes_its_reader_for_new_entries_only(template: Template) -> None:
    (event,) = properties(template, "QueueNotifications")["Events"].values()
    assert event["Type"] == "DynamoDB"
    source = event["Properties"]
    assert source["Stream"] == {"Fn::GetAtt": ["LedgerTable", "StreamArn"]}
    assert source["StartingPosition"] == "TRIM_HORIZON"
    (pattern,) = source["FilterCriteria"]["Filters"]
    assert json.loads(pattern["Pattern"]) == {
        "eventName": ["INSERT"],
        "dynamodb": {"Keys": {"entry": {"S": [{"prefix": "entry#"}]}}},
    }


def test_what_the_stream_cannot_hand_over_is_reported_before_it_is_forgotten(
    template: Template,
) -> None:
    (event,) = properties(template, "QueueNotifications")["Events"].values()
    source = event["Properties"]
    assert source["BisectBatchOnFunctionError"] is True
    assert source["MaximumRecordAgeInSeconds"] < 24 * 60 * 60
    assert source["DestinationConfig"]["OnFailure"]["Destination"] == {
        "Fn::GetAtt": ["LedgerStreamDlq", "Arn"]
    }


def test_records_of_emails_are_forgotten_in_the_end(template: Template) -> None:
    table = properties(template, "MailsTable")
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expiration", "Enabled": True}


def test_bounces_and_complaints_reach_their_function(template: Template) -> None:
    destination = properties(template, "MailEventDestination")
    assert destination["ConfigurationSetName"] == {"Ref": "MailConfigurationSet"}
    event_destination = destination["EventDestination"]
    assert event_destination["MatchingEventTypes"] == ["bounce", "complaint"]
    assert event_destination["SnsDestination"] == {"TopicARN": {"Ref": "MailEventsTopic"}}
    (subscription,) = properties(template, "MailEvents")["Events"].values()
    assert subscription["Type"] == "SNS"
    assert subscription["Properties"]["Topic"] == {"Fn::Sub": "${MailEventsTopic}"}
    (statement,) = (
        each
        for each in properties(template, "MailEventsTopicPolicy")["PolicyDocument"]["Statement"]
        if each["Effect"] == "Allow"
    )
    assert statement["Principal"] == {"Service": "ses.amazonaws.com"}
    assert statement["Condition"] == {
        "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    }


def test_the_days_of_a_reminder_are_a_setting(template: Template) -> None:
    assert template["Parameters"]["ExpiringSoonDays"]["Default"] == 3
    variables = properties(template, "SweepZone")["Environment"]["Variables"]
    assert variables["EXPIRING_SOON_DAYS"] == {"Fn::Sub": "${ExpiringSoonDays}"}


def test_ses_keeps_addresses_that_came_back(template: Template) -> None:
    configuration = properties(template, "MailConfigurationSet")
    assert configuration["SuppressionOptions"] == {"SuppressedReasons": ["BOUNCE", "COMPLAINT"]}


def test_no_secret_is_in_the_template(template: Template) -> None:
    secret = properties(template, "UnsubscribeSecret")
    assert "SecretString" not in secret
    assert secret["GenerateSecretString"]["PasswordLength"] == 64


def test_the_senders_share_the_rate_of_the_account(template: Template) -> None:
    sender = properties(template, "SendNotifications")
    variables = sender["Environment"]["Variables"]
    assert variables["MAILS_A_SECOND"] == {"Fn::Sub": "${MailsASecond}"}
    text, values = variables["MAIL_SENDERS"]["Fn::Sub"]
    assert text == "${Senders}"
    (event,) = sender["Events"].values()
    concurrency = event["Properties"]["ScalingConfig"]["MaximumConcurrency"]
    assert values["Senders"] == concurrency
    assert setting(template, concurrency, "prod") == 2
