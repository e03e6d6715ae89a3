// Makes the vectors of entry version 1: `node make-vectors.js` writes them, and every run writes the same octets.
//
// This is the only place where a nonce is fixed. It is safe here because no secret in the file protects anything and no key meets a
// nonce twice with two plaintexts (a test looks). A token service draws every nonce at random.
//
// Nothing is shared with reader.js, and HKDF is spelled out as RFC 5869 does, so that each of the two is a check on the other.

import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const subtle = globalThis.crypto.subtle;

/** Where the vectors are kept. */
export const FILE = new URL("../../crates/symbolon-core/testdata/entry/entry-v1.json", import.meta.url);

/** The whole file as text. */
export async function vectorsAsText() {
  return JSON.stringify(await vectors(), null, 1) + "\n";
}

async function vectors() {
  return {
    about: ABOUT,
    secrets: await Promise.all([1, 255].map(secretVector)),
    cases: await Promise.all(CASES.map(caseVector)),
    whole: await Promise.all(WHOLE.map(wholeVector)),
    refused: await refusedVectors(),
    tombstones: await Promise.all(TOMBSTONES.map(tombstoneVector)),
    tombstones_refused: await refusedTombstones(),
    tokens: { accepted: await acceptedTokens(), refused: await refusedTokens() },
  };
}

const ABOUT = [
  "Entry version 1 of Symbolon, as docs/entry-format.md describes it. Made by edge/reader/make-vectors.js.",
  "Secrets, tokens and nonces are derived from names: use none of them anywhere else.",
  "Signatures are octets of the right number and do not verify. Opening an entry does not check one.",
  "`whole` are entries of kind 1, under phantom tokens: a token service opens them, and a reader of split tokens refuses the kind.",
  "`refused` and `tokens.refused` must be refused with number 0 closed, `error` naming the first rule that is broken.",
  "Number 0 in `cases` is sealed without a secret. A program opens it in its tests alone.",
];

// ---- what opens ----

const NOTHING = "00".repeat(16);
const EMPTY_LOG = { ms: 0n, seq: 1n };
const NO_MARK = { ms: 0n, seq: 0n };
const U64_MAX = 2n ** 64n - 1n;

const SIGNATURES = [
  ["hs256", "HS256", 32],
  ["hs384", "HS384", 48],
  ["es256", "ES256", 64],
  ["eddsa", "EdDSA", 64],
  ["es384", "ES384", 96],
  ["rs256-2048", "RS256", 256],
  ["ps384-3072", "PS384", 384],
  ["ps512-4096", "PS512", 512],
  ["rs512-6144", "RS512", 768],
  ["rs512-8192", "RS512", 1024],
];

const KINDS = ["signature", "salted"];

/** A pair of token and entry key that is known from elsewhere. */
const KNOWN = "EwIaRgq4go4R2M2z7AADywZ2ToxG4gDMoG4SQ1X3GJ0";

