"""Gives the webhook of Stripe its route, where `stripe.toml` names a price.

`complete` adds ``POST /api/webhooks/stripe`` to the packaged template, and lets API Gateway invoke
the function ``stripe-webhook`` for it. Packaging calls it if there is a price: without one nothing
comes from Stripe, and nothing is public but what must be. The function, its table and its secret
are always there, so that the secret can be put in its place before the route is.

The route has no authorizer and asks for no key of a lane: Stripe has no token, and the function
checks Stripe's signature. It is throttled like every method. Other methods on the path are none of
the app's either: API Gateway answers them as it answers a path that does not exist, and invokes
nothing.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

PATH = "/api/webhooks/stripe"
METHOD = "post"
FUNCTION = "StripeWebhook"
PERMISSION = f"{FUNCTION}InvokePermission"


def complete(template: Json) -> None:
    """Adds the route, and the permission to invoke its function, to the packaged template."""
    api = template["Resources"]["RestAPI"]["Properties"]
    api["DefinitionBody"]["paths"][PATH] = {
        METHOD: {
            "produces": ["application/json"],
            "responses": {"200": {"description": "200 response"}},
            "x-amazon-apigateway-integration": {
                "type": "aws_proxy",
                # How API Gateway calls Lambda, whatever the method of the route.
                "httpMethod": "POST",
                "passthroughBehavior": "when_no_match",
                # The signature is of the text that Stripe sent.
                "contentHandling": "CONVERT_TO_TEXT",
                "uri": {
                    "Fn::Sub": "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path"
                    f"/2015-03-31/functions/${{{FUNCTION}.Arn}}/invocations"
                },
            },
        }
    }
    template["Resources"][PERMISSION] = {
        "Type": "AWS::Lambda::Permission",
        "Properties": {
            "FunctionName": {"Ref": FUNCTION},
            "Action": "lambda:InvokeFunction",
            "Principal": "apigateway.amazonaws.com",
            "SourceArn": {
                "Fn::Sub": "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:"
                f"${{RestAPI}}/{api['StageName']}/{METHOD.upper()}{PATH}"
            },
        },
    }
