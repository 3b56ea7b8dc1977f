"""Who may edit which field of a subscription, how far, and what is recorded of it."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.api.principal import EDITS, Principal, Reach, Scope
from chalicelib.domain.terms import FIELDS
from chalicelib.jobs.mail_events import suppress_addresses
from infra.imports.importing import import_rows
from infra.imports.subscriptions import SUBSCRIPTIONS
from tests.aws import test_mail_events
from tests.aws.api import ADMIN, BACKEND, BILLING, Api, Caller, user
from tests.aws.test_api_subscriptions import ADA, PATH
from tests.aws.world import World, at, client

EDITS_PATH = f"{PATH}/edits"

VALUES: dict[str, object] = {
    "email": "new@example.com",
    "timezone": "Asia/Tokyo",
    "plan": "business",
    "billing_interval": "monthly",
    "status": "paused",
    "started_at": "2025-06-01T00:00:00Z",
    "ends_at": "2027-06-01T00:00:00Z",
    "notifications": ["manual"],
    "language": "de",
    "observed_at": "2026-01-14T00:00:00Z",
    "allocation_amount": 200,
    "eligible_from": "2025-11-01T00:00:00Z",
}
"""Another value of each field; of the last two, one that gives the user more."""

MORE = ("allocation_amount", "eligible_from")

LESS: dict[str, list[object]] = {
    "allocation_amount": [99],
    "eligible_from": ["2026-03-01T00:00:00Z", "2026-01-15", "2026-03-01"],
}
"""The same of values that give less, or begin no earlier, than `stored`."""


def stored(api: Api, **more: object) -> dict[str, Any]:
    """A user of admins' making: 100 credits a month of their own, from January on."""
    own = {"allocation_amount": 100, "eligible_from": "2026-01-01T00:00:00Z"}
    values: dict[str, Any] = {**ADA, **own, **more}
    assert api.put(PATH, ADMIN, values).status in (200, 201)
    return values


def kept(world: World) -> Any:
    return replace(world.services.subscriptions.get("42"), version=0)


def test_the_table_has_every_field_that_can_be_edited() -> None:
    assert set(EDITS) == (FIELDS - {"user_id"}) | {"mail_suppressed_because"}
    assert set(VALUES) == FIELDS - {"user_id"}
    for field, reaches in EDITS.items():
        assert reaches[Scope.ADMIN] is Reach.ALL, field
        assert set(reaches) <= {Scope.ADMIN, Scope.BACKEND, Scope.BILLING}, field
        assert reaches.get(Scope.BACKEND) is reaches.get(Scope.BILLING), field


@pytest.mark.parametrize("field", sorted(VALUES))
@pytest.mark.parametrize("method", ["PUT", "PATCH", "registration"])
def test_an_admin_edits_every_field(api: Api, method: str, field: str) -> None:
    changed = {field: VALUES[field]}
    if method == "registration":
        reply = api.put(PATH, ADMIN, {**ADA, **changed})
    else:
        values = stored(api)
        put = method == "PUT"
        reply = (
            api.put(PATH, ADMIN, {**values, **changed})
            if put
            else (api.patch(PATH, ADMIN, changed))
        )
    assert reply.status in (200, 201), reply.text
    assert reply.json.get(field) == VALUES[field]