/** Each: id, about, and what differs from a salted ES256 token under number 1 with grant, session and mark. */
const CASES = [
  { id: "known", about: "a known pair of token and entry key; the worked example of the document", kind: "signature", alg: "HS256", text: KNOWN, length: 190 },
  ...KINDS.flatMap((kind) => SIGNATURES.map(([name, alg, octets]) => ({
    id: `${kind}-${name}`, about: `${kind} token, ${alg}, signature of ${octets} octets`, kind, alg, octets,
  }))),
  ...KINDS.map((kind) => ({ id: `number-0-${kind}`, about: `number 0: no secret, in vectors alone; ${kind} token`, kind, number: 0 })),
  ...KINDS.map((kind) => ({ id: `number-255-${kind}`, about: `the highest number of a secret; ${kind} token`, kind, number: 255 })),
  { id: "plaintext-255", about: "one octet of padding", length: 202 },
  { id: "plaintext-256", about: "a plaintext of exactly 256 octets: no padding", length: 203 },
  { id: "plaintext-257", about: "one octet over 256: 255 octets of padding", length: 204 },
  { id: "plaintext-511", about: "one octet of padding in the second block", length: 458 },
  { id: "plaintext-512", about: "a plaintext of exactly 512 octets: no padding", length: 459 },
  { id: "plaintext-513", about: "one octet over 512: 255 octets of padding", length: 460 },
  { id: "plaintext-4096", about: "a long signing input, 16 blocks exactly", length: 4043 },
  { id: "shortest", about: "the shortest signing input that the format takes; whether it is a JWT is asked when it is verified", signing_input: "0.0" },
  { id: "not-canonical", about: "bits set beyond the last octet of the payload: the text is kept as it stands, since the signature is over it", signing_input: "e30.e31" },
  { id: "not-decodable", about: "parts of 5 and 1 characters decode to nothing, and are glued as they stand; verifying the JWT refuses them", signing_input: "e30ab.e" },
  { id: "alphabet", about: "every character of base64url in either part", signing_input: `${alphabet()}.${alphabet()}` },
  { id: "no-grant-no-session", about: "a token of no grant and no session", grant: NOTHING, session: NOTHING },
  { id: "no-session", about: "a grant without a session", session: NOTHING },
  { id: "no-grant", about: "a session without a grant", grant: NOTHING },
  { id: "mark-none", about: "no mark", mark: NO_MARK },
  { id: "mark-empty-log", about: "the mark of an empty log", mark: EMPTY_LOG },
  { id: "mark-max", about: "the largest mark", mark: { ms: U64_MAX, seq: U64_MAX } },
  { id: "mark-ms-max", about: "the halves of the mark are told apart", mark: { ms: U64_MAX, seq: 0n } },
  { id: "all-ones", about: "grant, session and mark with every bit set", grant: "ff".repeat(16), session: "ff".repeat(16), mark: { ms: U64_MAX, seq: U64_MAX } },
  { id: "reissued-1", about: "a signature that repeats: one token, so one entry key and one K", shared: "reissued", kind: "signature" },
  { id: "reissued-2", about: "the same token with another grant: only the nonce keeps the two ciphertexts apart", shared: "reissued", kind: "signature" },
];

async function caseVector(spec) {
  const it = await issued(spec);
  const plaintext = plaintextOf(it);
  const key = await keyOf(it.token, it.number);
  return {
    id: it.id,
    about: it.about,
    token: it.token,
    kind: it.kind,
    entry_key: base64url(await sha256(it.token)),
    number: it.number,
    nonce: it.nonce.toString("hex"),
    grant: it.grant,
    session: it.session,
    mark: { ms: it.mark.ms.toString(), seq: it.mark.seq.toString() },
    signing_input: it.signing_input,
    key: key.toString("hex"),
    plaintext_length: plaintext.length,
    entry: base64url(await seal(it)),
    jwt: `${it.signing_input}.${it.signature}`,
  };
}

/** Everything of a case that its specification leaves open, from its name. */
async function issued(spec) {
  const { id, about, shared = id, kind = "salted", alg = "ES256", octets = 64, number = 1, length } = spec;
  const signature = spec.text ?? base64url(await octetsOf(`${shared} signature`, octets));
  const salt = base64url(await octetsOf(`${shared} salt`, 16));
  return {
    id, about, kind, number, signature,
    token: kind === "salted" ? `${signature}.${salt}` : signature,
    nonce: await octetsOf(`${id} nonce`, 12),
    grant: spec.grant ?? (await octetsOf(`${id} grant`, 16)).toString("hex"),
    session: spec.session ?? (await octetsOf(`${id} session`, 16)).toString("hex"),
    mark: spec.mark ?? { ms: 1_800_000_000_000n + BigInt((await octetsOf(`${id} mark`, 1))[0]), seq: 3n },
    signing_input: spec.signing_input ?? await signingInput(shared, alg, length),
  };
}

