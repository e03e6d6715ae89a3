// Opens the entries of a Symbolon store with WebCrypto alone, so it runs wherever that is.
// The format is docs/entry-format.md. What comes out is not verified: check the glued JWT in full before it is used.

const subtle = globalThis.crypto.subtle;

/** Why a token, an entry or a tombstone was refused. `code` is one of those in docs/entry-format.md. */
export class FormatError extends Error {
  constructor(code) {
    super(`refused by the format: ${code}`);
    this.name = "FormatError";
    this.code = code;
  }
}

/** The entry key of an opaque token, in base64url: what to look up. */
export async function entryKey(token) {
  parse(token);
  return btoa(String.fromCharCode(...await sha256(token))).replaceAll("+", "-").replaceAll("/", "_").replace("=", "");
}

/**
 * Opens an entry (a Uint8Array) with its opaque token. `secrets` maps a number, 1 to 255, to a deployment secret of 32 octets.
 * Gives `signingInput`, `grant` and `session` (16 octets each) and `mark` (two BigInts, `ms` and `seq`).
 * `vectors: true` opens number 0 as well, which no deployment may do: such an entry is sealed without a secret.
 */
export async function open(token, entry, secrets, { vectors = false } = {}) {
  parse(token);
  octets(entry);
  if (entry.length > 65_536) throw new FormatError("too_long");
  if (entry.length > 0 && entry[0] !== 1) throw new FormatError("wrong_version");
  if (entry.length < HEAD + TAG) throw new FormatError("truncated");
  const number = entry[1];
  if (number === 0 ? vectors !== true : secrets.get(number)?.length !== 32) throw new FormatError("unknown_number");

  const salt = number === 0 ? new Uint8Array() : await hkdf(secrets.get(number), ascii("symbolon"), "entry");
  const key = await subtle.importKey("raw", await hkdf(ascii(token), salt, "symbolon entry v1"), "AES-GCM", false, ["decrypt"]);
  const gcm = { name: "AES-GCM", iv: entry.subarray(2, HEAD), additionalData: new Uint8Array([1, number, ...await sha256(token)]) };
  const plaintext = await subtle.decrypt(gcm, key, entry.subarray(HEAD)).catch(() => { throw new FormatError("tampered"); });
  return parsePlaintext(new Uint8Array(plaintext), new DataView(plaintext));
}

/** The JWT: the signing input with the token's signature. The salt of a salted token is dropped. */
export function glue(token, signingInput) {
  const { signature } = parse(token);
  if (typeof signingInput !== "string" || !SIGNING_INPUT.test(signingInput)) throw new FormatError("signing_input");
  return `${signingInput}.${signature}`;
}

/** What a tombstone says: the `number` of the secret, the `expiry` of the token (a BigInt) and its `jti` record's identifier. */
export function readTombstone(bytes) {
  octets(bytes);
  if (bytes.length > 0 && bytes[0] !== 0) throw new FormatError("wrong_version");
  if (bytes.length !== TOMBSTONE) throw new FormatError(bytes.length < TOMBSTONE ? "truncated" : "length");
  if (bytes[1] === 0) throw new FormatError("unknown_number");
  return { number: bytes[1], expiry: new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(2), jti: Uint8Array.from(bytes.subarray(10)) };
}

/** One text for one signature: the alphabet, a length that an algorithm gives, and no bit set beyond the last octet. */
function parse(token) {
  const [, signature, salt] = typeof token === "string" && TOKEN.exec(token) || [];
  if (!SIGNATURE_LENGTHS.has(signature?.length) || !LAST_CHARACTER[signature.length % 4].test(signature)) throw new FormatError("token");
  return { signature, salt };
}

function parsePlaintext(bytes, view) {
  if (bytes.length === 0 || bytes.length % BLOCK !== 0) throw new FormatError("padding");
  if (bytes[0] !== 0) throw new FormatError("kind");
  const end = BEFORE_SIGNING_INPUT + view.getUint32(49); // no overflow: a sum of doubles
  if (end > bytes.length) throw new FormatError("length");
  if (bytes.length - end >= BLOCK || bytes.subarray(end).some((octet) => octet !== 0)) throw new FormatError("padding");
  // Without `ignoreBOM` a decoder drops a leading byte order mark, and another text than the sealed one would come out.
  const signingInput = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(BEFORE_SIGNING_INPUT, end));
  if (!SIGNING_INPUT.test(signingInput)) throw new FormatError("signing_input");
  const mark = { ms: view.getBigUint64(33), seq: view.getBigUint64(41) };
  return { signingInput, grant: bytes.slice(1, 17), session: bytes.slice(17, 33), mark };
}

/** A caller's mistake, such as an entry still in base64, is not a corrupt entry. */
function octets(bytes) {
  if (!(bytes instanceof Uint8Array)) throw new TypeError("expected a Uint8Array");
}

function ascii(text) {
  return new TextEncoder().encode(text);
}

async function sha256(text) {
  return new Uint8Array(await subtle.digest("SHA-256", ascii(text)));
}

/** Extract, then Expand. The secret text is always `ikm`, never the salt: see "Why the token is keying material". */
async function hkdf(ikm, salt, info) {
  const key = await subtle.importKey("raw", ikm, "HKDF", false, ["deriveBits"]);
  return new Uint8Array(await subtle.deriveBits({ name: "HKDF", hash: "SHA-256", salt, info: ascii(info) }, key, 256));
}

const HEAD = 14; // version, number, nonce
const TAG = 16;
const TOMBSTONE = 26;
const BLOCK = 256;
const BEFORE_SIGNING_INPUT = 53; // kind, grant, session, mark, length

const TOKEN = /^([A-Za-z0-9_-]{43,1400})(?:\.([A-Za-z0-9_-]{21}[AQgw]))?$/;
const SIGNING_INPUT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
/** Signatures of 32, 48, 64, 96, 256, 384, 512, 768 and 1024 octets. */
const SIGNATURE_LENGTHS = new Set([43, 64, 86, 128, 342, 512, 683, 1024, 1366]);
/** By the length modulo 4: the characters that leave no bit over. */
const LAST_CHARACTER = { 0: /.$/, 2: /[AQgw]$/, 3: /[AEIMQUYcgkosw048]$/ };