@pytest.mark.parametrize("field", sorted(VALUES))
@pytest.mark.parametrize("method", ["PUT", "PATCH", "registration"])
@pytest.mark.parametrize("caller", [BACKEND, BILLING])
def test_the_backend_and_billing_edit_the_fields_that_are_their_own_and_give_nobody_more(
    world: World, api: Api, caller: Caller, method: str, field: str
) -> None:
    changed = {field: VALUES[field]}
    if method == "registration":
        reply = api.put(PATH, caller, {**ADA, **changed})
    else:
        values = stored(api)
        before = kept(world)
        put = method == "PUT"
        reply = (
            api.put(PATH, caller, {**values, **changed})
            if put
            else (api.patch(PATH, caller, changed))
        )
    if field not in MORE:
        assert reply.status in (200, 201), reply.text
        assert reply.json.get(field) == VALUES[field]
        return
    assert (reply.status, reply.json["code"]) == (403, "forbidden")
    (error,) = reply.json["errors"]
    assert error["field"] == field
    assert error["message"].startswith("is for credits:admin to set so; send no ")
    assert reply.json["detail"] == f"{field}: {error['message']}"
    if method == "registration":
        assert world.services.subscriptions.find("42") is None
    else:
        assert kept(world) == before
    assert world.services.ledger.account("42").last is None, "nothing was paid"


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in LESS.items() for value in values]
)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_the_backend_may_give_less(api: Api, method: str, field: str, value: object) -> None:
    values = stored(api)
    put = method == "PUT"
    changed = {field: value}
    reply = (
        api.put(PATH, BACKEND, {**values, **changed})
        if put
        else (api.patch(PATH, BACKEND, changed))
    )
    assert reply.status == 200, reply.text
    assert reply.json[field] == value


def test_the_backend_clears_an_own_amount_that_is_no_less_than_the_plans(api: Api) -> None:
    for own, plan, status in ((500, "pro", 200), (501, "pro", 200), (499, "pro", 403)):
        stored(api, allocation_amount=own, plan=plan)
        reply = api.patch(PATH, BACKEND, {"allocation_amount": None})
        assert reply.status == status, own
    reply = api.patch(PATH, BACKEND, {"allocation_amount": None, "plan": "starter"})
    assert reply.status == 200, "of the plan that is edited with it"


def test_the_backend_repeats_what_is_stored_and_that_is_no_edit(api: Api) -> None:
    stored(api, eligible_from="2025-12-01")
    shown = api.get(PATH, BACKEND).json
    values = {name: shown[name] for name in FIELDS - {"user_id"}}
    assert api.put(PATH, BACKEND, values).headers["etag"] == '"1"'
    reply = api.patch(
        PATH, BACKEND, {"eligible_from": shown["eligible_from"], "allocation_amount": 100}
    )
    assert reply.headers["etag"] == '"1"'
    assert len(api.get(EDITS_PATH, ADMIN).json["items"]) == 1


def test_a_put_of_the_backend_leaves_alone_what_it_leaves_out_and_is_not_its_own(
    api: Api,
) -> None:
    stored(api, eligible_from="2026-06-01")
    reply = api.put(PATH, BACKEND, {**ADA, "plan": "business"})
    assert (reply.json["plan"], reply.json["allocation_amount"]) == ("business", 100)
    assert reply.json["eligible_from"] == "2026-06-01"
    cleared = api.put(PATH, ADMIN, ADA).json
    assert (cleared["allocation_amount"], cleared["eligible_from"]) == (
        None,
        "2026-01-15T12:00:00.250Z",
    )


def test_the_backend_does_not_take_an_eligibility_back_to_the_registration(api: Api) -> None:
    stored(api)
    api.patch(PATH, ADMIN, {"eligible_from": "2026-06-01"})
    reply = api.patch(PATH, BACKEND, {"eligible_from": None})
    assert (reply.status, reply.json["errors"][0]["field"]) == (403, "eligible_from")


def test_a_backend_whose_clock_is_a_little_behind_registers(api: Api) -> None:
    for moment, status in (("2026-01-15T11:55:00.250Z", 201), ("2026-01-15T11:55:00.249Z", 403)):
        path = f"/api/subscriptions/{status}"
        assert api.put(path, BACKEND, {**ADA, "eligible_from": moment}).status == status
    assert (
        api.put("/api/subscriptions/7", BACKEND, {**ADA, "eligible_from": "2026-01-16"}).status
        == 201
    )


def test_a_local_date_that_moves_with_its_user_is_no_eligibility_that_is_moved(
    api: Api,
) -> None:
    stored(api, eligible_from="2026-03-01")
    assert api.patch(PATH, BACKEND, {"timezone": "Asia/Tokyo"}).status == 200