/** A signing input as authorization servers make them, of exactly `length` characters if that is given. */
async function signingInput(name, alg, length) {
  const jti = (await octetsOf(`${name} jti`, 4096)).toString("hex");
  const claims = length < 250
    ? { iss: "https://as.example", sub: "user-1", aud: "orders", exp: 1_800_003_600 }
    : {
      iss: "https://as.example", sub: "0f8a3c52-user", aud: "https://api.example.com/orders", client_id: "app-1", scope: "orders:read orders:write",
      iat: 1_800_000_000, exp: 1_800_003_600,
    };
  const text = (kid, octets) => `${base64url(JSON.stringify({ alg, typ: "at+jwt", kid }))}.${base64url(JSON.stringify({ ...claims, jti: jti.slice(0, octets) }))}`;
  if (length === undefined) return text("2027-01", 32);
  // A part never has 4n + 1 characters, so one or the other key identifier is needed to get to a length.
  for (const kid of ["k1", "k01"]) {
    for (let octets = 1; octets <= jti.length; octets += 1) {
      if (text(kid, octets).length === length) return text(kid, octets);
    }
  }
  throw new Error(`no signing input of ${length} characters`);
}

function alphabet() {
  return "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
}

// ---- what a token service alone opens ----

const WHOLE = [
  { id: "whole", about: "the whole JWT under a phantom token", number: 1 },
  { id: "whole-255", about: "the same under the highest number of a secret", number: 255 },
  { id: "whole-no-padding", about: "a JWT that leaves no room for padding", number: 1, length: 459 - 87 },
];

async function wholeVector(spec) {
  // 32 random octets, as the signature of HS256 looks.
  const { token, nonce, grant, session, mark, ...it } = await issued({ ...spec, kind: "signature", octets: 32 });
  const jwt = `${it.signing_input}.${base64url(await octetsOf(`${it.id} jws signature`, 64))}`;
  const plaintext = put(plaintextOf({ grant, session, mark, signing_input: jwt }), 0, 1);
  return {
    id: it.id,
    about: it.about,
    token,
    entry_key: base64url(await sha256(token)),
    number: it.number,
    nonce: nonce.toString("hex"),
    grant,
    session,
    mark: { ms: mark.ms.toString(), seq: mark.seq.toString() },
    jwt,
    plaintext_length: plaintext.length,
    entry: base64url(await seal({ token, number: it.number, nonce }, { plaintext })),
  };
}

// ---- what is refused ----

