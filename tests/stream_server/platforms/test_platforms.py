"""Who is let in as a telephone platform, and what the others are told."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from stream_server.access import Access, AccessConfig, ListenConfig
from stream_server.access.guessing import MAX_ATTEMPTS
from stream_server.platforms import NAMES, TelephonyConfig, make_routes
from stream_server.platforms.audiocodes import AudioCodesDialect
from stream_server.platforms.azure import AzureDialect
from stream_server.platforms.media_stream import MediaStreamDialect
from stream_server.platforms.platform import PlatformRoute, RouteContext
from stream_server.platforms.route import Admission, Handshake
from stream_server.platforms.vonage import VonageDialect, VonageToken
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.start import StreamSpec
from tests.requirements import REPOSITORY
from tests.support.platform_calls import PLATFORMS

TOKEN = "0123456789abcdef"
SECRET = "a secret of the platform, of more than 32 bytes"
PUBLIC = "wss://monitor.example.org"
ELSEWHERE = "203.0.113.7"
PATHS = (
    *("/twilio", "/telnyx", "/plivo", "/exotel", "/vonage", "/signalwire", "/azure"),
    *("/bandwidth", "/audiocodes"),
)
SIGNED = {
    "/twilio": "twilio_auth_token",
    "/plivo": "plivo_auth_token",
    "/vonage": "vonage_signature_secret",
}


def routes(
    *,
    host: str = "0.0.0.0",
    full: str | None = None,
    token: str = TOKEN,
    **telephony: Any,
) -> dict[str, PlatformRoute]:
    """Return the routes of a server that other machines reach, unless ``host`` says else."""
    config = TelephonyConfig(**telephony)
    access = Access(
        AccessConfig(tokens={"calls": token} if token else {}),
        ListenConfig(host),
        config.public_url,
    )

    def check_capacity(token_name: str) -> None:
        if token_name == full:
            raise ProtocolError(ErrorCode.SERVER_FULL, "it is full", retry_after_s=1.2)

    made = make_routes(config, access, check_capacity)
    return {path: each for path, each in made.items() if isinstance(each, PlatformRoute)}


def handshake(target: str, peer: str = ELSEWHERE, **headers: str) -> Handshake:
    named = {"Host": "monitor.example.org"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    return Handshake.of(Request(target, Headers(named)), peer)


def refused(route: PlatformRoute, request: Handshake) -> ErrorCode:
    with pytest.raises(ProtocolError) as caught:
        route.admit(request)
    return caught.value.code


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"key:{password}".encode()).decode()


def test_every_folder_is_in_the_table():
    folder = REPOSITORY / "stream_server" / "platforms"
    assert {path.parent.name for path in folder.glob("*/__init__.py")} == set(NAMES)
    assert all((folder / name / "README.md").is_file() for name in NAMES)


# -- Access tokens ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("", {"Authorization": f"Bearer {TOKEN}"}),
        ("", {"Authorization": f"Token {TOKEN}"}),
        ("", {"Authorization": basic(TOKEN)}),
        (f"/{TOKEN}", {}),
        (f"/{TOKEN}/?sample-rate=8000", {}),
    ],
)
def test_a_token_lets_in(target: str, headers: dict[str, str]):
    admission = routes()["/exotel"].admit(handshake("/exotel" + target, **headers))
    assert isinstance(admission, Admission)
    assert admission.authorize("").name == "calls"


@pytest.mark.parametrize("path", PATHS)
def test_every_platform_takes_a_token_and_nothing_less(path: str):
    assert routes()[path].admit(handshake(f"{path}/{TOKEN}")).authorize("").name == "calls"
    assert refused(routes()[path], handshake(path)) is ErrorCode.UNAUTHORIZED


def test_telnyx_has_a_header_of_its_own():
    headers = {"x-telnyx-streaming-auth-token": TOKEN}
    assert routes()["/telnyx"].admit(handshake("/telnyx", **headers)).authorize("").name == "calls"
    assert refused(routes()["/exotel"], handshake("/exotel", **headers)) is ErrorCode.UNAUTHORIZED


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/", {}),
        ("/wrong", {}),
        ("", {"Authorization": "Bearer wrong"}),
        ("", {"Authorization": basic("wrong")}),
        ("", {"X-Twilio-Signature": "wrong"}),
    ],
)
def test_without_one_nobody_comes_in(target: str, headers: dict[str, str]):
    request = handshake("/twilio" + target, **headers)
    assert refused(routes()["/twilio"], request) is ErrorCode.UNAUTHORIZED


@pytest.mark.parametrize("path", PATHS)
def test_this_machine_needs_none_while_there_is_none(path: str):
    here = handshake(path, "127.0.0.1", Host="localhost:8765")
    route = routes(host="127.0.0.1", token="")[path]
    assert route.admit(here).authorize("").kind == "machine"
    assert refused(routes(host="127.0.0.1")[path], here) is ErrorCode.UNAUTHORIZED
    # What comes through a proxy on this machine is not of this machine.
    through = handshake(path, "127.0.0.1", Host="localhost:8765", X_Forwarded_For=ELSEWHERE)
    assert refused(route, through) is ErrorCode.UNAUTHORIZED
    behind = routes(host="127.0.0.1", token="", public_url=PUBLIC)[path]
    assert refused(behind, here) is ErrorCode.UNAUTHORIZED


def test_a_refusal_asks_for_a_password():
    route = routes()["/exotel"]
    refusal = route.refuse(ProtocolError(ErrorCode.UNAUTHORIZED, "got no access token"))
    assert (refusal.status, refusal.body) == (401, "got no access token\n")
    assert refusal.headers["WWW-Authenticate"] == "Basic"


def test_a_full_server_refuses_before_the_upgrade():
    route = routes(full="calls")["/telnyx"]
    with pytest.raises(ProtocolError) as caught:
        route.admit(handshake(f"/telnyx/{TOKEN}"))
    refusal = route.refuse(caught.value)
    assert (refusal.status, refusal.headers["Retry-After"]) == (503, "2")


# -- Dialects --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_each_path_has_its_dialect(path: str):
    dialect = routes()[path].admit(handshake(f"{path}/{TOKEN}")).dialect
    others: dict[str, type] = {"/vonage": VonageDialect, "/azure": AzureDialect}
    others["/audiocodes"] = AudioCodesDialect
    if kind := others.get(path):
        assert isinstance(dialect, kind)
        return
    assert isinstance(dialect, MediaStreamDialect)
    call = PLATFORMS[path.strip("/")]()
    (spec,) = dialect.receive(json.dumps(call.start(("inbound",), {})))
    assert isinstance(spec, StreamSpec) and spec.name == call.call_id


@pytest.mark.parametrize(
    ("query", "roles"),
    [
        ("", ["caller", "desk"]),
        ("?tracks=both", ["caller", "desk"]),
        ("?tracks=inbound&x=1", ["caller"]),
        ("?tracks=outbound", ["desk"]),
    ],
)
def test_the_url_says_which_tracks_come(query: str, roles: list[str]):
    route = routes(roles=("caller", "desk"))["/telnyx"]
    dialect = route.admit(handshake(f"/telnyx/{TOKEN}{query}")).dialect
    (spec,) = dialect.receive(json.dumps(PLATFORMS["telnyx"]().start((), {})))
    assert isinstance(spec, StreamSpec)
    assert [channel.role for channel in spec.channels] == roles


def test_tracks_that_there_are_not():
    request = handshake(f"/telnyx/{TOKEN}?tracks=all")
    assert refused(routes()["/telnyx"], request) is ErrorCode.BAD_START


# -- Twilio ----------------------------------------------------------------------------------------


@pytest.mark.needs("twilio")
def test_wrong_signatures_are_counted_as_guesses_and_right_ones_never_wait():
    route = routes(token="", public_url=PUBLIC, twilio_auth_token=SECRET)["/twilio"]

    def answer(signature: str) -> ProtocolError | None:
        try:
            route.admit(handshake("/twilio", X_Twilio_Signature=signature))
        except ProtocolError as error:
            return error
        return None

    for number in range(MAX_ATTEMPTS):
        error = answer(f"wrong {number}")
        assert error is not None and error.retry_after_s is None
    error = answer("wrong again")
    assert error is not None and error.retry_after_s is not None
    assert answer(twilio_signature(f"{PUBLIC}/twilio")) is None


def twilio_signature(url: str, secret: str = SECRET) -> str:
    from twilio.request_validator import RequestValidator

    signature: str = RequestValidator(secret).compute_signature(url, {})
    return signature


@pytest.mark.needs("twilio")
@pytest.mark.parametrize(
    ("public", "host", "target", "signed"),
    [
        (PUBLIC, "10.0.0.1:8765", "/twilio", f"{PUBLIC}/twilio"),
        (f"{PUBLIC}/", "10.0.0.1:8765", "/twilio", f"{PUBLIC}/twilio"),
        (PUBLIC, "10.0.0.1:8765", "/twilio", f"{PUBLIC}:443/twilio"),
        (PUBLIC, "10.0.0.1:8765", "/twilio", f"{PUBLIC}/twilio/"),
        (PUBLIC, "10.0.0.1:8765", "/twilio/", f"{PUBLIC}/twilio"),
        (f"{PUBLIC}/ingest", "10.0.0.1:8765", "/twilio", f"{PUBLIC}/ingest/twilio"),
        (f"{PUBLIC}:8443", "10.0.0.1:8765", "/twilio", f"{PUBLIC}:8443/twilio"),
        ("", "calls.example.org", "/twilio", "wss://calls.example.org/twilio"),
        ("", "calls.example.org:8443", "/twilio", "wss://calls.example.org:8443/twilio"),
    ],
)
def test_what_twilio_signs_lets_in(public: str, host: str, target: str, signed: str):
    route = routes(public_url=public, twilio_auth_token=SECRET)["/twilio"]
    signature = twilio_signature(signed)
    request = handshake(target, Host=host, X_Twilio_Signature=signature)
    assert route.admit(request).authorize("").name == ""


@pytest.mark.needs("twilio")
@pytest.mark.parametrize(
    "url",
    [
        "https://monitor.example.org/twilio",
        f"{PUBLIC}/plivo",
        "wss://10.0.0.1:8765/twilio",
        f"{PUBLIC}:444/twilio",
        "ws://monitor.example.org/twilio",
    ],
)
def test_the_signature_of_another_url_does_not(url: str):
    route = routes(public_url=PUBLIC, twilio_auth_token=SECRET)["/twilio"]
    request = handshake("/twilio", Host="10.0.0.1:8765", X_Twilio_Signature=twilio_signature(url))
    assert refused(route, request) is ErrorCode.UNAUTHORIZED


@pytest.mark.needs("twilio")
def test_twilios_own_validator_agrees():
    from twilio.request_validator import RequestValidator

    route = routes(public_url=PUBLIC, twilio_auth_token=SECRET)["/twilio"]
    for secret in (SECRET, "another"):
        signature = twilio_signature(f"{PUBLIC}/twilio", secret)
        is_good = RequestValidator(SECRET).validate(f"{PUBLIC}/twilio", {}, signature)
        assert is_good is (secret == SECRET)
        request = handshake("/twilio", X_Twilio_Signature=signature)
        if is_good:
            route.admit(request)
        else:
            assert refused(route, request) is ErrorCode.UNAUTHORIZED


@pytest.mark.parametrize("path", SIGNED)
@pytest.mark.parametrize("peer", ["127.0.0.1", ELSEWHERE])
@pytest.mark.parametrize("target", ["", f"/{TOKEN}"])
def test_where_there_is_a_secret_nothing_else_helps(path: str, peer: str, target: str):
    route = routes(host="127.0.0.1", **{SIGNED[path]: SECRET})[path]
    request = handshake(path + target, peer, Host="localhost:8765", Authorization=f"Bearer {TOKEN}")
    with pytest.raises(ProtocolError) as caught:
        route.admit(request)
    assert caught.value.code is ErrorCode.UNAUTHORIZED
    refusal = route.refuse(caught.value)
    assert refusal.status == 403 and "WWW-Authenticate" not in refusal.headers
    assert SECRET not in refusal.body and TOKEN not in refusal.body


@pytest.mark.parametrize("host", ["[", "a:b:c", "", "ü", "x" * 10_000, "x:²", "x:" + "9" * 5000])
def test_a_strange_host_is_refused_like_any_other(host: str):
    for path, setting in SIGNED.items():
        request = Handshake(path, path, (), {"host": host, "x-twilio-signature": "x"}, ELSEWHERE)
        route = routes(**{setting: SECRET})[path]
        assert refused(route, request) is ErrorCode.UNAUTHORIZED


# -- Plivo -----------------------------------------------------------------------------------------


def plivo_headers(url: str, nonce: str = "1", secret: str = SECRET) -> dict[str, str]:
    mac = hmac.new(secret.encode(), f"{url}.{nonce}".encode(), hashlib.sha256)
    return {
        "X-Plivo-Signature-V3": base64.b64encode(mac.digest()).decode(),
        "X-Plivo-Signature-V3-Nonce": nonce,
    }


@pytest.mark.parametrize("url", [f"{PUBLIC}/plivo", "https://monitor.example.org/plivo"])
def test_what_plivo_signs_lets_in_once(url: str):
    route = routes(public_url=PUBLIC, plivo_auth_token=SECRET)["/plivo"]
    assert route.admit(handshake("/plivo", **plivo_headers(url))).authorize("").name == ""
    again = handshake("/plivo", **plivo_headers(url))
    assert refused(route, again) is ErrorCode.UNAUTHORIZED
    route.admit(handshake("/plivo", **plivo_headers(url, nonce="2")))


def test_a_wrong_signature_does_not_use_up_the_number():
    route = routes(public_url=PUBLIC, plivo_auth_token=SECRET)["/plivo"]
    wrong = plivo_headers(f"{PUBLIC}/plivo", secret="another")
    assert refused(route, handshake("/plivo", **wrong)) is ErrorCode.UNAUTHORIZED
    route.admit(handshake("/plivo", **plivo_headers(f"{PUBLIC}/plivo")))


def test_the_main_account_may_sign():
    headers = plivo_headers(f"{PUBLIC}/plivo")
    headers["X-Plivo-Signature-Ma-V3"] = headers.pop("X-Plivo-Signature-V3")
    route = routes(public_url=PUBLIC, plivo_auth_token=SECRET)["/plivo"]
    route.admit(handshake("/plivo", **headers))


@pytest.mark.parametrize("nonce", ["", "1" * 257])
def test_plivo_without_a_number_is_refused(nonce: str):
    route = routes(public_url=PUBLIC, plivo_auth_token=SECRET)["/plivo"]
    request = handshake("/plivo", **plivo_headers(f"{PUBLIC}/plivo", nonce))
    assert refused(route, request) is ErrorCode.UNAUTHORIZED


# -- Vonage ----------------------------------------------------------------------------------------


NOW_S = 1_700_000_000


def vonage_route() -> PlatformRoute:
    context = RouteContext(Access(AccessConfig(), ListenConfig()), lambda _: None)
    return PlatformRoute(
        context,
        lambda _: VonageDialect(roles=("customer", "agent")),
        authenticator=VonageToken(SECRET, now_s=lambda: NOW_S),
    )


def vonage_request(secret: str = SECRET, **claims: Any) -> Handshake:
    import jwt

    token = jwt.encode({"iat": NOW_S, "iss": "Vonage", **claims}, secret, algorithm="HS256")
    return handshake("/vonage", Authorization=f"Bearer {token}")


@pytest.mark.needs("pyjwt")
def test_what_vonage_signs_lets_in_once():
    route = vonage_route()
    assert route.admit(vonage_request(jti="1")).authorize("").name == ""
    assert refused(route, vonage_request(jti="1")) is ErrorCode.UNAUTHORIZED
    route.admit(vonage_request(jti="2"))
    route.admit(vonage_request())


@pytest.mark.needs("pyjwt")
@pytest.mark.parametrize(
    "claims", [{"secret": "another secret of more than 32 bytes"}, {"iat": 0}, {"exp": 1}]
)
def test_another_token_does_not(claims: dict[str, Any]):
    assert refused(vonage_route(), vonage_request(**claims)) is ErrorCode.UNAUTHORIZED


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x.y", "Basic eDp5", "x"])
def test_no_token_at_all_does_not(authorization: str):
    request = handshake("/vonage", Authorization=authorization)
    assert refused(vonage_route(), request) is ErrorCode.UNAUTHORIZED