def test_a_start_that_is_set_back_pays_for_nothing_before(world: World, api: Api) -> None:
    reply = api.put(PATH, BACKEND, {**ADA, "started_at": "2020-01-01T00:00:00Z"})
    assert reply.status == 201
    api.patch(PATH, BACKEND, {"started_at": "2019-01-01T00:00:00Z"})
    world.zones.add("Europe/Paris")
    world.allocate_at("2026-01-31T22:59:59Z")
    assert world.services.ledger.account("42").last is None


def test_only_an_admin_lifts_a_suppression_and_anybody_may_send_null_without_one(
    world: World, api: Api
) -> None:
    api.put(PATH, BACKEND, ADA)
    lift = {"mail_suppressed_because": None}
    assert api.patch(PATH, BACKEND, lift).status == 200
    bounce(world)
    reply = api.patch(PATH, BACKEND, lift)
    assert (reply.status, reply.json["errors"][0]["field"]) == (403, "mail_suppressed_because")
    assert api.patch(PATH, ADMIN, lift).json["mail_suppressed_because"] is None


def test_with_both_scopes_all_fields_are_ones_own(api: Api) -> None:
    both = Caller("ada", "", "credits:backend credits:admin")
    api.put(PATH, both, {**ADA, "allocation_amount": 7})
    assert api.patch(PATH, both, {"allocation_amount": 8}).json["allocation_amount"] == 8
    assert api.put(PATH, both, ADA).json["allocation_amount"] is None
    (newest, *_) = api.get(EDITS_PATH, both).json["items"]
    assert newest["edited_by"] == {"kind": "admin", "subject": "ada"}
    shop = Caller("shop", "", "credits:billing credits:backend")
    assert api.patch(PATH, shop, {"plan": "starter"}).status == 200
    (newest, *_) = api.get(EDITS_PATH, both).json["items"]
    assert newest["edited_by"] == {"kind": "backend", "subject": "shop"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("allocate", {"user_id": "42", "amount": 5, "description": "Goodwill"}),
        ("allocation-runs", {"period": "2026-01"}),
        ("purchases", {"user_id": "42", "amount": 5, "payment_id": "pi_1"}),
        ("refunds", {"payment_id": "pi_1", "amount": 0, "description": "Won"}),
    ],
)
def test_the_backend_makes_no_credits(
    world: World, api: Api, path: str, body: dict[str, object]
) -> None:
    api.put(PATH, BACKEND, ADA)
    assert api.post(f"/api/credits/{path}", BACKEND, body, key="k").status == 403
    assert world.services.ledger.account("42").last is None
    assert world.take("sweeps") == []


def test_billing_makes_credits_of_payments_alone(world: World, api: Api) -> None:
    api.put(PATH, BILLING, ADA)
    grant = {"user_id": "42", "amount": 5, "description": "Goodwill"}
    assert api.post("/api/credits/allocate", BILLING, grant, key="k").status == 403
    assert api.post("/api/credits/allocation-runs", BILLING, {"period": "2026-01"}).status == 403
    assert world.services.ledger.account("42").last is None
    pack = {"user_id": "42", "amount": 5, "payment_id": "pi_1"}
    assert api.post("/api/credits/purchases", BILLING, pack).status == 200


def test_a_scope_reaches_as_far_as_the_table_says() -> None:
    admin, backend, both, reader = (
        Principal("it", None, frozenset(scopes.split()))
        for scopes in ("credits:admin", "credits:backend", "credits:admin credits:backend", "")
    )
    others = {"allocation_amount", "eligible_from", "mail_suppressed_because"}
    assert admin.fields_of_others() == both.fields_of_others() == frozenset()
    assert backend.fields_of_others() == others
    assert reader.fields_of_others() == set(EDITS)