async function refusedVectors() {
  const a = await issued({ id: "refused-a", alg: "ES256" });
  const b = await issued({ id: "refused-b", alg: "RS256", octets: 256 });
  const pure = await issued({ id: "refused-pure", alg: "HS512", kind: "signature" });
  const zero = await issued({ id: "refused-zero", number: 0 });
  const [entryA, entryB, entryPure] = [await seal(a), await seal(b), await seal(pure)];
  const resalted = `${a.signature}.${base64url(await octetsOf("refused-a other salt", 16))}`;

  const out = [];
  const add = (error, id, about, token, entry) => out.push({ id, about, token, entry: base64url(entry), error });

  // Not of this version.
  for (const version of [2, 3, 127, 255]) add("wrong_version", `version-${version}`, `version octet ${version}: unknown, so corrupt`, a.token, put(entryA, 0, version));
  const tombstone = await tombstoneOf(TOMBSTONES[0]);
  add("wrong_version", "tombstone-as-entry", "a tombstone is no entry", a.token, tombstone);
  add("wrong_version", "version-0", "version octet 0 before a sealed entry", a.token, put(entryA, 0, 0));
  add("wrong_version", "plain", "a signing input that nobody sealed", a.token, Buffer.from(a.signing_input));

  // Cut short. What still holds version, number, nonce and tag is only found out by the tag.
  for (const length of [0, 1, 2, 13, 14, 29]) add("truncated", `cut-${length}`, `the first ${length} octets`, a.token, entryA.subarray(0, length));
  add("tampered", "cut-30", "the first 30 octets: the shortest that has room for a tag", a.token, entryA.subarray(0, 30));
  add("tampered", "cut-block", "one block of 256 octets short", a.token, entryA.subarray(0, -256));
  add("tampered", "cut-one", "the last octet is missing", a.token, entryA.subarray(0, -1));
  add("tampered", "one-more", "one octet more at the end", a.token, Buffer.concat([entryA, Buffer.from([0])]));

  // Numbers.
  add("unknown_number", "number-not-held", "sealed under number 7, which is not held", a.token, await seal(a, { number: 7 }));
  add("unknown_number", "number-changed-to-not-held", "number changed from 1 to 2", a.token, put(entryA, 1, 2));
  add("unknown_number", "number-0", "sealed without a secret: anyone who has the token could have made it", zero.token, await seal(zero));
  add("unknown_number", "number-changed-to-0", "number changed from 1 to 0", a.token, put(entryA, 1, 0));
  add("tampered", "number-changed-to-held", "number changed from 1 to 255, which is held", a.token, put(entryA, 1, 255));

  // Octets changed on the way.
  for (const [name, at] of [["nonce-first", 2], ["nonce-last", 13], ["ciphertext-first", 14], ["ciphertext-last", -17], ["tag-first", -16], ["tag-last", -1]]) {
    add("tampered", `bit-${name}`, `one bit changed: ${name}`, a.token, flip(entryA, at));
  }
  const [fromA, fromB] = [entryA, entryB].map((entry) => entry.subarray(14));
  add("tampered", "nonce-of-another", "the nonce of another entry", a.token, Buffer.concat([entryB.subarray(0, 14), fromA]));
  add("tampered", "sealed-part-of-another", "the sealed part of another entry", a.token, Buffer.concat([entryA.subarray(0, 14), fromB]));

  // Entries put under another token.
  add("tampered", "swapped-1", "the entry of another token: opening cannot tell this from any other change", a.token, entryB);
  add("tampered", "swapped-2", "the same, the other way round", b.token, entryA);
  add("tampered", "salt-dropped", "the entry of a salted token, opened with the signature alone: an API knows no more", a.signature, entryA);
  add("tampered", "salt-added", "the entry of a signature token, opened with a salt added", `${pure.token}.${a.token.split(".")[1]}`, entryPure);
  add("tampered", "salt-other", "the right signature with another salt", resalted, entryA);

  // Made without the secret, or by a program that derives the key in another way.
  const other = await octetsOf("a secret that nobody else has", 32);
  const secret = await secretOf(1);
  const subkey = await subkeyOf(secret, "entry");
  const info = Buffer.from("symbolon entry v1");
  const text = Buffer.from(a.token);
  const wrongKeys = {
    "secret-other": ["another secret under the same number: someone writes to the store and has the token, not the secret", await keyOf(a.token, 1, other)],
    "secret-none": ["no secret at all, said to be number 1", await keyOf(a.token, 0)],
    "secret-of-255": ["the secret of number 255 under number 1", await keyOf(a.token, 255)],
    "secret-as-salt": ["the secret itself as salt, in place of its subkey", await hkdf(text, secret, info)],
    "subkey-log": ["the subkey of another purpose", await hkdf(text, await subkeyOf(secret, "log"), info)],
    "info-other": ["another info", await hkdf(text, subkey, Buffer.from("symbolon entry v2"))],
    "ikm-octets": ["the decoded signature in place of the token's text", await hkdf(Buffer.from(a.signature, "base64url"), subkey, info)],
    "ikm-signature": ["the signature's text without the salt", await hkdf(Buffer.from(a.signature), subkey, info)],
    "ikm-entry-key": ["the entry key in place of the token", await hkdf(await sha256(a.token), subkey, info)],
    "trap-hmac": ["HMAC keyed by the token", await hmac(text, info)],
    "trap-expand": ["Expand alone, with the token as its key", await hmac(text, Buffer.concat([info, Buffer.from([1])]))],
    "trap-salt": ["the token as salt, the subkey as keying material", await hkdf(subkey, text, info)],
  };
  for (const [id, [about, key]] of Object.entries(wrongKeys)) add("tampered", `key-${id}`, about, a.token, await seal(a, { key }));

  // The right key, other associated data. From here on K is the same, so each has a nonce of its own.
  const keyOfA = await sha256(a.token);
  const wrongData = {
    none: ["none", Buffer.alloc(0)],
    "entry-key-alone": ["the entry key alone", keyOfA],
    "head-alone": ["version and number alone", Buffer.from([1, 1])],
    "entry-key-as-text": ["the entry key in base64url", Buffer.concat([Buffer.from([1, 1]), Buffer.from(base64url(keyOfA))])],
    "entry-key-of-another": ["the entry key of another token", Buffer.concat([Buffer.from([1, 1]), await sha256(b.token)])],
    "entry-key-of-signature": ["the hash of the signature without the salt", Buffer.concat([Buffer.from([1, 1]), await sha256(a.signature)])],
  };
  for (const [id, [about, aad]] of Object.entries(wrongData)) {
    add("tampered", `data-${id}`, `associated data: ${about}`, a.token, await seal(a, { aad, nonce: await octetsOf(`refused ${id} nonce`, 12) }));
  }

  // Sealed as it should be, but not what should be sealed.
  const plain = plaintextOf(a);
  const end = 53 + a.signing_input.length;
  const withLength = (length) => { const copy = Buffer.from(plain); copy.writeUInt32BE(length, 49); return copy; };
  const exact = plaintextOf({ ...a, signing_input: await signingInput("exact", "ES256", 459) });
  const zeros = (n) => Buffer.alloc(n);
  const wrongPlaintexts = [
    ["kind", "kind-1", "kind 1", put(plain, 0, 1)],
    ["kind", "kind-255", "kind 255", put(plain, 0, 255)],
    ["padding", "padding-first", "the first octet of padding is not zero", put(plain, end, 1)],
    ["padding", "padding-last", "the last octet of padding is not zero", put(plain, -1, 128)],
    ["padding", "padding-256-more", "256 octets of padding too many", Buffer.concat([plain, zeros(256)])],
    ["padding", "padding-256-needless", "256 octets of padding where none is needed", Buffer.concat([exact, zeros(256)])],
    ["padding", "padding-none", "no padding where some is needed", plain.subarray(0, end)],
    ["padding", "padding-one-less", "one octet of padding too few", plain.subarray(0, -1)],
    ["padding", "padding-one-more", "one octet of padding too many", Buffer.concat([plain, zeros(1)])],
    ["padding", "plaintext-empty", "nothing is sealed", zeros(0)],
    ["padding", "plaintext-52", "too short for its own length", plain.subarray(0, 52)],
    ["padding", "length-one-less", "a length that is one too small: the last character becomes padding", withLength(a.signing_input.length - 1)],
    ["length", "length-one-more", "a length that goes one octet beyond the plaintext", withLength(plain.length - 53 + 1)],
    ["length", "length-max", "the largest length", withLength(0xffff_ffff)],
    ["length", "length-wraps", "a length that wraps round to 0 where 32 bits are added to 53", withLength(2 ** 32 - 53)],
  ];
  const withText = (signing_input) => plaintextOf({ ...a, signing_input });
  const [header, payload] = a.signing_input.split(".");
  const wrongTexts = [
    ["empty", "nothing", ""],
    ["no-dot", "no dot", header + payload],
    ["dot-alone", "a dot alone", "."],
    ["two-dots", "two dots: a whole JWT was sealed", `${a.signing_input}.${a.signature}`],
    ["empty-header", "an empty header", `.${payload}`],
    ["empty-payload", "an empty payload", `${header}.`],
    ["empty-third", "a dot at the end", `${a.signing_input}.`],
    ["equals", "base64 padding", `${header}.${payload}=`],
    ["crlf", "a header field is smuggled in", `${header}.${payload}\r\nX-User: admin`],
    ["lf-at-end", "a line feed at the end", `${a.signing_input}\n`],
    ["space", "a space at the beginning", ` ${a.signing_input}`],
    ["nul", "an octet 0 at the end, where padding would also be", `${a.signing_input}\0`],
    ["plus", "standard base64: a plus", `${header}.${payload}+`],
    ["slash", "standard base64: a slash", `${header}/.${payload}`],
    ["byte-order-mark", "a byte order mark, which some decoders drop", `\u{feff}${a.signing_input}`],
    ["not-ascii", "a letter outside ASCII", `${header}.${payload}\u{e9}`],
  ];
  for (const [id, about, text] of wrongTexts) wrongPlaintexts.push(["signing_input", `signing-input-${id}`, about, withText(text)]);
  wrongPlaintexts.push(["signing_input", "signing-input-not-utf-8", "an octet that is no UTF-8", put(plain, end - 1, 0xff)]);
  for (const [error, id, about, plaintext] of wrongPlaintexts) {
    add(error, id, about, a.token, await seal(a, { plaintext, nonce: await octetsOf(`refused ${id} nonce`, 12) }));
  }

  // The entry is in order, the token is not.
  const twin = aliasOf(pure.token);
  add("token", "token-not-canonical", "another text for the same signature", twin, entryPure);
  add("token", "token-standard-alphabet", "standard base64", pure.token.slice(0, -2) + "+" + pure.token.slice(-1), entryPure);
  add("token", "token-line-feed", "a line feed at the end", `${pure.token}\n`, entryPure);
  add("token", "token-empty", "no token", "", entryPure);
  add("token", "token-jwt", "the whole JWT", `${pure.signing_input}.${pure.signature}`, entryPure);
  add("token", "token-salt-not-canonical", "another text for the same salt", `${a.signature}.${aliasOf(a.token.split(".")[1])}`, entryA);
  return out;
}

