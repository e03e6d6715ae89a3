// A user at a browser, Chromium: opens a page, fills in what is asked and allows what is asked for.
//
//   node login.js URL USER PASSWORD
//
// Prints where that ends: the redirect URI, whose path is /callback, with what came for the client; or else the page
// where nothing is asked any more. Nobody has to listen at the redirect URI.

import { chromium } from "playwright-core";

const [url, user, password] = process.argv.slice(2);

const PATIENCE = 30_000;
const MOST_PAGES = 10;
const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", // nothing is fetched from elsewhere
];

async function main() {
  setTimeout(() => process.exit(1), 2 * PATIENCE).unref();
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ARGUMENTS });
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(PATIENCE);
    console.log(await end(page));
  } finally {
    await browser.close();
  }
}

async function end(page) {
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
