import assert from "node:assert/strict";
import { createCipheriv, createHash, createHmac, hkdfSync, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";

import { FILE, vectorsAsText } from "./make-vectors.js";
import { entryKey, FormatError, glue, open, readTombstone } from "./reader.js";

const text = readFileSync(FILE, "utf8");
const vectors = JSON.parse(text);
const document = readFileSync(new URL("../../docs/entry-format.md", import.meta.url), "utf8");
const secrets = new Map(vectors.secrets.map(({ number, secret }) => [number, octets(secret)]));

describe("an entry opens with its token", () => {
  for (const it of vectors.cases) {
    test(`${it.id}: ${it.about}`, async () => {
      const opened = await open(it.token, octets(it.entry), secrets, { vectors: it.number === 0 });
      assert.equal(await entryKey(it.token), it.entry_key);
      assert.equal(opened.signingInput, it.signing_input);
      assert.equal(hex(opened.grant), it.grant);
      assert.equal(hex(opened.session), it.session);
      assert.deepEqual(opened.mark, { ms: BigInt(it.mark.ms), seq: BigInt(it.mark.seq) });
      assert.equal(glue(it.token, opened.signingInput), it.jwt);
    });
  }
});

describe("an entry is refused, and why", () => {
  for (const it of vectors.refused) {
    test(`${it.id}: ${it.about}`, async () => {
      await assert.rejects(open(it.token, octets(it.entry), secrets), refusal(it.error));
    });
  }

  for (const it of vectors.whole) {
    test(`${it.id}: ${it.about}, which is for a token service`, async () => {
      assert.equal(await entryKey(it.token), it.entry_key);
      await assert.rejects(open(it.token, octets(it.entry), secrets), refusal("kind"));
    });
  }

  test("number 0 stays closed unless vectors are meant", async () => {
    const zero = vectors.cases.filter(({ number }) => number === 0);
    assert.equal(zero.length, 2);
    for (const it of zero) {
      // Nor does it help to hold something under number 0, or to ask for vectors by half.
      for (const held of [secrets, new Map([...secrets, [0, new Uint8Array(32)]])]) {
        for (const options of [undefined, {}, { vectors: false }, { vectors: 1 }, { vectors: "true" }]) {
          await assert.rejects(open(it.token, octets(it.entry), held, options), refusal("unknown_number"));
        }
      }
    }
  });

  test("a secret that is not 32 octets is not held", async () => {
    const { token, entry } = vectors.cases.find(({ number }) => number === 255);
    for (const secret of [new Uint8Array(), new Uint8Array(31), new Uint8Array(33), "x"]) {
      await assert.rejects(open(token, octets(entry), new Map([[255, secret]])), refusal("unknown_number"));
    }
  });

  test("every prefix of an entry", async () => {
    const { token, entry } = vectors.cases.find(({ id }) => id === "known");
    const whole = octets(entry);
    for (let length = 0; length < whole.length; length += 1) {
      await assert.rejects(open(token, whole.subarray(0, length), secrets), refusal(length < 30 ? "truncated" : "tampered"));
    }
  });

  test("every octet of an entry, each bit changed", async () => {
    const { token, entry } = vectors.cases.find(({ id }) => id === "known");
    for (let at = 0; at < octets(entry).length; at += 1) {
      for (let bit = 0; bit < 8; bit += 1) {
        const changed = octets(entry);
        changed[at] ^= 1 << bit;
        const code = at === 0 ? "wrong_version" : at === 1 && !secrets.has(changed[1]) ? "unknown_number" : "tampered";
        await assert.rejects(open(token, changed, secrets), refusal(code));
      }
    }
  });

  test("more than 64 KiB, however well it is sealed", async () => {
    const { token, key } = vectors.cases.find(({ id }) => id === "salted-es256");
    const longest = sealed(token, key, `e30.${"A".repeat(255 * 256 - 53 - 4)}`);
    assert.equal(longest.length, 65_310);
    assert.equal((await open(token, longest, secrets)).signingInput.length, 65_227);
    const tooLong = sealed(token, key, `e30.${"A".repeat(255 * 256 - 53 - 3)}`);
    await assert.rejects(open(token, tooLong, secrets), refusal("too_long"));
    await assert.rejects(open(token, new Uint8Array(65_536).fill(1), secrets), refusal("tampered"));
    await assert.rejects(open(token, new Uint8Array(65_537).fill(1), secrets), refusal("too_long"));
  });

  test("an entry that is no octets is a mistake of the caller", async () => {
    const { token, entry } = vectors.cases[0];
    for (const wrong of [entry, undefined, null, 300, [...octets(entry)], octets(entry).buffer]) {
      await assert.rejects(open(token, wrong, secrets), TypeError);
    }
  });
});

describe("a token", () => {
  test("is accepted in the lengths that algorithms give, salted or not", async () => {
    for (const { text, kind, entry_key } of vectors.tokens.accepted) {
      assert.equal(await entryKey(text), entry_key);
      assert.equal(glue(text, "e30.e30"), `e30.e30.${text.split(".")[0]}`);
      assert.equal(text.includes("."), kind === "salted");
    }
  });

  test("is refused in any other spelling", async () => {
    for (const { text, about } of vectors.tokens.refused) {
      await assert.rejects(entryKey(text), refusal("token"), about);
      await assert.rejects(open(text, octets(vectors.cases[0].entry), secrets), refusal("token"), about);
      assert.throws(() => glue(text, "e30.e30"), refusal("token"), about);
    }
    for (const { text } of vectors.tokens.accepted) {
      for (const wrong of [[text], new String(text), octets(text), undefined, null, 43]) await assert.rejects(entryKey(wrong), refusal("token"));
    }
  });

  test("has one text for one signature", async () => {
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (const { text } of vectors.tokens.accepted) {
      const [signature, salt] = text.split(".");
      const lasts = [...alphabet].map((last) => [signature.slice(0, -1) + last, salt]);
      if (salt !== undefined) lasts.push(...[...alphabet].map((last) => [signature, salt.slice(0, -1) + last]));
      for (const parts of lasts) {
        const spelt = parts.filter((part) => part !== undefined);
        const canonical = spelt.every((part) => octets(part).toString("base64url") === part);
        const accepted = await entryKey(spelt.join(".")).then(() => true, () => false);
        assert.equal(accepted, canonical, spelt.join("."));
      }
    }
  });

  test("is glued to a signing input alone", () => {
    const { token } = vectors.cases[0];
    for (const wrong of ["", ".", "e30", "e30.", ".e30", "e30.e30.", "e30.e30.e30", "e30.e30=", "e30.e30\n", "e30.e3\u{f6}", undefined, ["e30.e30"]]) {
      assert.throws(() => glue(token, wrong), refusal("signing_input"));
    }
  });
});

describe("a tombstone", () => {
  for (const it of vectors.tombstones) {
    test(`is read: ${it.about}`, () => {
      const tombstone = octets(it.tombstone);
      assert.equal(tombstone.length, 26);
      const { number, expiry, jti } = readTombstone(tombstone);
      assert.deepEqual({ number, expiry: expiry.toString(), identifier: hex(jti) }, { number: it.number, expiry: it.expiry, identifier: it.identifier });
    });

    test(`names the jti: ${it.about}`, () => {
      const value = it.jti ?? sha256(it.signing_input);
      const identifier = createHmac("sha256", subkey(it.number, "log")).update("\x02").update(it.issuer).update("\0").update(value).digest();
      assert.equal(hex(identifier.subarray(0, 16)), it.identifier);
    });
  }

  for (const it of vectors.tombstones_refused) {
    test(`is refused: ${it.about}`, () => assert.throws(() => readTombstone(octets(it.tombstone)), refusal(it.error)));
  }

  test("that is no octets is a mistake of the caller", () => {
    for (const wrong of [vectors.tombstones[0].tombstone, undefined, 26]) assert.throws(() => readTombstone(wrong), TypeError);
  });
});

// What the store knows of a token is L = SHA-256(T), and L is public besides: a DPoP proof carries it as `ath`. So K may not follow
// from L. Three derivations look right and break that, because HMAC first replaces a key of more than 64 octets by its hash:
// HMAC(T, m) = HMAC(SHA-256(T), m) = HMAC(L, m). All but the shortest signature texts are longer. Expand is HMAC keyed by its PRK, and
// Extract is HMAC keyed by its *salt*, so T falls into the same place there. Of the three, the first two need nothing but L; the third
// also takes the subkey, and whoever has that, such as a gateway, would open every entry of the store without a single token.
// In the right derivation T is the *message* of Extract: no shorter thing stands for it, and no tag opens without T itself.
describe("no key follows from the entry key: the wrong derivations", () => {
  const info = Buffer.from("symbolon entry v1");
  const wrong = {
    "HMAC keyed by the token": (t) => createHmac("sha256", t).update(info).digest(),
    "Expand with the token as PRK": (t) => createHmac("sha256", t).update(info).update("\x01").digest(),
    "the token as the salt of HKDF, the subkey as keying material": (t, subkey) => hkdf(subkey, t, info),
  };

  for (const [name, derive] of Object.entries(wrong)) {
    test(`${name}: follows from L where T has more than 64 octets, and is never K`, async () => {
      for (const it of vectors.cases) {
        const salt = it.number === 0 ? Buffer.alloc(0) : subkey(it.number, "entry");
        const [t, l] = [Buffer.from(it.token), sha256(it.token)];
        const key = derive(t, salt);
        assert.equal(key.equals(derive(l, salt)), t.length > 64, it.id);
        assert.notEqual(hex(key), it.key, it.id);
        assert.notEqual(hex(derive(l, salt)), it.key, it.id);
        const entry = octets(it.entry);
        for (const k of [key, derive(l, salt)]) assert.equal(await opens(entry, k, l), false, it.id);
        assert.equal(await opens(entry, Buffer.from(it.key, "hex"), l), true, it.id);
      }
    });
  }

  test("the right one: L in the place of T gives another key", () => {
    for (const it of vectors.cases) {
      const salt = it.number === 0 ? Buffer.alloc(0) : subkey(it.number, "entry");
      assert.equal(hex(hkdf(Buffer.from(it.token), salt, info)), it.key, it.id);
      assert.notEqual(hex(hkdf(sha256(it.token), salt, info)), it.key, it.id);
    }
  });
});

describe("the vectors", () => {
  test("are what make-vectors.js makes", async () => {
    assert.ok(await vectorsAsText() === text, "run `npm run vectors` and look at the difference");
  });

  test("have subkeys as HKDF makes them", () => {
    for (const { number, secret, text, subkeys } of vectors.secrets) {
      assert.equal(text, `${number}.${secret}`);
      assert.deepEqual(Object.keys(subkeys), ["entry", "log", "ledger", "trace", "fallback"]);
      for (const [label, value] of Object.entries(subkeys)) assert.equal(subkey(number, label).toString("base64url"), value);
    }
  });

  test("are each laid out as they say", () => {
    for (const it of vectors.cases) {
      const entry = octets(it.entry);
      assert.equal(hex(entry.subarray(0, 14)), `01${hex([it.number])}${it.nonce}`);
      assert.equal(entry.length, 30 + it.plaintext_length);
      assert.equal(it.plaintext_length, Math.ceil((53 + it.signing_input.length) / 256) * 256);
    }
  });

  test("use no name twice and no nonce twice under one key", () => {
    const all = [...vectors.cases, ...vectors.refused, ...vectors.tombstones, ...vectors.tombstones_refused];
    assert.equal(new Set(all.map(({ id }) => id)).size, all.length);
    const uses = vectors.cases.map(({ key, nonce }) => `${key} ${nonce}`);
    assert.equal(new Set(uses).size, uses.length);
    const [first, second] = ["reissued-1", "reissued-2"].map((id) => vectors.cases.find((it) => it.id === id));
    assert.equal(first.key, second.key);
    assert.notEqual(first.nonce, second.nonce);
  });
});

describe("the reader", () => {
  test("takes nothing from Node", () => {
    const source = readFileSync(new URL("reader.js", import.meta.url), "utf8");
    assert.doesNotMatch(source, /\bimport\b|\brequire\b|\bBuffer\b|\bprocess\b|node:/);
  });

  test("gives every code of the document, and no other", () => {
    const source = readFileSync(new URL("reader.js", import.meta.url), "utf8");
    const thrown = new Set([...source.matchAll(/FormatError\((.*?)\)/g)].flatMap(([, codes]) => [...codes.matchAll(/"(\w+)"/g)].map(([, code]) => code)));
    const described = new Set([...document.matchAll(/^\d+\. `(\w+)`/gm)].map(([, code]) => code));
    assert.deepEqual(thrown, described);
  });
});

test("the worked example of the document is the vector", () => {
  const it = vectors.cases.find(({ id }) => id === "known");
  const example = document.slice(document.indexOf("## A worked example")).replaceAll(/\s/g, "");
  const entry = octets(it.entry);
  const plaintext = hex(laidOut(it.grant, it.session, it.mark, it.signing_input));
  const end = 2 * (53 + it.signing_input.length);
  const expected = {
    token: it.token,
    "entry key": hex(sha256(it.token)),
    "entry key as text": it.entry_key,
    secret: vectors.secrets.find(({ number }) => number === it.number).text,
    subkey: hex(subkey(it.number, "entry")),
    key: it.key,
    nonce: it.nonce,
    data: `associateddata0101${hex(sha256(it.token))}`,
    plaintext: `kind00grant${it.grant}session${it.session}mark${plaintext.slice(66, 98)}length${plaintext.slice(98, 106)}signinginput${plaintext.slice(106, end)}padding${plaintext.slice(end)}`,
    ciphertext: hex(entry.subarray(14, -16)),
    tag: hex(entry.subarray(-16)),
    "signing input": it.signing_input,
    jwt: it.jwt,
  };
  for (const [name, value] of Object.entries(expected)) assert.ok(example.includes(value), name);
});

function refusal(code) {
  return (error) => {
    assert.ok(error instanceof FormatError, `${error}`);
    assert.equal(error.code, code);
    return true;
  };
}

function octets(text) {
  return Buffer.from(text, "base64url");
}

function hex(octets) {
  return Buffer.from(octets).toString("hex");
}

// The rest is Node's own cryptography: a third way to the same octets, beside reader.js and make-vectors.js.

function sha256(text) {
  return createHash("sha256").update(text).digest();
}

function hkdf(ikm, salt, info) {
  return Buffer.from(hkdfSync("sha256", ikm, salt, info, 32));
}

function subkey(number, label) {
  return hkdf(secrets.get(number), "symbolon", label);
}

async function opens(entry, key, l) {
  const imported = await crypto.subtle.importKey("raw", key, "AES-GCM", false, ["decrypt"]);
  const additionalData = Buffer.concat([entry.subarray(0, 2), l]);
  return crypto.subtle.decrypt({ name: "AES-GCM", iv: entry.subarray(2, 14), additionalData }, imported, entry.subarray(14)).then(() => true, () => false);
}

function laidOut(grant, session, mark, signingInput) {
  const fixed = Buffer.concat([Buffer.from(`00${grant}${session}`, "hex"), Buffer.alloc(20)]);
  fixed.writeBigUInt64BE(BigInt(mark.ms), 33);
  fixed.writeBigUInt64BE(BigInt(mark.seq), 41);
  fixed.writeUInt32BE(signingInput.length, 49);
  const plaintext = Buffer.concat([fixed, Buffer.from(signingInput)]);
  return Buffer.concat([plaintext, Buffer.alloc((256 - plaintext.length % 256) % 256)]);
}

/** An entry under number 1, for what is too long to stand in a file. */
function sealed(token, key, signingInput) {
  const nonce = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", Buffer.from(key, "hex"), nonce).setAAD(Buffer.concat([Buffer.from([1, 1]), sha256(token)]));
  const none = "00".repeat(16);
  const body = Buffer.concat([cipher.update(laidOut(none, none, { ms: 0, seq: 0 }, signingInput)), cipher.final()]);
  return Buffer.concat([Buffer.from([1, 1]), nonce, body, cipher.getAuthTag()]);
}