// ---- tombstones ----

const TOMBSTONES = [
  { id: "tombstone-1", about: "a tombstone under number 1", number: 1, expiry: 1_800_003_600n, issuer: "https://as.example", jti: "3f1c8f0e" },
  { id: "tombstone-255", about: "a tombstone under number 255", number: 255, expiry: 1_800_003_600n, issuer: "https://as.example", jti: "3f1c8f0e" },
  { id: "tombstone-without-jti", about: "a JWT without a jti: SHA-256 of its signing input stands for it", number: 1, expiry: 1_800_003_600n, issuer: "https://as.example", signing_input: "e30.e30" },
  { id: "tombstone-expiry-0", about: "the smallest expiry", number: 1, expiry: 0n, issuer: "https://as.example", jti: "a" },
  { id: "tombstone-expiry-max", about: "the largest expiry", number: 1, expiry: U64_MAX, issuer: "https://as.example", jti: "a" },
];

async function tombstoneVector(spec) {
  return {
    ...spec,
    expiry: spec.expiry.toString(),
    identifier: (await jtiIdentifier(spec)).toString("hex"),
    tombstone: base64url(await tombstoneOf(spec)),
  };
}

async function refusedTombstones() {
  const tombstone = await tombstoneOf(TOMBSTONES[0]);
  const entry = await seal(await issued({ id: "refused-a", alg: "ES256" }));
  return [
    ["truncated", "tombstone-empty", "nothing", Buffer.alloc(0)],
    ["truncated", "tombstone-cut", "the last octet is missing", tombstone.subarray(0, -1)],
    ["truncated", "tombstone-first-alone", "the first octet alone", tombstone.subarray(0, 1)],
    ["length", "tombstone-one-more", "one octet more", Buffer.concat([tombstone, Buffer.from([0])])],
    ["wrong_version", "tombstone-version-1", "the first octet says entry", put(tombstone, 0, 1)],
    ["wrong_version", "entry-as-tombstone", "an entry is no tombstone", entry],
    ["unknown_number", "tombstone-number-0", "no program writes number 0", put(tombstone, 1, 0)],
  ].map(([error, id, about, octets]) => ({ id, about, tombstone: base64url(octets), error }));
}

