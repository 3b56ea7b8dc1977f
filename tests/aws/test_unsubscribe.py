"""The pages behind the links in mails."""

import re

import pytest

from chalicelib.domain.errors import Contention, Unreadable
from chalicelib.domain.notifications import ALL_KINDS, MailKind
from chalicelib.product import Product
from tests.aws.api import NOBODY, Api
from tests.aws.world import World

PATH = "/api/unsubscribe"


def path(world: World, kind: MailKind | None, user_id: str = "1") -> str:
    return f"{PATH}?token={world.services.unsubscribe_links.token(user_id, kind)}"


def wishes(world: World) -> frozenset[MailKind]:
    return world.services.subscriptions.get("1").notifications


def test_looking_changes_nothing_and_offers_both_choices(world: World, api: Api) -> None:
    world.subscribe()
    reply = api.get(path(world, MailKind.LOW_BALANCE), NOBODY)
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["content-security-policy"] == (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
    )
    assert "Stop emails about a low balance" in reply.text
    assert wishes(world) == ALL_KINDS


def test_the_buttons_of_the_page_do_what_they_say(world: World, api: Api) -> None:
    world.subscribe()
    page = api.get(path(world, MailKind.LOW_BALANCE), NOBODY).text
    one, everything = re.findall(r'action="(\?token=[\w.-]+)"', page)
    assert api.post(PATH + one, NOBODY).status == 200
    assert wishes(world) == ALL_KINDS - {MailKind.LOW_BALANCE}
    assert api.post(PATH + everything, NOBODY).status == 200
    assert wishes(world) == frozenset()


def test_one_click_of_a_mail_program_ends_the_kind_and_a_second_changes_nothing(
    world: World, api: Api
) -> None:
    world.subscribe()
    for _ in range(2):
        reply = api.post(
            path(world, MailKind.ALLOCATION),
            NOBODY,
            raw=b"List-Unsubscribe=One-Click",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert reply.status == 200
        assert "monthly credits" in reply.text
    assert wishes(world) == ALL_KINDS - {MailKind.ALLOCATION}
    assert world.services.subscriptions.get("1").version == 2


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_link_that_was_tampered_with_does_nothing(world: World, api: Api, method: str) -> None:
    world.subscribe()
    token = world.services.unsubscribe_links.token("1", None)
    payload, signature = token.split(".")
    of_another = world.services.unsubscribe_links.token("2", None).partition(".")[0]
    for wrong in (
        "",
        "?",
        "?token=",
        f"?token={payload}",
        f"?token={payload}.",
        f"?token={of_another}.{signature}",
        f"?token={token}x",
        f"?token={'A' * 5000}",
        "?token=%C3%A9.%C3%A9",
    ):
        reply = api.send(method, PATH + wrong, NOBODY)
        assert reply.status == 400, wrong
        assert "This link does not work" in reply.text
    assert wishes(world) == ALL_KINDS


@pytest.mark.parametrize("kind", [MailKind.MANUAL, None])
def test_the_link_of_an_erased_user_gets_the_same_calm_answer_as_any_other_each_time(
    world: World, api: Api, kind: MailKind | None
) -> None:
    world.subscribe("1")
    world.subscribe("2")
    world.services.subscriptions.remove("1")
    for _ in range(2):
        of_erased, of_other = (
            [send(path(world, kind, user_id), NOBODY) for send in (api.get, api.post)]
            for user_id in ("1", "2")
        )
        assert [reply.status for reply in of_erased] == [200, 200]
        # The form holds the token, which differs by itself.
        assert of_erased[0].text.count("<button>") == of_other[0].text.count("<button>")
        assert of_erased[1].text == of_other[1].text
        assert "You will get no more emails" in of_erased[1].text
    assert world.services.subscriptions.find("1") is None


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Contention("others keep winning"), 409), (Unreadable("subscription", "user 1", "torn"), 500)],
)
def test_nobody_is_told_that_emails_end_while_they_do_not(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch, fault: Exception, status: int
) -> None:
    def fail(*_: object) -> None:
        raise fault

    world.subscribe()
    monkeypatch.setattr(type(world.services.subscriptions), "change", fail)
    reply = api.post(path(world, None), NOBODY)
    assert (reply.status, "You will get no more emails" in reply.text) == (status, False)


def test_the_pages_are_in_the_language_of_the_users_emails_and_of_their_family(
    world: World, api: Api
) -> None:
    logo = "https://static.example.com/logo.png"
    world.settings = world.settings._replace(product=Product("Lighthouse", logo_url=logo))
    world.services = world.restarted()
    world.subscribe(language="de")
    link = path(world, MailKind.LOW_BALANCE)
    page = api.get(link, NOBODY, headers={"Accept-Language": "en"})
    assert "Welche E-Mails möchten Sie abbestellen?" in page.text
    assert "E-Mails über ein niedriges Guthaben abbestellen" in page.text
    assert f'<img src="{logo}"' in page.text
    assert "Lighthouse</title>" in page.text
    assert "img-src https://static.example.com;" in page.headers["content-security-policy"]
    # Its address is all that it takes to end emails.
    assert page.headers["referrer-policy"] == "no-referrer"
    done = api.post(link, NOBODY, headers={"Accept-Language": "en"}).text
    assert '<html lang="de"' in done
    assert "Erledigt" in done
    assert "Sie bekommen von uns keine E-Mails mehr über ein niedriges Guthaben." in done


def test_without_a_user_the_language_is_that_of_the_browser(world: World, api: Api) -> None:
    for header, words in (
        ("de-DE,de;q=0.9,en;q=0.8", "Dieser Link funktioniert nicht"),
        ("fr", "This link does not work"),
    ):
        reply = api.get(f"{PATH}?token=x", NOBODY, headers={"Accept-Language": header})
        assert reply.status == 400
        assert words in reply.text
    asked = api.get(path(world, None, "9"), NOBODY, headers={"Accept-Language": "de"})
    assert "Welche E-Mails möchten Sie abbestellen?" in asked.text
    erased = api.post(path(world, None, "9"), NOBODY, headers={"Accept-Language": "de"})
    assert "Sie bekommen keine E-Mails mehr von uns." in erased.text
