// oidc-provider as an authorization server for tests.
//
//   node server.js PORT ISSUER AUDIENCE
//
// It listens on loopback and believes X-Forwarded-*, so it can stand behind a proxy at ISSUER. AUDIENCE is the API
// whose access tokens are JWTs. Each start has new keys; besides,
//
//   POST /test/rotate   it signs with new keys from now on, and publishes the old ones beside them
//   POST /test/retire   it publishes the keys alone that it signs with

import { generateKeyPairSync, randomBytes } from "node:crypto";
import http from "node:http";
import { text } from "node:stream/consumers";

import { errors, Provider } from "oidc-provider";
import { createMemoryAdapter } from "oidc-provider/lib/adapters/memory_adapter.js";

const [PORT, ISSUER, AUDIENCE] = process.argv.slice(2);

const SECRET = "canary-client-secret-8d07";
const ALICE = {
  sub: "alice",
  password: "canary-password-5e2a",
  name: "Alice Canary-Liddell",
  email: "alice@canary.example",
};

const machine = (client_id, further) => ({
  client_id,
  client_secret: SECRET,
  grant_types: ["client_credentials"],
  response_types: [],
  redirect_uris: [],
  ...further,
});
const CLIENTS = [
  machine("service"),
  machine("es"),
  machine("noaud"),
  machine("dpop", { dpop_bound_access_tokens: true }),
  {
    client_id: "web",
    client_secret: SECRET,
    application_type: "native", // any port of a loopback redirect URI (RFC 8252 §7.3)
    redirect_uris: ["http://127.0.0.1/callback"],
    grant_types: ["authorization_code", "refresh_token"],
  },
  {
    client_id: "device",
    token_endpoint_auth_method: "none",
    grant_types: ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
    response_types: [],
    redirect_uris: [],
  },
];
const SIGNED_WITH_ES256 = new Set(["es"]);
const WITHOUT_AUDIENCE = new Set(["noaud"]);

const API = "orders:read"; // what a token for the API allows

const CONFIGURATION = {
  adapter: createMemoryAdapter(), // outlives a change of keys
  clients: CLIENTS,
  cookies: { keys: [randomBytes(32).toString("base64url")] },
  scopes: ["openid", "offline_access", API],
  claims: { openid: ["sub"], profile: ["name"], email: ["email"] },
  pkce: { required: () => true },
  issueRefreshToken: (_context, client) => client.grantTypeAllowed("refresh_token"),
  rotateRefreshToken: true,
  extraTokenClaims: (_context, token) => (token.accountId ? { name: ALICE.name, email: ALICE.email } : undefined),
  findAccount: (_context, sub) => ({ accountId: sub, claims: () => ({ ...ALICE, password: undefined }) }),
  interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
  ttl: { AccessToken: 300, AuthorizationCode: 300, ClientCredentials: 300, DeviceCode: 1800, IdToken: 300 },
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: false },
    dPoP: {
      enabled: true,
      nonceSecret: randomBytes(32),
      requireNonce: (context) => context.oidc.client?.clientId === "dpop",
    },
    introspection: { enabled: true },
    pushedAuthorizationRequests: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: (_context, client, oneOf) =>
        oneOf?.[0] ?? (WITHOUT_AUDIENCE.has(client.clientId) ? undefined : AUDIENCE),
      // A token that allows something at the API is for it; userinfo takes no token with an audience.
      useGrantedResource: (_context, source) => source.scopes.has(API),
      getResourceServerInfo(_context, resource, client) {
        if (resource !== AUDIENCE) {
          throw new errors.InvalidTarget();
        }
        const alg = SIGNED_WITH_ES256.has(client.clientId) ? "ES256" : "RS256";
        return { scope: API, accessTokenTTL: 300, accessTokenFormat: "jwt", jwt: { sign: { alg } } };
      },
    },
    revocation: { enabled: true },
  },
};

let keys = newKeys();
let provider = providerWith(keys);

http
  .createServer((request, response) => {
    answer(request, response).catch((error) => {
      console.error(error);
      response.writeHead(500).end();
    });
  })
  .listen(Number(PORT), "127.0.0.1");

async function answer(request, response) {
  const [path] = request.url.split("?");
  if (path.startsWith("/interaction/")) {
    return interact(request, response);
  }
  if (request.method === "POST" && path === "/test/rotate") {
    keys = [...newKeys(), ...keys];
    provider = providerWith(keys);
    return response.writeHead(204).end();
  }
  if (request.method === "POST" && path === "/test/retire") {
    keys = keys.slice(0, 2);
    provider = providerWith(keys);
    return response.writeHead(204).end();
  }
  return provider.callback()(request, response);
}

// One page to log in, one to consent; each is a form.
async function interact(request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  if (request.method !== "POST") {
    const fields = prompt.name === "login" ? LOGIN : CONSENT;
    response.writeHead(200, { "content-type": "text/html", "cache-control": "no-store" });
    return response.end(`<!DOCTYPE html><title>${prompt.name}</title><form method="post">${fields}</form>`);
  }
  const form = new URLSearchParams(await text(request));
  if (prompt.name === "login") {
    const known = form.get("username") === ALICE.sub && form.get("password") === ALICE.password;
    const result = known ? { login: { accountId: ALICE.sub } } : { error: "access_denied" };
    return provider.interactionFinished(request, response, result);
  }
  const grant =
    (grantId && (await provider.Grant.find(grantId))) ??
    new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(prompt.details.missingOIDCScope?.join(" "));
  grant.addOIDCClaims(prompt.details.missingOIDCClaims ?? []);
  for (const [resource, scopes] of Object.entries(prompt.details.missingResourceScopes ?? {})) {
    grant.addResourceScope(resource, scopes.join(" "));
  }
  const result = { consent: { grantId: await grant.save() } };
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}

const LOGIN = '<input name="username"><input name="password" type="password"><button name="accept">Log in</button>';
const CONSENT = '<button name="accept">Allow</button>';

function newKeys() {
  return [
    generateKeyPairSync("rsa", { modulusLength: 2048 }),
    generateKeyPairSync("ec", { namedCurve: "P-256" }),
  ].map(({ privateKey }) => ({ ...privateKey.export({ format: "jwk" }), use: "sig" }));
}

// The first key of a kind signs.
function providerWith(keys) {
  const made = new Provider(ISSUER, { ...CONFIGURATION, jwks: { keys } });
  made.proxy = true;
  made.on("server_error", (_context, error) => console.error(error));
  return made;
}