async function tombstoneOf(spec) {
  const head = Buffer.alloc(10);
  head[1] = spec.number;
  head.writeBigUInt64BE(spec.expiry, 2);
  return Buffer.concat([head, await jtiIdentifier(spec)]);
}

/** The identifier of the revocation record that goes with a tombstone. Its type is 2. */
async function jtiIdentifier({ number, issuer, jti, signing_input }) {
  const value = jti === undefined ? await sha256(signing_input) : Buffer.from(jti);
  const named = Buffer.concat([Buffer.from([2]), Buffer.from(issuer), Buffer.from([0]), value]);
  return (await hmac(await subkeyOf(await secretOf(number), "log"), named)).subarray(0, 16);
}

// ---- tokens ----

async function acceptedTokens() {
  const specs = [{ id: "known", kind: "signature", text: KNOWN }];
  for (const kind of KINDS) {
    for (const [name, alg, octets] of SIGNATURES) specs.push({ id: `token-${name}`, kind, alg, octets });
  }
  return Promise.all(specs.map(async (spec) => {
    const { token, kind } = await issued(spec);
    return { text: token, kind, entry_key: base64url(await sha256(token)) };
  }));
}

async function refusedTokens() {
  const signature = async (octets) => base64url(await octetsOf(`refused token ${octets}`, octets));
  const [short, long] = [await signature(32), await signature(64)];
  const rsa = await signature(256);
  const salt = base64url(await octetsOf("refused token salt", 16));
  const list = [
    ["", "empty: the signature of alg none"],
    [".", "a dot alone"],
    [`.${salt}`, "a salt alone"],
    [short.slice(0, -1), "42 characters"],
    [await signature(16), "22 characters: the tag of a JWE"],
    [await signature(31), "31 octets"],
    [await signature(33), "33 octets"],
    [await signature(65), "65 octets"],
    [await signature(114), "114 octets: Ed448 is not among the algorithms"],
    [await signature(132), "132 octets: ES512 is not among the algorithms"],
    [await signature(255), "255 octets"],
    [await signature(257), "257 octets"],
    [await signature(1050), "1400 characters, but a length of none of the algorithms"],
    [await signature(1051), "1402 characters"],
    [`${short.slice(0, -1)}*`, "a character of no alphabet"],
    [`${long.slice(0, 40)}+${long.slice(41)}`, "standard base64: a plus"],
    [`${long.slice(0, 40)}/${long.slice(41)}`, "standard base64: a slash"],
    [`${short}=`, "base64 padding"],
    [`${long}==`, "base64 padding"],
    [`${long}~`, "a character of b64token that base64url lacks"],
    [`${long}%2E${salt}`, "a dot in percent-encoding"],
    [`${long}\n`, "a line feed at the end"],
    [`${long}\r\n`, "a line end"],
    [` ${long}`, "a space at the beginning"],
    [`${long} `, "a space at the end"],
    [`${long}\t`, "a tab at the end"],
    [`${long}\0`, "an octet 0 at the end"],
    [`${long.slice(0, 40)}\u{e9}${long.slice(41)}`, "a letter outside ASCII"],
    [`${long.slice(0, 40)}\u{212a}${long.slice(41)}`, "the sign for kelvin, which some comparisons take for a K"],
    [`\u{feff}${long}`, "a byte order mark"],
    [`"${long}"`, "quotation marks"],
    [`Bearer ${long}`, "the scheme is not the token's"],
    [aliasOf(short), "32 octets with a bit set beyond the last"],
    [aliasOf(long), "64 octets with a bit set beyond the last"],
    [aliasOf(rsa), "256 octets with a bit set beyond the last"],
    [aliasOf(await signature(512)), "512 octets with a bit set beyond the last"],
    [`${long}.`, "a dot and no salt"],
    [`${long}.${salt.slice(0, -1)}`, "a salt of 21 characters"],
    [`${long}.${base64url(await octetsOf("salt 15", 15))}`, "a salt of 15 octets"],
    [`${long}.${base64url(await octetsOf("salt 17", 17))}`, "a salt of 17 octets"],
    [`${long}.${aliasOf(salt)}`, "a salt with a bit set beyond the last octet"],
    [`${long}.${salt.slice(0, 10)}+${salt.slice(11)}`, "a salt in standard base64"],
    [`${long}.${salt}==`, "a salt with base64 padding"],
    [`${long}.${salt}\n`, "a salt and a line feed"],
    [`${long}.${salt}.`, "a second dot"],
    [`${long}..${salt}`, "two dots between signature and salt"],
    [`${long}.${salt}.${salt}`, "two salts"],
    [`${aliasOf(long)}.${salt}`, "the signature of a salted token with a bit set beyond the last octet"],
    [`${await signature(33)}.${salt}`, "the signature of a salted token of 33 octets"],
    [`${salt}.${long}`, "salt and signature the wrong way round"],
    [`${await signingInput("refused token", "ES256")}.${long}`, "a whole JWT"],
  ];
  return list.map(([text, about]) => ({ text, about }));
}

