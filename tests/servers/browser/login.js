// A user at a browser, Chromium: opens a page, fills in what is asked and allows what is asked for.
//
// Reads a line of JSON for each page, {"url", "user", "password"}, and writes one for where that ends: the redirect
// URI, whose path is /callback, with what came for the client; or else the page where nothing is asked any more. Nobody
// has to listen at the redirect URI. Each page is opened in a browser that knows of no other. It ends when its input
// does.

import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const PATIENCE = 60_000;
const MOST_PAGES = 10;
const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", // nothing is fetched from elsewhere
];

async function main() {
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ARGUMENTS });
  try {
    for await (const line of createInterface({ input: process.stdin })) {
      const context = await browser.newContext();
      context.setDefaultTimeout(PATIENCE);
      const page = await context.newPage();
      const answer = await end(page, JSON.parse(line)).catch((error) => ({ failed: error.message }));
      await context.close();
      console.log(JSON.stringify(answer));
    }
  } finally {
    await browser.close();
  }
}

async function end(page, { url, user, password }) {
  let atClient;
  const back = new Promise((arrive) => {
    page.on("request", (request) => {
      if (request.isNavigationRequest() && new URL(request.url()).pathname === "/callback") {
        atClient = request.url();
        arrive();
      }
    });
  });
  // It comes back, or shows the next page; that it could not load the client's own does not matter.
  const moves = (act) => Promise.race([back, Promise.all([page.waitForEvent("load"), act()])]);

  await Promise.race([back, page.goto(url).catch(() => back)]);
  for (let pages = 0; pages < MOST_PAGES; pages += 1) {
    if (atClient) {
      return atClient;
    }
    if ((await page.locator("form").count()) === 0) {
      return page.url();
    }
    const [name, secret] = [page.locator('[name="username"]'), page.locator('[type="password"]')];
    if (await secret.isVisible()) {
      await name.fill(user);
      await secret.fill(password);
    }
    const button = page.locator('[name="accept"], [type="submit"]').locator("visible=true").first();
    await moves(async () => {
      // A page may send its form by itself.
      if (await button.isVisible()) {
        await button.click();
      }
    });
  }
  throw new Error(`asked for more and more: ${page.url()}`);
}

await main();
