"""Authlib, doing what a test tells it.

Reads a line of JSON for each thing to do and writes one for what came of it: {"told": …}, or {"refused": …} with the
status and the error that the library tells of. What else goes wrong ends it. It ends when its input does.
"""

import json
import signal
import sys

import authlib
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.base_client.sync_app import BaseApp, OAuth2Mixin
from authlib.integrations.base_client.sync_openid import OpenIDMixin
from authlib.integrations.requests_client import OAuth2Session
from joserfc.errors import JoseError

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
PATIENCE = 180


class App(OAuth2Mixin, OpenIDMixin, BaseApp):
    """What its integrations for web frameworks have in common: OpenID Connect."""

    client_cls = OAuth2Session


class Acts:
    def version(self):
        return authlib.__version__

    def discover(self, issuer, instead):
        """`instead`: members that the client was told, and takes before those of the metadata."""
        found = requests.get(f"{issuer}/.well-known/openid-configuration", timeout=PATIENCE)
        found.raise_for_status()
        self.metadata = {**found.json(), **instead}
        assert self.metadata["issuer"] == issuer

    def client_credentials(self, client, scope):
        session = self.session(client)
        return session.fetch_token(self.at("token"), grant_type="client_credentials", scope=scope)

    def begin_log_in(self, client, scope, redirect_uri):
        self.app = App(
            None,
            client_id=client["id"],
            client_secret=client["secret"],
            client_kwargs={"scope": scope, "code_challenge_method": "S256"},
            **self.metadata,
        )
        self.begun = self.app.create_authorization_url(redirect_uri)
        self.redirect_uri = redirect_uri
        return self.begun["url"]

    def end_log_in(self, client, callback):
        session = self.session(client, state=self.begun["state"], redirect_uri=self.redirect_uri)
        self.tokens = session.fetch_token(
            self.at("token"), authorization_response=callback, code_verifier=self.begun["code_verifier"]
        )
        return self.tokens

    def read_id_token(self, client):
        return self.app.parse_id_token(self.tokens, self.begun["nonce"])

    def begin_device(self, client, scope):
        begun = requests.post(
            self.at("device_authorization"), data={"client_id": client["id"], "scope": scope}, timeout=PATIENCE
        )
        begun.raise_for_status()
        self.device_code = begun.json()["device_code"]
        return begun.json()["verification_uri_complete"]

    def end_device(self, client):
        session = self.session(client)
        return session.fetch_token(self.at("token"), grant_type=DEVICE_CODE, device_code=self.device_code)

    def refresh(self, client, token):
        return self.session(client).refresh_token(self.at("token"), refresh_token=token)

    def userinfo(self, client, token):
        session = self.session(client, token={"access_token": token, "token_type": "Bearer"})
        return done(session.get(self.at("userinfo"))).json()

    def revoke(self, client, token):
        done(self.session(client).revoke_token(self.at("revocation"), token=token))

    def introspect(self, client, token):
        answer = self.session(client).introspect_token(self.at("introspection"), token=token)
        return done(answer).json()

    def session(self, client, **further):
        return OAuth2Session(client["id"], client["secret"], default_timeout=PATIENCE, **further)

    def at(self, endpoint):
        return self.metadata[f"{endpoint}_endpoint"]


def done(answer):
    """The library gives these answers as they are."""
    if not answer.ok:
        raise OAuthError(answer.json().get("error"))
    return answer


def act(acts, act, **what):
    try:
        return {"told": getattr(acts, act)(**what)}
    except OAuthError as error:
        return {"refused": {"error": error.error}}
    except JoseError as error:
        return {"refused": {"error": error.description}}
    except requests.HTTPError as error:
        return {"refused": {"status": error.response.status_code}}


def main():
    acts = Acts()
    for line in sys.stdin:
        signal.alarm(PATIENCE)
        print(json.dumps(act(acts, **json.loads(line))), flush=True)
        signal.alarm(0)


if __name__ == "__main__":
    main()