/** Another text that decodes to the same octets, where decoding does not look at the bits beyond the last octet. */
function aliasOf(text) {
  const last = alphabet().indexOf(text.at(-1));
  const alias = text.slice(0, -1) + alphabet()[last + 1];
  if (!Buffer.from(alias, "base64url").equals(Buffer.from(text, "base64url"))) throw new Error(`no other text for ${text}`);
  return alias;
}

// ---- the format ----

async function seal(it, { number = it.number, plaintext = plaintextOf(it), nonce = it.nonce, key, aad } = {}) {
  key ??= await keyOf(it.token, number);
  aad ??= Buffer.concat([Buffer.from([1, number]), await sha256(it.token)]);
  const gcm = await subtle.importKey("raw", key, "AES-GCM", false, ["encrypt"]);
  const sealed = await subtle.encrypt({ name: "AES-GCM", iv: nonce, additionalData: aad, tagLength: 128 }, gcm, plaintext);
  return Buffer.concat([Buffer.from([1, number]), nonce, Buffer.from(sealed)]);
}

function plaintextOf({ grant, session, mark, signing_input }) {
  const text = Buffer.from(signing_input);
  const plaintext = Buffer.alloc(Math.ceil((53 + text.length) / 256) * 256);
  plaintext.write(grant + session, 1, "hex");
  plaintext.writeBigUInt64BE(mark.ms, 33);
  plaintext.writeBigUInt64BE(mark.seq, 41);
  plaintext.writeUInt32BE(text.length, 49);
  text.copy(plaintext, 53);
  return plaintext;
}

