"""One token's way, with Authlib as the client and PyJWT at the API.

Told by the environment: ISSUER, GATEWAY, API (where to listen, and the audience), CLIENT_ID, CLIENT_SECRET, SCOPE; and as
whom an API asks about tokens: CALLER_ID, CALLER_SECRET.
Writes a line for each secret that it sees, so that the tests can look for it in logs, and ends with 0 if all is well.
"""

import json
import os
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import jwt
import requests
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc6750 import InvalidTokenError
from authlib.oauth2.rfc7662 import IntrospectTokenValidator

ISSUER, GATEWAY, API, CLIENT_ID, CLIENT_SECRET, SCOPE, CALLER_ID, CALLER_SECRET = (
    os.environ[name]
    for name in (
        "ISSUER",
        "GATEWAY",
        "API",
        "CLIENT_ID",
        "CLIENT_SECRET",
        "SCOPE",
        "CALLER_ID",
        "CALLER_SECRET",
    )
)
METHODS = "client_secret_basic", "client_secret_post"
PATIENCE = 60


def main():
    signal.alarm(PATIENCE)
    metadata = discover()
    api = Api(metadata)
    for method in METHODS:
        refuses_a_wrong_secret(metadata, method)
        goes_the_whole_way(metadata, api, method)


def discover():
    answer = requests.get(f"{ISSUER}/.well-known/oauth-authorization-server", timeout=10)
    metadata = answer.json()
    assert answer.status_code == 200 and metadata["issuer"] == ISSUER  # RFC 8414 §3.3
    for endpoint in "token", "revocation", "introspection":
        assert set(METHODS) <= set(metadata[f"{endpoint}_endpoint_auth_methods_supported"])
    return metadata


def goes_the_whole_way(metadata, api, method):
    session = client(method)
    answer = session.fetch_token(metadata["token_endpoint"], grant_type="client_credentials", resource=API)
    token = answer["access_token"]
    canary(token)
    assert answer["token_type"] == "Bearer" and answer["scope"] == SCOPE
    assert token.count(".") < 2, "a JWT"

    called = session.get(f"{GATEWAY}/orders/1", timeout=10)
    assert called.status_code == 200
    claims = api.received.pop()
    assert claims["client_id"] == CLIENT_ID and claims["scope"] == SCOPE

    introspector = Introspector(metadata, method)
    seen = introspector(token)
    assert dict(seen) == {"active": True, "token_type": "Bearer", **claims}

    revoked = session.revoke_token(metadata["revocation_endpoint"], token=token, token_type_hint="access_token")
    assert revoked.status_code == 200
    refused = session.get(f"{GATEWAY}/orders/1", timeout=10)
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]
    assert not api.received, "the API heard of it"
    assert introspector(token) == {"active": False}


def refuses_a_wrong_secret(metadata, method):
    try:
        client(method, secret="canary-wrong-secret").fetch_token(
            metadata["token_endpoint"], grant_type="client_credentials"
        )
    except OAuthError as error:
        assert error.error == "invalid_client"
    else:
        raise AssertionError("a token for a wrong secret")


class Introspector(IntrospectTokenValidator):
    """What the library has for resource servers, which leave the asking to who uses it."""

    def __init__(self, metadata, method):
        super().__init__()
        self.endpoint = metadata["introspection_endpoint"]
        self.session = client(method, CALLER_SECRET, CALLER_ID)

    def introspect_token(self, token_string):
        answer = self.session.introspect_token(self.endpoint, token=token_string, token_type_hint="access_token")
        assert answer.status_code == 200
        return answer.json()

    def __call__(self, token_string):
        token = self.authenticate_token(token_string)
        if token["active"]:
            self.validate_token(token, [SCOPE], None)
            return token
        try:
            self.validate_token(token, [SCOPE], None)
        except InvalidTokenError:
            return token
        raise AssertionError("it took what is not active")


def client(method, secret=CLIENT_SECRET, name=CLIENT_ID):
    return OAuth2Session(
        name,
        secret,
        scope=SCOPE,
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
        default_timeout=10,
    )


class Api:
    """An API that verifies what it gets, with a library that is not the gateway's."""

    def __init__(self, metadata):
        self.received = []
        self.keys = jwt.PyJWKClient(metadata["jwks_uri"])
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                try:
                    api.received.append(api.verify(self.headers.get_all("Authorization")))
                    status = 200
                except (AssertionError, jwt.PyJWTError) as error:
                    print(f"the API: {type(error).__name__}", flush=True)
                    status = 500
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        where = urlsplit(API)
        server = ThreadingHTTPServer((where.hostname, where.port), Handler)
        Thread(target=server.serve_forever, daemon=True).start()

    def verify(self, fields):
        assert len(fields) == 1
        scheme, _, token = fields[0].partition(" ")
        assert scheme == "Bearer"
        canary(token)
        assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
        key = self.keys.get_signing_key_from_jwt(token)
        claims = jwt.decode(
            token,
            key,
            algorithms=["ES256", "EdDSA", "RS256"],
            audience=API,
            issuer=ISSUER,
            options={"require": ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"]},  # RFC 9068 §2.2
        )
        canary(claims["jti"])
        return claims


def canary(secret):
    print("canary", json.dumps(secret), flush=True)


if __name__ == "__main__":
    main()
