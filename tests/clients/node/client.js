// openid-client, doing what a test tells it.
//
// Reads a line of JSON for each thing to do and writes one for what came of it: {"told": …}, or {"refused": …} with the
// status and the error that the library tells of. What else goes wrong ends it. It ends when its input does.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

import * as oauth from "openid-client";

const PATIENCE = 180_000;

let metadata; // of the server
const begun = {}; // what the last log-in, or the last device, has to remember

const ACTS = {
  version: () => createRequire(import.meta.url)("openid-client/package.json").version,

  // `instead`: members that the client was told, and takes before those of the metadata.
  async discover({ issuer, instead }) {
    const found = await oauth.discovery(new URL(issuer), "nobody", undefined, undefined, {
      execute: [oauth.allowInsecureRequests],
    });
    metadata = { ...found.serverMetadata(), ...instead };
  },

  client_credentials: ({ client, scope }) => oauth.clientCredentialsGrant(configured(client), { scope }),

  async begin_log_in({ client, scope, redirect_uri }) {
    const verifier = oauth.randomPKCECodeVerifier();
    Object.assign(begun, { verifier, state: oauth.randomState(), nonce: oauth.randomNonce() });
    return oauth.buildAuthorizationUrl(configured(client), {
      scope,
      redirect_uri,
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
      code_challenge_method: "S256",
      state: begun.state,
      nonce: begun.nonce,
    }).href;
  },

  // It verifies the ID token too.
  async end_log_in({ client, callback }) {
    begun.tokens = await oauth.authorizationCodeGrant(configured(client), new URL(callback), {
      pkceCodeVerifier: begun.verifier,
      expectedState: begun.state,
      expectedNonce: begun.nonce,
    });
    return begun.tokens;
  },

  read_id_token: () => begun.tokens.claims(),

  async begin_device({ client, scope }) {
    begun.device = await oauth.initiateDeviceAuthorization(configured(client), { scope });
    return begun.device.verification_uri_complete;
  },

  end_device: ({ client }) => oauth.pollDeviceAuthorizationGrant(configured(client), begun.device),

  refresh: ({ client, token }) => oauth.refreshTokenGrant(configured(client), token),

  userinfo: ({ client, token }) => oauth.fetchUserInfo(configured(client), token, oauth.skipSubjectCheck),

  revoke: ({ client, token }) => oauth.tokenRevocation(configured(client), token),

  introspect: ({ client, token }) => oauth.tokenIntrospection(configured(client), token),
};

function configured({ id, secret }) {
  const authentication = secret ? oauth.ClientSecretBasic(secret) : oauth.None();
  const made = new oauth.Configuration(metadata, id, undefined, authentication);
  oauth.allowInsecureRequests(made);
  made.timeout = PATIENCE / 1000;
  return made;
}

// A challenge's error stands in the challenge; an answer that is none of OAuth's has a status alone.
function refusal(error) {
  if (error instanceof oauth.WWWAuthenticateChallengeError) {
    return { status: error.status, error: error.cause[0].parameters.error };
  }
  if (error instanceof oauth.ResponseBodyError) {
    return { status: error.status, error: error.error };
  }
  if (error.code === "OAUTH_RESPONSE_IS_NOT_CONFORM") {
    return { status: error.cause.status };
  }
  throw error;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { act, ...what } = JSON.parse(line);
  const late = setTimeout(() => process.exit(1), PATIENCE);
  let answer;
  try {
    answer = { told: (await ACTS[act](what)) ?? null };
  } catch (error) {
    answer = { refused: refusal(error) };
  }
  clearTimeout(late);
  console.log(JSON.stringify(answer));
}
