// One token's way, with openid-client as the client and jose at the API.
//
// Told by the environment: ISSUER, GATEWAY, API (where to listen, and the audience), CLIENT_ID, CLIENT_SECRET, SCOPE;
// and as whom an API asks about tokens: CALLER_ID, CALLER_SECRET.
// Writes a line for each secret that it sees, so that the tests can look for it in logs, and ends with 0 if all is well.

import assert from "node:assert/strict";
import http from "node:http";

import { createRemoteJWKSet, jwtVerify } from "jose";
import * as oauth from "openid-client";

const { ISSUER, GATEWAY, API, CLIENT_ID, CLIENT_SECRET, SCOPE, CALLER_ID, CALLER_SECRET } = process.env;
const METHODS = { basic: oauth.ClientSecretBasic, post: oauth.ClientSecretPost };
const PATIENCE = 60_000;

async function main() {
  setTimeout(() => process.exit(1), PATIENCE).unref();
  const api = await startApi();
  for (const [name, authenticate] of Object.entries(METHODS)) {
    await refusesAWrongSecret(authenticate, name);
    await goesTheWholeWay(api, authenticate);
  }
  api.close();
}

async function goesTheWholeWay(api, authenticate) {
  const config = await discover(authenticate(CLIENT_SECRET));
  const answer = await oauth.clientCredentialsGrant(config, { scope: SCOPE, resource: API });
  const token = answer.access_token;
  canary(token);
  assert.equal(answer.token_type, "bearer"); // the library's spelling
  assert.equal(answer.scope, SCOPE);
  assert.ok(token.split(".").length < 3, "a JWT");

  const call = () => oauth.fetchProtectedResource(config, token, new URL("/orders/1", GATEWAY), "GET");
  assert.equal((await call()).status, 200);
  const claims = api.received.pop();
  assert.deepEqual([claims.client_id, claims.scope], [CLIENT_ID, SCOPE]);

  const asking = await discover(authenticate(CALLER_SECRET), CALLER_ID);
  const introspect = () => oauth.tokenIntrospection(asking, token, { token_type_hint: "access_token" });
  assert.deepEqual(await introspect(), { active: true, token_type: "Bearer", ...claims });

  await oauth.tokenRevocation(config, token, { token_type_hint: "access_token" });
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof oauth.WWWAuthenticateChallengeError);
    assert.deepEqual([error.status, error.cause[0].parameters.error], [401, "invalid_token"]);
    return true;
  });
  assert.equal(api.received.length, 0, "the API heard of it");
  assert.deepEqual(await introspect(), { active: false });
}

async function refusesAWrongSecret(authenticate, name) {
  const config = await discover(authenticate("canary-wrong-secret"));
  await assert.rejects(oauth.clientCredentialsGrant(config), (error) => {
    // RFC 9110 §15.5.2: a 401 has a challenge. The library tells of that first.
    assert.ok(error instanceof oauth.WWWAuthenticateChallengeError, name);
    assert.deepEqual([error.status, error.cause[0].scheme], [401, "basic"]);
    return true;
  });
}

// The issuer in the metadata has to be the one that was asked for; the library checks it (RFC 8414 §3.3).
function discover(authentication, id = CLIENT_ID) {
  const options = { algorithm: "oauth2", execute: [oauth.allowInsecureRequests] };
  return oauth.discovery(new URL(ISSUER), id, undefined, authentication, options);
}

// An API that verifies what it gets, with a library that is not the gateway's.
async function startApi() {
  const keys = createRemoteJWKSet(new URL(`${ISSUER}/jwks`));
  const received = [];
  const server = http.createServer(async (request, response) => {
    try {
      const [scheme, jwt] = request.headers.authorization.split(" ");
      assert.equal(scheme, "Bearer");
      canary(jwt);
      const { payload } = await jwtVerify(jwt, keys, {
        issuer: ISSUER,
        audience: API,
        typ: "at+jwt",
        requiredClaims: ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"], // RFC 9068 §2.2
      });
      canary(payload.jti);
      received.push(payload);
    } catch (error) {
      console.log("the API:", error.code ?? error.name);
      response.statusCode = 500;
    }
    response.end();
  });
  const { hostname, port } = new URL(API);
  await new Promise((listening) => server.listen(Number(port), hostname, listening));
  return {
    received,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

function canary(secret) {
  console.log("canary", JSON.stringify(secret));
}

await main();