/** K. */
async function keyOf(token, number, secret) {
  const salt = number === 0 ? Buffer.alloc(0) : await subkeyOf(secret ?? await secretOf(number), "entry");
  return hkdf(Buffer.from(token), salt, Buffer.from("symbolon entry v1"));
}

async function secretVector(number) {
  const secret = await secretOf(number);
  const subkeys = {};
  for (const label of ["entry", "log", "ledger", "trace", "fallback"]) subkeys[label] = base64url(await subkeyOf(secret, label));
  return { number, secret: base64url(secret), text: `${number}.${base64url(secret)}`, subkeys };
}

function subkeyOf(secret, label) {
  return hkdf(secret, Buffer.from("symbolon"), Buffer.from(label));
}

function secretOf(number) {
  return octetsOf(`secret ${number}`, 32);
}

/** RFC 5869 for one block of output: Extract (§2.2), then Expand (§2.3). */
async function hkdf(ikm, salt, info) {
  const prk = await hmac(salt, ikm);
  return hmac(prk, Buffer.concat([info, Buffer.from([1])]));
}

async function hmac(key, message) {
  // WebCrypto takes no empty key. HMAC fills keys up with zeros, so one zero octet is the same key.
  const imported = await subtle.importKey("raw", key.length === 0 ? Buffer.alloc(1) : key, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return Buffer.from(await subtle.sign("HMAC", imported, message));
}

async function sha256(text) {
  return Buffer.from(await subtle.digest("SHA-256", Buffer.from(text)));
}

/** Octets from a name, always the same. */
async function octetsOf(name, length) {
  const blocks = [];
  for (let counter = 0; counter * 32 < length; counter += 1) blocks.push(await sha256(`symbolon vectors: ${name} ${counter}`));
  return Buffer.concat(blocks).subarray(0, length);
}

function base64url(octets) {
  return Buffer.from(octets).toString("base64url");
}

function put(octets, at, value) {
  const copy = Buffer.from(octets);
  copy[at < 0 ? copy.length + at : at] = value;
  return copy;
}

function flip(octets, at) {
  return put(octets, at, octets.at(at) ^ 1);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(FILE, await vectorsAsText());
