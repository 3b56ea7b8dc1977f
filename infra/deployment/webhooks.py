"""Gives the webhook of Stripe its route, if `stripe.toml` names a price.

`complete` adds ``POST /api/webhooks/stripe`` to the packaged template, and lets API Gateway invoke
the function ``stripe-webhook`` for it. Packaging calls it only if there is a price: without prices
Stripe sends nothing, and no route is public without need. The function, its table and its secret
always exist, so that the secret can be entered before the route exists.

The route has no authorizer and needs no lane's key: Stripe has no token, and the function checks
Stripe's signature. It is throttled like every method. The path has no other method: API Gateway
answers those like a path that does not exist, and invokes nothing.
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
                # API Gateway always calls Lambda with POST, whatever the route's method.
                "httpMethod": "POST",
                "passthroughBehavior": "when_no_match",
                # The signature covers the text that Stripe sent.
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