# --- How much -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "PATCH", "registration"])
@pytest.mark.parametrize(("amount", "is_taken"), [(10_000, True), (10_001, False)])
def test_an_own_amount_is_no_more_than_the_plan_allows_at_once(
    api: Api, method: str, amount: int, *, is_taken: bool
) -> None:
    changed = {"allocation_amount": amount}
    values = ADA if method == "registration" else stored(api)
    reply = (
        api.patch(PATH, ADMIN, changed)
        if method == "PATCH"
        else api.put(PATH, ADMIN, {**values, **changed})
    )
    assert (reply.status < 300) is is_taken
    if not is_taken:
        assert reply.json["errors"] == [
            {
                "field": "allocation_amount",
                "message": "must be at most 10,000 on plan 'pro', or null for the plan's own; "
                "is 10,001",
            }
        ]


def test_an_own_amount_above_the_cap_of_another_plan_does_not_move_there(api: Api) -> None:
    stored(api, plan="business", allocation_amount=20_000)
    reply = api.patch(PATH, BACKEND, {"plan": "pro"})
    assert (reply.status, reply.json["errors"][0]["field"]) == (400, "allocation_amount")
    assert api.get(PATH, ADMIN).json["plan"] == "business"
    both = {"plan": "pro", "allocation_amount": 10_000}
    assert api.patch(PATH, BACKEND, both).json["allocation_amount"] == 10_000


