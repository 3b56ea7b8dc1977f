"""A wire to DynamoDB: JSON over a kept-open connection, signed, without the SDK.

`client.Client` sends an operation as often as the SDK's standard mode does; `transport.Transport`
has the connections, and only its `send` lets bytes leave the process.
"""