def test_an_own_amount_from_before_the_cap_is_kept_and_paid_as_far_as_the_cap(
    world: World, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    values = stored(api)
    client("dynamodb").update_item(
        TableName=world.settings.subscriptions_table,
        Key={"user_id": {"S": "42"}},
        UpdateExpression="SET allocation_amount = :amount",
        ExpressionAttributeValues={":amount": {"N": "1000000000"}},
    )
    assert api.patch(PATH, BACKEND, {"timezone": "Europe/Berlin"}).status == 200
    repeated = {**values, "timezone": "Europe/Berlin", "allocation_amount": 1_000_000_000}
    shown = api.put(PATH, ADMIN, repeated).json
    assert (shown["allocation_amount"], shown["credit_allocation_amount"]) == (10**9, 10_000)
    world.zones.add("Europe/Berlin")
    world.allocate_at("2026-01-31T23:00:00Z")
    assert world.balance("42") == 10_000
    assert api.patch(PATH, BACKEND, {"allocation_amount": 10_000}).status == 200
    world.allocate_at("2026-02-28T23:00:00Z")  # as much as the cap, so nobody is told
    assert world.balance("42") == 20_000
    (line,) = [vars(each) for each in caplog.records if each.msg.startswith("own amount above")]
    names = ("user_id", "allocation_amount", "allocated")
    assert tuple(line[name] for name in names) == ("42", 1_000_000_000, 10_000)


# --- What is recorded -----------------------------------------------------------------------------


def bounce(world: World) -> None:
    message = test_mail_events.bounce("42", "ada@example.com")
    suppress_addresses(world.services, test_mail_events.event(message), world.context)


def recorded(api: Api) -> Iterator[tuple[int, object, dict[str, Any]]]:
    for item in reversed(api.get(EDITS_PATH, ADMIN).json["items"]):
        changes = {each["field"]: (each["before"], each["after"]) for each in item["changes"]}
        yield item["version"], item["edited_by"], changes


def test_every_way_of_editing_is_recorded_with_who_when_and_what(world: World, api: Api) -> None:
    api.put(PATH, BACKEND, ADA)
    world.now = at("2026-01-16T12:00:00Z")
    api.patch(PATH, ADMIN, {"allocation_amount": 600, "email": None})
    api.patch(PATH, BILLING, {"email": "ada@example.com"})
    world.now = at("2026-01-17T12:00:00Z")
    bounce(world)
    token = world.services.unsubscribe_links.token("42", None)
    assert api.send("POST", f"/api/unsubscribe?token={token}", Caller()).status == 200
    text = (
        "user_id,timezone,plan,billing_interval,status,started_at\n"
        "42,Europe/Paris,pro,monthly,active,2025-01-01T00:00:00Z\n"
    )
    import_rows(SUBSCRIPTIONS, world.services, SUBSCRIPTIONS.check(world.services, text).good)
    kinds = ["allocation", "expiration", "expiring_soon", "manual"]
    kinds += ["purchase", "refund", "low_balance"]
    assert list(recorded(api)) == [
        (
            1,
            {"kind": "backend", "subject": "shop"},
            {
                **{field: (None, value) for field, value in ADA.items()},
                "eligible_from": (None, "2026-01-15T12:00:00.250Z"),
                "language": (None, "en"),
                "notifications": (None, kinds),
            },
        ),
        (
            2,
            {"kind": "admin", "subject": "ada"},
            {"email": ("ada@example.com", None), "allocation_amount": (None, 600)},
        ),
        (3, {"kind": "billing", "subject": "till"}, {"email": (None, "ada@example.com")}),
        (
            4,
            {"kind": "mail_events", "subject": None},
            {"mail_suppressed_because": (None, "bounce")},
        ),
        (5, {"kind": "unsubscribe_link", "subject": None}, {"notifications": (kinds, [])}),
        (6, {"kind": "import", "subject": None}, {"billing_interval": ("yearly", "monthly")}),
    ]
    edited = [item["edited_at"] for item in api.get(EDITS_PATH, ADMIN).json["items"]]
    assert edited == [
        *["2026-01-17T12:00:00Z"] * 3,
        *["2026-01-16T12:00:00Z"] * 2,
        "2026-01-15T12:00:00.250Z",
    ]


@pytest.mark.parametrize("caller", [BACKEND, user("42")])
def test_only_admins_read_the_edits(api: Api, caller: Caller) -> None:
    api.put(PATH, BACKEND, ADA)
    assert api.get(EDITS_PATH, caller).status == 403


def test_edits_come_in_pages_newest_first(api: Api) -> None:
    api.put(PATH, BACKEND, ADA)
    for plan in ("starter", "business", "pro", "starter"):
        api.patch(PATH, BACKEND, {"plan": plan})
    versions: list[list[int]] = []
    cursor = ""
    while len(versions) < 9:
        page = api.get(f"{EDITS_PATH}?limit=2{cursor}", ADMIN).json
        versions.append([item["version"] for item in page["items"]])
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert versions == [[5, 4], [3, 2], [1]]
    first = api.get(f"{EDITS_PATH}?limit=2", ADMIN).json["next_cursor"]
    elsewhere = api.get(f"/api/subscriptions/43/edits?cursor={first}", ADMIN)
    assert (elsewhere.status, elsewhere.json["errors"][0]["field"]) == (400, "cursor")


def test_a_listing_that_was_begun_under_the_release_before_goes_on(world: World, api: Api) -> None:
    api.put(PATH, BACKEND, ADA)
    api.patch(PATH, BACKEND, {"plan": "starter"})
    newest, _ = world.services.edits.items("42")
    cursor = (
        base64.urlsafe_b64encode(f"9343ea38{newest['edit']['S']}".encode()).decode().rstrip("=")
    )
    assert api.get(f"{EDITS_PATH}?limit=1", ADMIN).json["next_cursor"] == cursor
    page = api.get(f"{EDITS_PATH}?cursor={cursor}", ADMIN).json
    assert [item["version"] for item in page["items"]] == [1]


def test_a_page_has_twenty_edits_unless_it_says_otherwise(api: Api) -> None:
    api.put(PATH, BACKEND, ADA)
    for plan in ("starter", "pro") * 10:
        api.patch(PATH, BACKEND, {"plan": plan})
    page = api.get(EDITS_PATH, ADMIN).json
    assert (len(page["items"]), page["next_cursor"] is None) == (20, False)
    assert len(api.get(f"{EDITS_PATH}?limit=21", ADMIN).json["items"]) == 21


def test_the_record_of_an_edit_is_read_as_of_now(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe("42")
    dynamodb = world.services.dynamodb
    make, reads = dynamodb.call, []

    def call(name: str, arguments: Any) -> Any:
        reads.append((name, arguments.get("ConsistentRead")))
        return make(name, arguments)

    monkeypatch.setattr(dynamodb, "call", call)
    (edit,) = world.services.edits.items("42")
    assert world.services.edits.was_made("42", edit["edit"]["S"])
    assert not world.services.edits.was_made("42", "000000000001#0")
    assert reads == [("Query", True), ("GetItem", True), ("GetItem", True)]


def test_a_user_without_edits_has_an_empty_page_and_an_unknown_one_is_not_found(
    world: World, api: Api
) -> None:
    api.put(PATH, BACKEND, ADA)
    list(world.services.edits.erase("42"))
    assert api.get(EDITS_PATH, ADMIN).json["items"] == []
    assert api.get("/api/subscriptions/nobody/edits", ADMIN).status == 404


def test_an_edit_that_is_refused_is_not_recorded(api: Api) -> None:
    api.put(PATH, BACKEND, ADA)
    assert api.patch(PATH, BACKEND, {"plan": "golden"}).status == 400
    assert api.patch(PATH, BACKEND, {"allocation_amount": 5}).status == 403
    stale = {"If-Match": '"7"'}
    assert api.patch(PATH, BACKEND, {"plan": "starter"}, headers=stale).status == 412
    assert [edit[0] for edit in recorded(api)] == [1]


def test_a_bounce_and_an_edit_at_once_lose_neither(world: World, api: Api) -> None:
    api.put(PATH, BACKEND, ADA)
    subscriptions = world.services.subscriptions
    find = subscriptions.find
    raced: list[str] = []

    def overtaken(user_id: str) -> Any:
        present = find(user_id)
        if not raced:
            raced.append(user_id)
            bounce(world)
        return present

    subscriptions.find = overtaken  # type: ignore[method-assign]
    reply = api.patch(PATH, BACKEND, {"plan": "starter"})
    assert (reply.json["plan"], reply.json["mail_suppressed_because"]) == ("starter", "bounce")
    assert [edit[0] for edit in recorded(api)] == [1, 2, 3]


def test_a_bounce_of_an_address_that_is_being_changed_marks_nobody(world: World, api: Api) -> None:
    api.put(PATH, BACKEND, ADA)
    subscriptions = world.services.subscriptions
    find = subscriptions.find
    reads = []

    def overtaken(user_id: str) -> Any:
        present = find(user_id)
        reads.append(user_id)
        if len(reads) == 2:  # after the one that looks whether there is anybody
            api.patch(PATH, BACKEND, {"email": "new@example.com"})
        return present

    subscriptions.find = overtaken  # type: ignore[method-assign]
    bounce(world)
    found = find("42")
    assert found
    assert (found.email, found.suppressed, found.version) == ("new@example.com", None, 2)


def test_a_record_that_cannot_be_read_is_counted_and_hides_no_other(world: World, api: Api) -> None:
    api.put(PATH, BACKEND, ADA)
    key = {"user_id": {"S": "42"}, "edit": {"S": f"{2:012}#00"}}
    table = world.settings.edits_table
    for body in ({}, {"body": {"N": "1"}}, {"body": {"S": "{"}}, {"body": {"S": '{"schema":2}'}}):
        client("dynamodb").put_item(TableName=table, Item={**key, **body})
        page = api.get(EDITS_PATH, ADMIN).json
        assert ([item["version"] for item in page["items"]], page["unreadable"]) == ([1], 1)
    key["edit"] = {"S": f"{3:012}#00"}
    client("dynamodb").put_item(TableName=table, Item=key)
    assert api.get(EDITS_PATH, ADMIN).json["unreadable"] == 2
    assert api.patch(PATH, BACKEND, {"plan": "starter"}).status == 200
